"""The run behind an executor: calls that wait to be sent, and those that the run has, until their end is heard."""

from __future__ import annotations

import contextlib
import shutil
import threading
from collections import deque
from collections.abc import Collection, Iterable
from concurrent.futures import BrokenExecutor
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

from dfz_ray.domains.registry import CALLS
from dfz_ray.driver.run_session import RunSession
from dfz_ray.errors import InfrastructureLost, JournalDamaged
from dfz_ray.executor.call_packing import CallPacker, PackedCall, read_error
from dfz_ray.executor.function_domain import FUNCTION_DOMAIN, PackedFunction
from dfz_ray.garbage import collector_paused
from dfz_ray.journal.folder import RunFolder
from dfz_ray.journal.record import read_result
from dfz_ray.protocol.columns import TIMES, Completions, read_times, unpack
from dfz_ray.specs.batch import Batch
from dfz_ray.specs.policy import Policy
from dfz_ray.specs.resources import Resources
from dfz_ray.specs.settings import MaxWorkers, Settings
from dfz_ray.specs.task import Task

if TYPE_CHECKING:
    from dfz_ray.protocol.task_events import TaskEvents


class ExecutorBroken(InfrastructureLost, BrokenExecutor):
    """The run behind an executor can't go on; it is here, for errors.py does without concurrent.futures."""


class Treatment(NamedTuple):
    """How calls are treated; those that are treated alike share one object."""

    resources: Resources
    policy: Policy


class Slot(Protocol):
    """Where what comes of a task goes to."""

    treatment: Treatment
    call: PackedCall | None
    """What is to be called, until it was sent."""
    number: int | None
    """Of the task, once it was sent."""
    is_wanted: bool
    """Whether it is still to be sent."""

    @property
    def has_begun(self) -> bool:
        """Whether a worker has begun it, or it has ended."""

    def begin(self) -> None:
        """A worker begins it."""

    def complete(self, result: bytes, took_s: float) -> None:
        """It has completed, after so many seconds."""

    def fail(self, error: BaseException) -> None:
        """It has failed for good."""

    def on_cancelled(self) -> None:
        """The run cancels it, or has cancelled it."""

    def cancel(self) -> bool:
        """Cancel it, if it has not begun; returns whether it is cancelled."""


class Source(Protocol):
    """What has tasks left that were not sent."""

    def end(self, error: BaseException) -> None:
        """Nothing can be sent any more: those that are left have failed; those that were sent are told themselves."""

    def cancel(self) -> None:
        """Send no more of them, and cancel those that have not begun."""


