"""The open tasks of a run that gets them one by one: each has an object that waits for its end."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import shutil
import threading
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from dfz_ray.domains.registry import CALLS
from dfz_ray.driver.listener import Completed, RunListener
from dfz_ray.driver.run_session import RunSession
from dfz_ray.errors import InfrastructureLost, RunFolderRefused
from dfz_ray.executor.function_domain import arguments_of, put_apart
from dfz_ray.executor.process_setup import ProcessSetup, make_call_domain
from dfz_ray.garbage import collector_paused
from dfz_ray.journal.folder import RunFolder
from dfz_ray.journal.inputs import LARGE_BYTES, store_call
from dfz_ray.specs.batch import Batch
from dfz_ray.specs.run_config import RunConfig
from dfz_ray.specs.task import Task

if TYPE_CHECKING:
    from dfz_ray.protocol.task_events import FailedTask


logger = logging.getLogger("dfz_ray")


class PendingTask(Protocol):
    """An object that waits for the end of a task."""

    number: int | None
    """The task's number in the run, once it is sent."""
    is_wanted: bool
    """False once it need not be sent any more."""

    def begin(self) -> None:
        """A worker begins the task."""

    def complete(self, result: bytes, began_at: float, ended_at: float) -> None:
        """The task has completed; its times are Unix seconds."""

    def on_failed(self, failed: FailedTask) -> None:
        """The task has failed for good."""

    def on_cancelled(self) -> None:
        """The run cancels the task, or has cancelled it."""

    def fail(self, error: BaseException) -> None:
        """The run has ended before the task."""


T = TypeVar("T", bound=PendingTask)


