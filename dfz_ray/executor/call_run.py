"""The run behind an executor, and its open calls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import BrokenExecutor
from pathlib import Path
from typing import NamedTuple, Protocol

from dfz_ray.domains.registry import CALLS
from dfz_ray.driver.exit import refuse_at_exit
from dfz_ray.errors import InfrastructureLost
from dfz_ray.executor.call_packing import CallPacker, PackedCall
from dfz_ray.executor.open_tasks import OpenTasks, PendingTask
from dfz_ray.executor.process_setup import InitializerFailed, ProcessSetup
from dfz_ray.specs.policy import Policy
from dfz_ray.specs.resources import Resources
from dfz_ray.specs.run_config import RunConfig
from dfz_ray.specs.task import Task


class ExecutorBroken(InfrastructureLost, BrokenExecutor):
    """The run behind an executor can't go on."""


class Treatment(NamedTuple):
    """The resources and the policy of calls; calls that are treated alike share one object."""

    resources: Resources
    policy: Policy


class PendingCall(PendingTask, Protocol):
    """An object that waits for the end of a task that is one call, or several calls."""

    treatment: Treatment
    call: PackedCall | None
    """The call, until it is sent."""

    @property
    def has_begun(self) -> bool:
        """True if a worker has begun the task, or it has ended."""

    def cancel(self) -> bool:
        """Cancel the task if it has not begun; returns True if it is cancelled."""


class CallSource(Protocol):
    """An object that has calls left to send, or may get some back that were sent, such as a `map`."""

    def end(self, error: BaseException) -> None:
        """Nothing can be sent any more: the calls that are left have failed."""

    def cancel(self) -> None:
        """Send no more calls, and cancel those that have not begun."""


class CallRun(OpenTasks[PendingCall]):
    """The run behind an executor, and the calls that it has not ended."""

    def __init__(self, config: RunConfig, setup: ProcessSetup | None = None) -> None:
        super().__init__("calls", config, setup, reports_early=config.run_dir is None)
        self.packer = CallPacker()
        self.is_shut = False
        """True once the run takes no more calls."""
        self.broken: BaseException | None = None
        """The failure of the initializer, once a call has met it."""
        self._sources: list[CallSource] = []
        self._session.start()

    @property
    def slots(self) -> int:
        """The number of calls that may execute at once; 1 until it is known."""
        return self._session.slots or 1

    @property
    def known_slots(self) -> int | None:
        """The number of calls that may execute at once; None until it is known."""
        return self._session.slots

    def find_slots(self) -> int:
        """The number of calls that may execute at once; connects this process to Ray if it must be counted."""
        return self._session.find_slots()

    @property
    def failure(self) -> BaseException | None:
        """The reason why the run can't go on, or the failure of the initializer."""
        return self._session.failure or self.broken

    @property
    def folder(self) -> Path:
        """The run folder."""
        return self._session.folder

    def check(self) -> None:
        """Raise the reason why the run takes no calls, if there is one: RuntimeError, or BrokenExecutor."""
        if self.is_shut or self._session.was_forked:
            raise self.closed()
        if self.broken is not None:
            raise InitializerFailed(str(self.broken))
        refuse_at_exit()

    def closed(self) -> Exception:
        """The error for calls that the run does not take any more."""
        if self._session.failure is None:
            return RuntimeError("cannot schedule new futures after shutdown")
        return self.lost()

    def lost(self) -> Exception:
        """The error for calls that the run does not finish any more."""
        failure = self._session.failure
        why = "the run was closed before the call had ended" if failure is None else f"the run can't go on: {failure}"
        error = ExecutorBroken(why)
        error.__cause__ = failure
        return error

    def cancel_pending(self) -> None:
        """Cancel calls that have not begun, except as many of the oldest as slots are free: they are about to begin."""
        with self._lock:
            sources = list(self._sources)
        for source in sources:
            source.cancel()
        with self._lock:
            calls = [*self._open.copy().values(), *self._waiting.copy()]
        pending = [call for call in calls if not call.has_begun]
        for call in pending[max(0, self.slots - (len(calls) - len(pending))) :]:
            call.cancel()

    def hold(self, source: CallSource) -> None:
        """Stay open for the calls that a source has left, or gets back."""
        with self._lock:
            self._sources.append(source)

    def release(self, source: CallSource) -> None:
        """All calls of a source have ended, or are not wanted any more."""
        with self._lock:
            if source in self._sources:
                self._sources.remove(source)
        self._finish_if_shut()

    def shut(self) -> None:
        """Take no more calls; the run closes itself when those that were asked for have ended."""
        self.is_shut = True
        self._finish_if_shut()

    def _finish_if_shut(self) -> None:
        if self.is_shut and not self._sources:
            self.finish()

    def _make_tasks(self, waiting: Sequence[PendingCall]) -> tuple[Sequence[Task], Mapping[str, bytes]]:
        tasks, functions = [], {}
        for pending in waiting:
            assert pending.call is not None  # noqa: S101 - it was not sent before
            kind, parameters, function = pending.call
            resources, policy = pending.treatment
            pending.call = None
            tasks.append(Task._make((str(pending.number), CALLS, kind, 0, resources, parameters, "", policy)))
            if function is not None:
                functions[function.sha256] = function.content
        return tasks, functions

    def on_end(self, failure: BaseException | None) -> None:
        """The run is closed: its open calls have failed, and so have those that its sources have left."""
        with self._lock:
            self.is_shut = self.has_ended = True
            sources, self._sources = self._sources, []
        for source in sources:
            source.end(self.lost())
        super().on_end(failure)