class CallRun:
    """The calls of one executor. It outlives the executor until all that was asked for has ended.

    Args:
        name: of the run, for its journal.
        settings: how tasks are handed out and written down.
        folder: of the run.
        is_temporary: whether the folder is removed in the end.
        slots: how many calls may execute at once.
        address: which Ray.
        use_threads: whether calls share processes, on threads.
    """

    def __init__(
        self,
        name: str,
        settings: Settings,
        folder: Path,
        is_temporary: bool,
        slots: MaxWorkers,
        address: str | None,
        use_threads: bool,
    ) -> None:
        self.packer = CallPacker()
        self.is_shut = False
        """Whether it takes no more calls."""
        self.has_ended = False
        """Whether the end was told to all that was open then: who sends something later tells it himself."""
        self._name, self._folder, self._is_temporary = name, folder, is_temporary
        self._lock = threading.RLock()  # what garbage collection ends may come back here in the midst of it
        self._waiting: deque[Slot] = deque()
        self._is_asked = False
        """Whether the run was asked to take what waits; not under the lock: who takes says no before it takes."""
        self._open: dict[int, Slot] = {}
        """By number."""
        self._sent_files: set[str] = set()
        self._to_cancel: list[int] = []
        self._sources: list[Source] = []
        self._run = RunSession(
            name,
            settings,
            folder,
            slots=slots,
            address=address,
            own=lambda: [FUNCTION_DOMAIN],
            use_threads=use_threads,
            finishes_at_exit=True,
            watch=self._hear,
            on_end=self._end,
        )

    @property
    def slots(self) -> int:
        """How many calls may execute at once; 1 as long as that is not known."""
        return self._run.slots or 1

    # --- what the executor asks -------------------------------------------------------------------------------------

    def send(self, slots: Collection[Slot]) -> None:
        """Send tasks: at once, or, while others are on their way, together with what comes meanwhile.

        Raises:
            InfrastructureLost: the run can't go on, or was closed; these tasks are told nothing.
        """
        self._waiting.extend(slots)
        if self._is_asked:
            return
        self._is_asked = True
        try:
            self._run.submit_later(self._take)
        except InfrastructureLost:
            for slot in slots:
                slot.is_wanted = False
            self._is_asked = False
            raise
        finally:
            if self.has_ended:  # other threads may have relied on this one to ask for theirs, too
                self._is_asked = False
                self._fail([slot for slot in self._take_waiting() if slot.is_wanted], self.closed())

    def cancel(self, slots: Iterable[Slot]) -> None:
        """Cancel tasks: those that wait are not sent."""
        numbers = []
        for slot in slots:
            slot.is_wanted = False
            slot.on_cancelled()
            if slot.number is not None:
                numbers.append(slot.number)
        if not numbers:
            return
        with self._lock:
            is_asked = bool(self._to_cancel)
            self._to_cancel += numbers
        if is_asked:
            return
        found: list[int] = []  # where the manager is lost meanwhile, they are cancelled again

        def find() -> list[int]:
            with self._lock:
                found.extend(self._to_cancel)
                self._to_cancel.clear()
            return found

        self._run.cancel(find, "calls")

    def cancel_pending(self) -> None:
        """Cancel what has not begun, but for the oldest tasks where slots are free: these would have begun by now."""
        with self._lock:
            slots = [*self._open.copy().values(), *self._waiting.copy()]
            sources = list(self._sources)
        pending = [slot for slot in slots if not slot.has_begun]
        for source in sources:
            source.cancel()
        for slot in pending[max(0, self.slots - (len(slots) - len(pending))) :]:
            slot.cancel()

    def hold(self, source: Source) -> None:
        """Stay open for what it has left."""
        with self._lock:
            self._sources.append(source)

    def release(self, source: Source) -> None:
        """It has nothing left, or it is not wanted any more."""
        with self._lock:
            if source in self._sources:
                self._sources.remove(source)
        self._settle()

    def shut(self) -> None:
        """Take no more calls; what was asked for goes on, and then the run closes itself."""
        self.is_shut = True
        self._settle()

    def closed(self) -> RuntimeError:
        """What to say to who submits where nothing can be."""
        failure = self._run.failure
        return _broken(failure) if failure else RuntimeError("cannot schedule new futures after shutdown")

    def join(self) -> None:
        """Wait until the run is closed."""
        self._run.join()

    def _settle(self) -> None:
        if self.is_shut and not self._sources:
            self._run.finish()

    # --- what the run tells -----------------------------------------------------------------------------------------

    def _take(self, first: int) -> Batch | None:
        """What waits, as a batch; called in the thread that sends."""
        self._is_asked = False
        with self._lock, collector_paused():
            waiting = [slot for slot in self._take_waiting() if slot.is_wanted]
            functions: dict[str, PackedFunction] = {}
            tasks = []
            for number, slot in enumerate(waiting, first):
                assert slot.call is not None  # noqa: S101 - it was not sent before
                kind, parameters, function = slot.call
                resources, policy = slot.treatment
                slot.number, slot.call = number, None
                self._open[number] = slot
                tasks.append(Task._make((str(number), CALLS, kind, 0, resources, parameters, "", policy)))
                if function is not None:
                    functions[function.sha256] = function
        late = [slot for slot in waiting if not slot.is_wanted]  # cancelled before it had a number
        if late:
            self.cancel(late)
        files = {key: one.content for key, one in functions.items() if key not in self._sent_files}
        self._sent_files.update(files)
        return Batch(self._name, 0, tuple(tasks), files) if tasks else None

    def _take_waiting(self) -> list[Slot]:
        taken = []
        with contextlib.suppress(IndexError):  # another thread takes as well
            for _ in range(len(self._waiting)):
                taken.append(self._waiting.popleft())
        return taken

    def _hear(self, news: TaskEvents) -> None:
        for number in news.begun:
            slot = self._open.get(number)
            if slot is not None:
                slot.begin()
            slot = None
        for columns in news.completions:
            self._on_completions(columns)
        for failed in news.failures:
            slot = self._open.pop(failed.number, None)
            if slot is not None:
                slot.fail(read_error(failed.reason, failed.message, failed.traceback, failed.payload))
        for number in news.cancelled:
            slot = self._open.pop(number, None)
            if slot is not None:
                slot.on_cancelled()

    def _on_completions(self, columns: Completions) -> None:
        times = read_times(columns.times)
        rows = zip(columns.numbers(), unpack(columns.results), times[0::TIMES], times[1::TIMES], strict=True)
        for number, result, began_at, ended_at in rows:
            slot = self._open.pop(number, None)  # of one that was heard of before there is nothing
            if slot is None:
                continue
            if isinstance(result, str):  # it is too large for the journal; its file is what its name says, or refused
                try:
                    result = read_result(RunFolder(self._folder).results / result)  # noqa: PLW2901 - the same one
                except JournalDamaged as error:
                    slot.fail(error)
                    continue
            slot.complete(result, ended_at - began_at)

    def _end(self, failure: BaseException | None) -> None:
        error = self.closed() if failure is None else _broken(failure)
        with self._lock:
            self.is_shut = self.has_ended = True
            self._is_asked = False
            left = [*self._open.copy().values(), *self._take_waiting()]
            self._open.clear()
            sources, self._sources = self._sources, []
        for source in sources:
            source.end(error)
        self._fail(left, error)
        if self._is_temporary:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _fail(self, slots: Iterable[Slot], error: BaseException) -> None:
        for slot in slots:
            slot.fail(error)


def _broken(failure: BaseException) -> ExecutorBroken:
    error = ExecutorBroken(f"the run can't go on: {failure}")
    error.__cause__ = failure
    return error
