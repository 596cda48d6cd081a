"""The future of one call."""

from __future__ import annotations

import contextlib
from concurrent.futures import Future, InvalidStateError
from typing import Any

from dfz_ray.call_run import CallRun
from dfz_ray.domains.function_call import read_result

_PENDING, _CANCELLED = "PENDING", "CANCELLED"
"""States of a future, as concurrent.futures names them."""


class CallFuture(Future[Any]):
    """A future of concurrent.futures, to which the run tells what becomes of its task."""

    def __init__(self, run: CallRun) -> None:
        super().__init__()
        self._run = run
        self.number: int | None = None
        """Of the task, once it was sent."""
        self.is_wanted = True
        """Whether it is still to be sent."""

    @property
    def has_begun(self) -> bool:
        """Whether a worker has begun the call, or it has ended."""
        return self._state != _PENDING

    def begin(self) -> None:
        """A worker begins the call."""
        with self._condition:
            if self._state == _PENDING:
                self.set_running_or_notify_cancel()

    def complete(self, result: bytes, took_s: float) -> None:
        """The call has returned."""
        try:
            value = read_result(result)
        except BaseException as error:  # what is unpickled may do anything
            self.fail(error)
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
            if not self.done():
                self._state = _PENDING
        super().cancel()
        self._tell_cancelled()

    def cancel(self) -> bool:
        """Cancel the call; one that has begun goes on, and False is returned."""
        if not super().cancel():
            return False
        if self._tell_cancelled():
            self._run.cancel([self])
        return True

    def _tell_cancelled(self) -> bool:
        """Tell those who wait for it; returns whether they were not told yet."""
        with self._condition:
            if self._state != _CANCELLED:
                return False
            self.set_running_or_notify_cancel()
            return True