class OpenTasks(RunListener, ABC, Generic[T]):
    """A run that gets its tasks one by one, and its open tasks: those that wait to be sent, and those that were sent.

    It outlives its owner until all of its tasks have ended. A subclass starts the session when it is ready to listen.
    `setup` is what a process does before its first call; None: it takes over authkey, working directory and variables.

    Raises:
        RunFolderRefused: the folder holds a run. Calls are numbered, so those of another program would get its results.
    """

    def __init__(
        self, name: str, config: RunConfig, setup: ProcessSetup | None = None, reports_early: bool = False
    ) -> None:
        if config.run_dir is not None and RunFolder(config.run_dir).holds_run():
            raise RunFolderRefused(f"{config.run_dir} holds a run, and calls begin a new one: name a new folder")
        self.has_ended = False
        """True once every open task has been notified of the end. A task sent later is failed by its sender."""
        self._name = name
        self._is_temporary = config.run_dir is None
        self._lock = threading.RLock()  # garbage collection may cancel tasks in a thread that holds it
        self._waiting: deque[T] = deque()
        self._is_asked = False
        """True if the session was asked to take the waiting tasks. It needs no lock: `_take` clears it first."""
        self._open: dict[int, T] = {}
        """The tasks that were sent and have not ended, by number."""
        self._sent_files: set[str] = set()
        self._to_cancel: list[int] = []
        self._session = RunSession(
            dataclasses.replace(config, name=name),
            self,
            domains=[make_call_domain(setup or ProcessSetup())],
            finishes_at_exit=True,
            reports_early=reports_early,
        )

    @abstractmethod
    def lost(self) -> Exception:
        """The error for tasks that the run does not finish any more."""

    def closed(self) -> Exception:
        """The error for tasks that came too late to be sent."""
        return self.lost()

    @abstractmethod
    def _make_tasks(self, waiting: Sequence[T]) -> tuple[Sequence[Task], Mapping[str, bytes]]:
        """The checked tasks to be sent, and the files that their parameters name, by SHA-256."""

    @property
    def count(self) -> int:
        """The number of open tasks."""
        return len(self._open) + len(self._waiting)

    # --- called by the owner ----------------------------------------------------------------------------------------

    def send(self, tasks: Collection[T]) -> None:
        """Send tasks: at once, or, while others are on their way, together with those that come meanwhile.

        Raises:
            InfrastructureLost: the run can't go on, or was closed. These tasks are not failed by this.
        """
        if self._session.was_forked:  # nobody would take them
            for task in tasks:
                task.is_wanted = False
            raise self.lost()
        is_asking = False
        try:
            self._waiting.extend(tasks)
            if not self._is_asked:
                is_asking = self._is_asked = True
                self._session.submit_later(self._take)
        except BaseException as error:  # perhaps Ctrl-C: then nobody has the futures of these
            self._take_back(tasks)
            if is_asking:
                self._is_asked = False
                if isinstance(error, InfrastructureLost):
                    self._fail_waiting()  # other threads may have relied on this request
                elif self._waiting:  # after an interruption these need another one
                    with contextlib.suppress(InfrastructureLost):
                        self.send(())
            raise
        finally:
            if is_asking and self.has_ended:
                self._is_asked = False
                self._fail_waiting()

    def _take_back(self, tasks: Iterable[T]) -> None:
        """Tasks that still wait are not wanted any more; another thread may have taken some, and ends them."""
        for task in tasks:
            with self._lock, contextlib.suppress(ValueError):
                self._waiting.remove(task)
                task.is_wanted = False

    def cancel(self, tasks: Iterable[T]) -> None:
        """Cancel tasks; those that wait are not sent."""
        numbers = []
        for task in tasks:
            task.is_wanted = False
            task.on_cancelled()
            if task.number is not None:
                numbers.append(task.number)
        if not numbers:
            return
        is_asked = False
        try:
            with self._lock:
                is_asked = bool(self._to_cancel)
                self._to_cancel += numbers
            if not is_asked:
                self._ask_to_cancel()
        except BaseException:  # an interruption, such as Ctrl-C; later ones rely on this request
            if not is_asked and self._to_cancel:
                self._ask_to_cancel()
            raise

    def _ask_to_cancel(self) -> None:
        """Ask the session to cancel the tasks that are to be cancelled by then."""
        found: list[int] = []  # if the manager is lost meanwhile, they are cancelled again

        def find() -> list[int]:
            with self._lock:
                found.extend(self._to_cancel)
                self._to_cancel.clear()
            return found

        self._session.cancel(find, self._name)

    def finish(self) -> None:
        """Take no more tasks: the run closes itself when no task is open."""
        self._session.finish()

    def join(self) -> None:
        """Wait until the run is closed."""
        self._session.join()

    # --- called by the session --------------------------------------------------------------------------------------

    def _take(self, first: int) -> Batch | None:
        """The waiting tasks as a batch, numbered from `first`; called in the thread that sends."""
        self._is_asked = False
        with self._lock, collector_paused():
            waiting = [task for task in self._take_waiting() if task.is_wanted]
            for number, task in enumerate(waiting, first):
                task.number = number
                self._open[number] = task
            tasks, files = self._make_tasks(waiting)
        calls: list[int] = []
        if any(len(task.parameters) > LARGE_BYTES for task in tasks):
            calls = [number for number, task in enumerate(tasks, first) if _is_large_call(task)]
            tasks = [
                self._put_apart(number, task) if _is_large_call(task) else task
                for number, task in enumerate(tasks, first)
            ]
        late = [task for task in waiting if not task.is_wanted]  # cancelled before it had a number
        if late:
            self.cancel(late)
        new = {name: content for name, content in files.items() if name not in self._sent_files}
        self._sent_files.update(new)
        return Batch(self._name, 0, tuple(tasks), new, calls) if tasks else None

    def _put_apart(self, number: int, task: Task) -> Task:
        """Make the arguments of a call an input of the run: the manager need not hold them."""
        name = store_call(self._session.folder, number, arguments_of(task.parameters))
        return task._replace(parameters=put_apart(task.parameters, name))

    def _take_waiting(self) -> list[T]:
        with self._lock:  # one thread at a time; others may add meanwhile
            return [self._waiting.popleft() for _ in range(len(self._waiting))]

    def on_begun(self, numbers: Iterable[int]) -> None:
        """Workers have begun tasks."""
        for number in numbers:
            task = self._open.get(number)
            if task is not None:
                task.begin()

    def on_completed(self, completed: Iterable[Completed], node: str | None) -> None:
        """Tasks have completed."""
        for number, result, began_at, ended_at in completed:
            task = self._open.pop(number, None)
            if task is not None:
                try:
                    task.complete(result, began_at, ended_at)
                except BaseException as error:
                    _survive(task, error)

    def on_failed(self, failures: Sequence[FailedTask]) -> None:
        """Tasks have failed for good."""
        for failed in failures:
            task = self._open.pop(failed.number, None)
            if task is not None:
                try:
                    task.on_failed(failed)
                except BaseException as error:
                    _survive(task, error)

    def on_cancelled(self, numbers: Sequence[int]) -> None:
        """Tasks were cancelled."""
        for number in numbers:
            task = self._open.pop(number, None)
            if task is not None:
                try:
                    task.on_cancelled()
                except BaseException as error:
                    _survive(task, error)

    def on_end(self, failure: BaseException | None) -> None:
        """The run is closed: its open tasks have failed."""
        with self._lock:
            self.has_ended = True
            self._is_asked = False
            left = list(self._open.copy().values())
            self._open.clear()
        self._fail(left, self.lost())
        self._fail_waiting()
        if self._is_temporary:
            shutil.rmtree(self._session.folder, ignore_errors=True)

    def _fail_waiting(self) -> None:
        """The tasks that wait are not sent any more. If no request for them was dropped, they came too late."""
        left = [task for task in self._take_waiting() if task.is_wanted]
        self._fail(left, self.lost() if self._session.was_cut else self.closed())

    def _fail(self, tasks: Iterable[T], why: Exception) -> None:
        for task in tasks:
            try:
                task.fail(why)
            except BaseException as error:
                _survive(task, error)


def _survive(task: PendingTask, error: BaseException) -> None:
    """Go on after an error at the end of a task, e.g. of a callback that exits: it must lose no task."""
    logger.error("a callback at the end of a task raised", exc_info=error)
    with contextlib.suppress(BaseException):
        task.fail(error)  # unless it has ended


def _is_large_call(task: Task) -> bool:
    return len(task.parameters) > LARGE_BYTES and task.domain == CALLS
