"""Tasks that were submitted together."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import Future
from typing import Any

from dfz_ray.dropin.records import Answer
from dfz_ray.dropin.submitted_task import SubmittedTask
from dfz_ray.dropin.task_list import measure_tasks


class SubmittedBatch:
    """Tasks that were submitted together; their labels are unique. `slots` is None if their number changes."""

    def __init__(self, tasks: Sequence[SubmittedTask], slots: int | None) -> None:
        self.tasks = tasks
        self.done: Future[None] = Future()
        """Done when all tasks have ended."""
        self._slots = slots
        self._left = len(tasks)
        self._turn = threading.Lock()
        if not tasks:
            self.done.set_result(None)
        for task in tasks:
            task.future.add_done_callback(self._count)

    def answer(self, with_results: bool) -> Answer:
        """The futures and the metrics of the tasks; for a caller that has waited also the records of ended tasks."""
        found: Answer = {"futures": {task.label: task.future for task in self.tasks}}
        if with_results:
            ended = [task for task in self.tasks if task.future.done()]
            for task in ended:
                task.was_returned = True
            found["results"] = {task.label: task.record() for task in ended}
        return {**found, "metrics": measure_tasks(self.tasks, self._slots)}

    def _count(self, _: Future[Any]) -> None:
        with self._turn:
            self._left -= 1
            if self._left:
                return
        self.done.set_result(None)
