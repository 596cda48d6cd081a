"""Errors that nobody has read are told when the interpreter exits, in one line for each type."""

from __future__ import annotations

import atexit
import functools
import threading

from dfz_ray.driver.exit import tell
from dfz_ray.execution.failure import describe_exception

TEXT_CHARACTERS = 500

_lock = threading.RLock()  # the garbage collector may close an iterator, which forgets its errors
_counts: dict[tuple[str, str], int] = {}
"""The number of errors that nobody has read: for each noun and type of error."""
_texts: dict[tuple[str, str], str] = {}
"""The first of them."""


class UnreadError:
    """An error with which calls, tasks or runs have ended, and which nobody has read yet.

    Args:
        noun: call, task or run.
        error: the error.
        count: the number of those that ended with it.
    """

    __slots__ = ("_count", "_key")

    def __init__(self, noun: str, error: BaseException, count: int = 1) -> None:
        _watch_exit()
        self._key, self._count = (noun, type(error).__name__), count
        text = _texts.get(self._key) or _describe(error)
        with _lock:
            _counts[self._key] = _counts.get(self._key, 0) + count
            _texts[self._key] = text

    def forget(self) -> None:
        """Somebody has read it, or does not want to."""
        with _lock:
            if not self._count:
                return
            _counts[self._key] -= self._count
            self._count = 0
            if not _counts[self._key]:
                del _counts[self._key], _texts[self._key]


def _describe(error: BaseException) -> str:
    first_line, *_ = describe_exception(error).message.splitlines() or [""]
    return first_line[:TEXT_CHARACTERS]


@functools.cache
def _watch_exit() -> None:
    atexit.register(_tell)  # threads that may still read an error have ended then


def _tell() -> None:
    for (noun, kind), count in _counts.items():
        text = _texts[noun, kind]
        if count == 1:
            tell(f"1 {noun} ended with an error that nobody has read: {text}")
        else:
            tell(f"{count} {noun}s ended with errors that nobody has read; the first: {text}")
