"""The run behind a task manager, and its open tasks.

A task manager has one endless run. Tasks and functions share it, so `max_workers` caps both.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from dfz_ray.dropin.submitted_task import SubmittedTask
from dfz_ray.errors import InfrastructureLost
from dfz_ray.executor.open_tasks import OpenTasks
from dfz_ray.specs.run_config import RunConfig
from dfz_ray.specs.task import Task


class TaskRun(OpenTasks[SubmittedTask]):
    """The temporary run of a task manager, and its open tasks.

    Its folder is removed in the end, even if tasks have failed: users of the old module know of no folder.
    """

    def __init__(self, config: RunConfig) -> None:
        super().__init__("tasks", config)
        self.is_over = False
        """True once the run takes no more tasks."""
        self._has_sent = False
        self._session.start()

    def send(self, tasks: Collection[SubmittedTask]) -> None:
        """Send tasks: at once, or, while others are on their way, together with those that come meanwhile.

        Raises:
            InfrastructureLost: the run is over, or its Ray was shut down in this process. Those that are not wanted any
                more were not sent; the run ends the others.
        """
        if self._has_sent and not _is_connected():
            self.is_over = True
            self._session.close()
        if self.is_over:
            for task in tasks:
                task.is_wanted = False
            raise self.lost()
        try:
            super().send(tasks)
        except InfrastructureLost:
            self.is_over = True
            raise

    def lost(self) -> Exception:
        """The error for tasks that the run does not finish any more."""
        error = InfrastructureLost(str(self._session.failure or "the run was closed before the task had ended"))
        error.__cause__ = self._session.failure
        return error

    def on_end(self, failure: BaseException | None) -> None:
        """The run is closed: its open tasks have failed."""
        self.is_over = True
        super().on_end(failure)

    def _make_tasks(self, waiting: Sequence[SubmittedTask]) -> tuple[Sequence[Task], Mapping[str, bytes]]:
        self._has_sent = self._has_sent or bool(waiting)
        tasks, shared = [], {}
        for pending in waiting:
            assert pending.sending is not None  # noqa: S101 - it was not sent before
            checked, files = pending.sending
            pending.sending = None
            tasks.append(checked)
            shared[id(files)] = files  # tasks that came together share one mapping
        return tasks, {name: content for files in shared.values() for name, content in files.items()}


def _is_connected() -> bool:
    from dfz_ray.driver.connection import is_connected

    return is_connected()
