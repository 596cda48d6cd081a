"""The future of one call.

A Future of the standard library is ten objects, most of them for waiting. This one makes them when someone waits: going
over them took the garbage collector three quarters of the time of `submit`.
"""

from __future__ import annotations

import os
import threading
from concurrent.futures import InvalidStateError
from typing import TYPE_CHECKING, Any

from dfz_ray.driver.condition import Condition
from dfz_ray.errors import Unserializable
from dfz_ray.executor.call_packing import PackedCall, read_error
from dfz_ray.executor.call_run import CallRun, Treatment
from dfz_ray.executor.function_domain import read_result
from dfz_ray.executor.process_setup import InitializerFailed
from dfz_ray.executor.reported_future import ReportedFuture

if TYPE_CHECKING:
    from dfz_ray.protocol.task_events import FailedTask

_PENDING, _RUNNING, _CANCELLED, _FINISHED = "PENDING", "RUNNING", "CANCELLED", "FINISHED"
"""States of a future, in the words of concurrent.futures."""
LAZY = frozenset({"_condition", "_waiters", "_done_callbacks"})
"""The attributes of a Future that waiting needs. They are most of a future: ten objects, which the garbage collector
visits again and again while a hundred thousand calls are under way; that took three quarters of the time of `submit`.
"""
_lock = threading.RLock()
"""Held to change the state of a future that nobody has waited for, and to make the attributes for waiting."""


def _renew_lock() -> None:
    global _lock  # noqa: PLW0603 - one for all, as there is one process
    _lock = threading.RLock()


os.register_at_fork(after_in_child=_renew_lock)  # a thread that is not in the child may hold it


class CallFuture(ReportedFuture):
    """A future of concurrent.futures for one call. The run notifies it when its task begins and ends.

    The attributes for waiting are made when one of them is first used, under a lock that all futures share. Until then
    the state changes under that lock; from then on under the future's own, as in its class.
    """

    number: int | None = None
    is_wanted = True
    _is_watched = False
    """True once the attributes for waiting are there."""

    def __init__(self, run: CallRun, treatment: Treatment, call: PackedCall) -> None:
        self._state = _PENDING
        self._result: Any = None
        self._exception: BaseException | None = None
        self._run = run
        self.treatment = treatment
        self.call: PackedCall | None = call

    def __getattr__(self, name: str) -> Any:
        if name not in LAZY:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        with _lock:
            if not self._is_watched:
                self._condition = Condition()
                self._waiters: list[Any] = []
                self._done_callbacks: list[Any] = []
                self._is_watched = True
        return object.__getattribute__(self, name)

    def __reduce__(self) -> Any:
        raise Unserializable("a future can't be sent to another process: send its result")

    # --- called by the holder of the future -------------------------------------------------------------------------

    def result(self, timeout: float | None = None) -> Any:
        """Return the call's result, or raise its exception; see `Future.result`."""
        if self._state == _FINISHED and self._exception is None:
            return self._result
        try:
            return super().result(timeout)
        finally:
            del self  # the error's traceback has this frame, and must not keep the future alive

    def done(self) -> bool:
        """True if the call has ended, or was cancelled."""
        return self._state == _FINISHED or super().done()

    def cancel(self) -> bool:
        """Cancel the call; one that has begun goes on, and False is returned."""
        if not super().cancel():
            return False
        if self._state == _CANCELLED:  # the run does not know it yet
            self._run.cancel([self])
        return True

    # --- called by the run ------------------------------------------------------------------------------------------

    @property
    def has_begun(self) -> bool:
        """True if a worker has begun the call, or it has ended."""
        return self._state != _PENDING

    def begin(self) -> None:
        """A worker begins the call."""
        with _lock:
            if not self._is_watched:
                if self._state == _PENDING:
                    self._state = _RUNNING
                return
        with self._condition:
            if self._state == _PENDING:
                self._state = _RUNNING

    def complete(self, result: bytes, began_at: float, ended_at: float) -> None:
        """The call has returned."""
        try:
            value = read_result(result)
        except BaseException as error:  # unpickling may do anything
            self.fail(error)
            return
        with _lock:
            if not self._is_watched:
                if self._state in (_PENDING, _RUNNING):
                    self._result, self._state = value, _FINISHED
                return
        try:
            self.set_result(value)
        except InvalidStateError:  # it was cancelled meanwhile
            self._tell_cancelled()

    def on_failed(self, failed: FailedTask) -> None:
        """The call has raised, or something has ended it."""
        error = read_error(failed.reason, failed.message, failed.traceback, failed.payload)
        if isinstance(error, InitializerFailed):
            self._run.broken = error
        self.fail(error)

    def fail(self, error: BaseException) -> None:
        """The call has failed."""
        self.note_error("call", error)
        try:
            self.set_exception(error)
        except InvalidStateError:  # it was cancelled meanwhile
            self.mark_read()
            self._tell_cancelled()

    def on_cancelled(self) -> None:
        """The run has cancelled the call, whether it has begun or not."""
        with self._condition:
            if self._state == _RUNNING:
                self._state = _PENDING
        super().cancel()  # not under the lock: callbacks may take locks that a caller of this future holds
        self._tell_cancelled()

    def _tell_cancelled(self) -> None:
        """If the future was cancelled, wake those who wait for it, unless that has been done."""
        with self._condition:  # another thread may do it, too
            if self._state == _CANCELLED:
                self.set_running_or_notify_cancel()
