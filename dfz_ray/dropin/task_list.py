"""The tasks of one task manager: by id, by state, and in the order in which they ended."""

from __future__ import annotations

import itertools
import uuid
from collections import Counter
from collections.abc import Container, Iterable
from concurrent.futures import Future
from typing import Any

from dfz_ray.driver.condition import Condition
from dfz_ray.dropin.records import Answer, in_numbers
from dfz_ray.dropin.submitted_task import SubmittedTask
from dfz_ray.execution.failure import clean
from dfz_ray.journal.metrics import compute_metrics
from dfz_ray.specs.states import STATES


def name_of(task: Any) -> str:
    """The id of a task as a script gives it; a task without one gets an id."""
    given = task.get("id") if hasattr(task, "get") else None
    return f"task-{uuid.uuid4().hex[:12]}" if given is None or given == "" else str(given)


def unique(name: str, taken: Container[str]) -> str:
    """The name, or `name#n` if it is taken."""
    number, candidate = 2, name
    while candidate in taken:
        candidate, number = f"{name}#{number}", number + 1
    return candidate


def measure_tasks(tasks: Iterable[SubmittedTask], slots: int | None) -> Answer:
    """The metrics of tasks, with the keys that scripts read; without slots there is no utilization."""
    tasks = list(tasks)
    found = Counter(task.status for task in tasks)
    outcomes = [task.outcome for task in tasks]
    spans = [(one.began, one.ended) for one in outcomes if one is not None and one.has_run]
    metrics = in_numbers(compute_metrics(spans, {state: found[state] for state in STATES}, slots))
    if slots is None:
        del metrics["utilization"]
    return metrics


class TaskList:
    """All tasks of a manager."""

    def __init__(self) -> None:
        self._changed = Condition()
        self._stored: set[str] = set()
        self._repeats: Counter[str] = Counter()
        self._by_id: dict[str, SubmittedTask] = {}
        """The latest task of each id, and every task by the id under which it is stored."""
        self._all: list[SubmittedTask] = []
        self._ended: dict[SubmittedTask, None] = {}
        """In the order of their ends; after an interruption an end may be told twice."""
        self._first_open = 0
        """The tasks before this position have ended."""

    def make(
        self, kind: type[SubmittedTask], label: str, content: Any, made: list[SubmittedTask] | None = None
    ) -> SubmittedTask:
        """Add a new task, to `made` as well, where a caller who is interrupted finds it.

        It is stored under an id that no other task of the manager has: `label`, or `label#n`.
        """
        task = None
        try:
            with self._changed:
                stored = name = clean(label)
                while stored in self._stored:
                    self._repeats[name] += 1
                    stored = f"{name}#{self._repeats[name] + 1}"
                self._stored.add(stored)
                task = kind(label, stored, content, self.on_end)
                self._all.append(task)
                self._by_id[label] = task
                self._by_id.setdefault(stored, task)
            task.future.add_done_callback(self._on_done)
            if made is not None:
                made.append(task)
            return task
        except BaseException:  # an interruption, such as Ctrl-C: nobody gets the task, so nobody would end it
            if task is not None:
                self._remove(task)
                if made is not None and task in made:
                    made.remove(task)
            raise

    def _remove(self, task: SubmittedTask) -> None:
        with self._changed:
            if task in self._all:
                self._all.remove(task)
            for name in {task.label, task.stored_id}:
                earlier = [one for one in self._all if name in (one.label, one.stored_id)]
                if earlier:
                    self._by_id[name] = earlier[-1]
                else:
                    self._by_id.pop(name, None)
            self._changed.notify_all()

    def on_end(self, task: SubmittedTask) -> None:
        """A task has ended."""
        with self._changed:
            self._ended[task] = None
            self._changed.notify_all()

    def _on_done(self, _: Future[Any]) -> None:
        with self._changed:
            self._changed.notify_all()

    def find(self, task_id: str) -> SubmittedTask | None:
        """The latest task of that id."""
        with self._changed:
            return self._by_id.get(str(task_id))

    def status(self, task_id: str) -> Answer:
        """The record of a task; a task that is not known has the status `unknown`."""
        task = self.find(task_id)
        return {"task_id": str(task_id), "status": "unknown"} if task is None else task.record()

    def ended_since(self, position: int) -> tuple[dict[str, Answer], int]:
        """The records of tasks that ended since a position in the order of ends, and the next position.

        A task whose batch has returned its record is left out if a later task has its id.
        """
        with self._changed:
            ended = itertools.islice(self._ended, position, None)
            tasks = [one for one in ended if not one.was_returned or self._by_id[one.label] is one]
            return _by_label(tasks), len(self._ended)

    def wait_all(self, timeout: float | None) -> dict[str, Answer]:
        """Wait until all tasks have ended, or until the timeout; returns the records of those that have."""
        with self._changed:
            self._changed.wait_for(self._have_all_ended, timeout)
            return _by_label(task for task in self._all if task.outcome is not None)

    def _have_all_ended(self) -> bool:
        """True if every task has ended; those that have are asked once, for there may be many."""
        while self._first_open < len(self._all) and self._all[self._first_open].has_ended:
            self._first_open += 1
        return self._first_open == len(self._all)

    def cancel_pending(self) -> None:
        """Cancel the tasks that no worker has begun."""
        with self._changed:
            tasks = [task for task in self._all if task.status == "pending"]
        for task in tasks:
            task.future.cancel()

    def metrics(self, slots: int | None) -> Answer:
        """The metrics of all tasks."""
        with self._changed:
            tasks = list(self._all)
        return measure_tasks(tasks, slots)


def _by_label(tasks: Iterable[SubmittedTask]) -> dict[str, Answer]:
    records: dict[str, Answer] = {}
    for task in tasks:
        key = task.label if task.label not in records else unique(task.stored_id, records)
        records[key] = task.record()
    return records
