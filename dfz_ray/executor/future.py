"""The future of one call."""

from __future__ import annotations

import contextlib
import threading
from concurrent.futures import Future, InvalidStateError
from typing import Any

from dfz_ray.executor.call_packing import PackedCall
from dfz_ray.executor.call_run import CallRun, Treatment
from dfz_ray.executor.function_domain import read_result

_PENDING, _RUNNING, _CANCELLED, _FINISHED = "PENDING", "RUNNING", "CANCELLED", "FINISHED"
"""States of a future, as concurrent.futures names them."""
LAZY = frozenset({"_condition", "_waiters", "_done_callbacks"})
"""What a Future has for those who wait for it. It is most of a future: ten objects, which the garbage collector looks
at again and again while a hundred thousand calls are under way; that took three quarters of the time of `submit`.
"""
_lock = threading.RLock()
"""Held to change the state of a future that nobody has waited for, and to make what waiting needs."""


class CallFuture(Future[Any]):
    """A future of concurrent.futures, to which the run tells what becomes of its task.

    What waiting needs is made when it is first looked at, under a lock that all share. As long as it is not there, the
    state changes under that lock; from then on under the future's own, as in its class.
    """

    number: int | None = None
    """Of the task, once it was sent."""
    is_wanted = True
    """Whether it is still to be sent."""
    _is_watched = False
    """Whether what waiting needs is there."""

    def __init__(self, run: CallRun, treatment: Treatment, call: PackedCall) -> None:
        self._state = _PENDING
        self._result: Any = None
        self._exception: BaseException | None = None
        self._run = run
        self.treatment = treatment
        self.call: PackedCall | None = call
        """What is to be called, until it was sent."""

    def __getattr__(self, name: str) -> Any:
        if name not in LAZY:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        with _lock:
            if not self._is_watched:
                self._condition = threading.Condition()
                self._waiters: list[Any] = []
                self._done_callbacks: list[Any] = []
                self._is_watched = True
        return object.__getattribute__(self, name)

    # --- what its owner asks ----------------------------------------------------------------------------------------

    def result(self, timeout: float | None = None) -> Any:
        """What the call has returned, or raised; see `Future.result`."""
        if self._state == _FINISHED and self._exception is None:
            return self._result
        return super().result(timeout)

    def done(self) -> bool:
        """Whether the call has ended, or was cancelled."""
        return self._state == _FINISHED or super().done()

    def cancel(self) -> bool:
        """Cancel the call; one that has begun goes on, and False is returned."""
        if not super().cancel():
            return False
        if self._state == _CANCELLED:  # the run was not told yet
            self._run.cancel([self])
        return True

    # --- what the run tells -----------------------------------------------------------------------------------------

    @property
    def has_begun(self) -> bool:
        """Whether a worker has begun the call, or it has ended."""
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

    def complete(self, result: bytes, took_s: float) -> None:
        """The call has returned."""
        try:
            value = read_result(result)
        except BaseException as error:  # what is unpickled may do anything
            self.fail(error)
            return
        with _lock:
            if not self._is_watched:
                if self._state in (_PENDING, _RUNNING):
                    self._result, self._state = value, _FINISHED
                return
        with contextlib.suppress(InvalidStateError):  # it was cancelled meanwhile
            self.set_result(value)

    def fail(self, error: BaseException) -> None:
        """The call has raised, or something has ended it."""
        with contextlib.suppress(InvalidStateError):
            self.set_exception(error)

    def on_cancelled(self) -> None:
        """The run has cancelled the call, whether it has begun or not."""
        with self._condition:
            if self._state == _RUNNING:
                self._state = _PENDING
        super().cancel()  # its callbacks may take locks, which who asks this future may hold
        if self._state == _CANCELLED:
            self.set_running_or_notify_cancel()
