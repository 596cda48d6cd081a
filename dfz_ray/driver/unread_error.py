"""Reports errors that nobody has read when the interpreter exits, in one line for each type."""

from __future__ import annotations

import atexit
import functools
import logging
import os
import sys
import threading

from dfz_ray.execution.failure import describe_exception

logger = logging.getLogger("dfz_ray")

TEXT_CHARACTERS = 500

_lock = threading.RLock()  # the garbage collector may close an iterator, which forgets its errors
_unread: dict[tuple[str, str], tuple[int, str]] = {}
"""The number of errors that nobody has read, and the text of the first: for each noun and type of error."""


class UnreadError:
    """An error with which calls, tasks or runs have ended, and which nobody has read yet.

    Args:
        noun: call, task or run.
        error: the error.
        count: the number of those that ended with it.
    """

    __slots__ = ("_count", "_key")

    def __init__(self, noun: str, error: BaseException, count: int = 1) -> None:
        report_at_exit()
        self._key, self._count = (noun, type(error).__name__), count
        _, text = _unread.get(self._key) or (0, _describe(error))
        with _lock:
            before, text = _unread.get(self._key, (0, text))
            _unread[self._key] = before + count, text

    def forget(self) -> None:
        """Somebody has read it, or does not want to."""
        with _lock:
            count, text = _unread.pop(self._key, (0, ""))
            if count > self._count:
                _unread[self._key] = count - self._count, text
            self._count = 0


def _describe(error: BaseException) -> str:
    return describe_exception(error).message.partition("\n")[0][:TEXT_CHARACTERS]


def report(message: str) -> None:
    """Log what was lost; on stderr, if the program has set up no logging."""
    if all(isinstance(handler, logging.NullHandler) for handler in (*logger.handlers, *logging.root.handlers)):
        print(f"dfz_ray: {message}", file=sys.stderr)
    else:
        logger.error(message)


def _begin_anew() -> None:
    """In a forked process: the errors are the parent's, where a thread that is not here may hold the lock."""
    global _lock  # noqa: PLW0603 - one for all, as there is one process
    _lock = threading.RLock()
    _unread.clear()


@functools.cache
def report_at_exit() -> None:
    """Report unread errors when the interpreter exits: after what is registered with atexit from now on."""
    os.register_at_fork(after_in_child=_begin_anew)
    atexit.register(_report_all)  # threads that may still read an error have ended then


def _report_all() -> None:
    for (noun, _), (count, text) in list(_unread.items()):  # a report may let the garbage collector forget one
        if count == 1:
            report(f"1 {noun} ended with an error that nobody has read: {text}")
        else:
            report(f"{count} {noun}s ended with errors that nobody has read; the first: {text}")
