"""The run behind a task manager: what waits to be sent, and what was sent, until its end is heard."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from dfz_ray.driver.run_session import RunSession
from dfz_ray.dropin.submitted_task import SubmittedTask, TaskFailure
from dfz_ray.errors import InfrastructureLost, JournalDamaged
from dfz_ray.executor.function_domain import FUNCTION_DOMAIN
from dfz_ray.journal.folder import RunFolder
from dfz_ray.journal.record import read_result
from dfz_ray.specs.batch import Batch
from dfz_ray.specs.settings import MaxWorkers, Settings
from dfz_ray.specs.task import Task

if TYPE_CHECKING:
    from dfz_ray.protocol.columns import Completions
    from dfz_ray.protocol.task_events import TaskEvents


class Sending(NamedTuple):
    """A task that is to be sent."""

    task: SubmittedTask
    checked: Task
    files: Mapping[str, bytes]
    """What its parameters name, by SHA-256."""


class TaskRun:
    """The temporary run of a task manager. It outlives the manager until its tasks have ended.

    Its folder is removed in the end, whatever came of the tasks: users of the old module know of none.

    Args:
        settings: how tasks are handed out and written down.
        slots: how many tasks may execute at once.
        use_threads: whether they share worker processes, on threads.
    """

    def __init__(self, settings: Settings, slots: MaxWorkers, use_threads: bool) -> None:
        self.is_over = False
        """Whether it takes no more tasks, for it can't go on or was closed."""
        self._lock = threading.Lock()
        self._waiting: list[Sending] = []
        self._is_asked = False
        """Whether the run was asked to take what waits."""
        self._open: dict[int, SubmittedTask] = {}
        self._sent_files: set[str] = set()
        self._has_sent = False
        self._folder = Path(tempfile.mkdtemp(prefix="dfz-tasks-"))
        self._run = RunSession(
            "tasks",
            settings,
            self._folder,
            slots=slots,
            use_threads=use_threads,
            own=lambda: [FUNCTION_DOMAIN],
            finishes_at_exit=True,
            watch=self._hear,
            on_end=self._end,
        )

    # --- what the manager asks --------------------------------------------------------------------------------------

    def send(self, sendings: Sequence[Sending]) -> None:
        """Take tasks; they are sent at once, or, while others are on their way, together with what comes meanwhile.

        Raises:
            InfrastructureLost: the run is over, or its Ray was shut down in this process.
        """
        if self._has_sent and not _is_connected():
            self.is_over = True
            self._run.close(at_once=True, wait=False)
        with self._lock:
            if self.is_over:
                raise InfrastructureLost("the run is over")
            self._waiting.extend(sendings)
            if self._is_asked:
                return
            self._is_asked = True
        with contextlib.suppress(InfrastructureLost):  # it is about to end, and then tells what waits
            self._run.submit_later(self._take)

    def cancel(self, task: SubmittedTask) -> None:
        """Let a task go whose future was cancelled; one that waits is not sent."""
        if task.number is not None:
            self._run.cancel([task.number], "a task")

    def finish(self) -> None:
        """Take no more tasks: the run closes itself when none is open."""
        self._run.finish()

    def join(self) -> None:
        """Wait until the run is closed."""
        self._run.join()

    # --- what the run tells -----------------------------------------------------------------------------------------

    def _take(self, first: int) -> Batch | None:
        """What waits, as a batch; called in the thread that sends."""
        with self._lock:
            self._is_asked = False
            waiting, self._waiting = [one for one in self._waiting if not one.task.future.cancelled()], []
            for number, one in enumerate(waiting, first):
                one.task.number = number
                self._open[number] = one.task
        if not waiting:
            return None
        self._has_sent = True
        for one in waiting:
            if one.task.future.cancelled():  # before it had a number
                self.cancel(one.task)
        files: dict[str, bytes] = {}
        for _, _, own in {id(one.files): one for one in waiting}.values():  # tasks that came together share them
            files.update((name, content) for name, content in own.items() if name not in self._sent_files)
        self._sent_files.update(files)
        return Batch("tasks", 0, tuple(one.checked for one in waiting), files)

    def _hear(self, news: TaskEvents) -> None:
        for number in news.begun:
            task = self._open.get(number)
            if task is not None:
                task.begin()
        for columns in news.completions:
            self._on_completions(columns)
        for failed in news.failures:
            task = self._open.pop(failed.number, None)
            if task is not None:
                trouble = TaskFailure(failed.reason, failed.message, failed.traceback, failed.payload)
                task.fail(trouble, failed.began_at, failed.ended_at)
        for number in news.cancelled:
            task = self._open.pop(number, None)
            if task is not None:
                task.drop()

    def _on_completions(self, columns: Completions) -> None:
        for number, began, ended, _, stored, _ in columns.rows():
            task = self._open.pop(number, None)  # of one that was heard of before there is nothing
            if task is None:
                continue
            try:
                content = stored if isinstance(stored, bytes) else read_result(RunFolder(self._folder).results / stored)
            except JournalDamaged as error:
                task.fail(TaskFailure("exception", f"its result can't be read: {error}"), began, ended)
            else:
                task.complete(content, began, ended)

    def _end(self, failure: BaseException | None) -> None:
        with self._lock:
            self.is_over = True
            left = [*self._open.values(), *(one.task for one in self._waiting)]
            self._open.clear()
            self._waiting.clear()
        text = str(failure or "the run was closed")
        for task in left:
            error = InfrastructureLost(text)
            error.__cause__ = failure
            task.fail(TaskFailure("exception", text, error=error))
        shutil.rmtree(self._folder, ignore_errors=True)


def _is_connected() -> bool:
    from dfz_ray.driver.connection import is_connected

    return is_connected()
