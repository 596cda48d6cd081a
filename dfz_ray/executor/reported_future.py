"""A future whose error is reported when the interpreter exits, unless somebody has read it."""

from __future__ import annotations

from concurrent.futures import Future
from typing import Any

from dfz_ray.driver.unread_error import UnreadError


class ReportedFuture(Future[Any]):
    """A future of concurrent.futures. Whoever ends it with an error calls `note_error` before."""

    _unread: UnreadError | None = None

    def note_error(self, noun: str, error: BaseException) -> None:
        """The future is about to end with an error; `noun` says whether it is a call or a task."""
        self._unread = UnreadError(noun, error)

    def mark_read(self) -> None:
        """Somebody has read the error, if there is one."""
        if self._unread is not None:
            self._unread.forget()

    def result(self, timeout: float | None = None) -> Any:
        """Return the result, or raise the error; see `Future.result`."""
        try:
            return super().result(timeout)
        finally:
            self.mark_read()
            del self  # the error's traceback has this frame, and must not keep the future alive

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """Return the error, or None; see `Future.exception`."""
        try:
            return super().exception(timeout)
        finally:
            self.mark_read()
