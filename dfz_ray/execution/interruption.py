"""The exception that ends a task before it ends by itself.

Whoever executes a task keeps it by its deadline, and makes the exception here. A task may raise an Interruption of its
own, or change the one that hit it: neither says why it ended.
"""

from __future__ import annotations

import dis
from _thread import get_ident
from types import TracebackType
from typing import NamedTuple, NoReturn

REASONS = ("timeout", "cancelled")
"""The reasons for which tasks are interrupted: a task that enters a cause of its own can't claim another one."""


class Interruption(BaseException):
    """Raised in a task that has to end now; no `except Exception` of a user stops it."""


class Cause(NamedTuple):
    """The cause of an interruption."""

    kind: type[Interruption]
    """The class of this one interruption: no other one is of it."""
    reason: str
    """timeout or cancelled."""
    message: str
    """For the user."""
    frames: int
    """The number of innermost frames that belong to the interrupting code, not to the task."""


_causes: dict[int, Cause] = {}
"""By thread: the interruption of the task that it executes."""


def make_interruption(thread: int, reason: str, message: str, frames: int = 1) -> type[Interruption]:
    """Make the class to raise in a thread: the only interruption that counts there until `forget_interruption`.

    It is a class, for only a class can be raised in another thread.
    """
    kind = type("RaisedInterruption", (Interruption,), {})
    _causes[thread] = Cause(kind, reason, message, frames)
    return kind


def forget_interruption() -> None:
    """The task of this thread has ended: what was raised in it means nothing to the next one."""
    if _causes:
        _causes.pop(get_ident(), None)


def find_cause(error: BaseException) -> Cause | None:
    """The cause of an error that is the interruption of the task of this thread; None of any other error."""
    cause = _causes.get(get_ident())
    if cause is None or type(error) is not cause.kind or type(cause.reason) is not str:
        return None
    return cause if cause.reason in REASONS else None


def pass_on_interruption(error: BaseException) -> None:
    """Raise the interruption that an error is, came from or has collected: no other error may hide it."""
    if not _causes or get_ident() not in _causes:
        return
    seen: set[int] = set()
    origins: list[BaseException | None] = [error]
    while origins:
        origin = origins.pop()
        if origin is None or id(origin) in seen:
            continue
        seen.add(id(origin))
        if find_cause(origin) is not None:
            _raise(origin)
        origins += [get_cause(origin), get_context(origin), *find_members(origin)]


def _raise(origin: BaseException) -> NoReturn:
    raise origin


_raised_elsewhere = 0
_RAISING = {dis.opmap["RAISE_VARARGS"], dis.opmap["RERAISE"]}


def note_exception(error: BaseException) -> None:
    """Count an exception of a task if it looks like one that another thread has raised in this one.

    Such a one is made without arguments, and where it was raised there is neither `raise` nor `assert`.
    """
    global _raised_elsewhere  # noqa: PLW0603 - of this process
    frames = get_traceback(error)
    if frames is None or BaseException.__dict__["args"].__get__(error):
        return
    while frames.tb_next is not None:
        frames = frames.tb_next
    if frames.tb_frame.f_code.co_code[frames.tb_lasti] not in _RAISING:
        _raised_elsewhere += 1


def count_raised_elsewhere() -> int:
    """The number of exceptions, in this process, that other threads may have raised in tasks."""
    return _raised_elsewhere


# An error's own class may override these attributes with code of any kind: they are read past it.


def get_cause(error: BaseException) -> BaseException | None:
    """The exception that the error was raised from."""
    cause: BaseException | None = BaseException.__dict__["__cause__"].__get__(error)
    return cause


def get_context(error: BaseException) -> BaseException | None:
    """The exception that was handled when the error was raised."""
    context: BaseException | None = BaseException.__dict__["__context__"].__get__(error)
    return context


def is_context_hidden(error: BaseException) -> bool:
    """True if the error was raised `from` something, be it None."""
    return bool(BaseException.__dict__["__suppress_context__"].__get__(error))


def get_traceback(error: BaseException) -> TracebackType | None:
    """The frames that the error has passed, outermost first."""
    frames: TracebackType | None = BaseException.__dict__["__traceback__"].__get__(error)
    return frames


def find_members(error: BaseException) -> tuple[BaseException, ...]:
    """The exceptions that a group has collected; none if it is no group."""
    if not issubclass(type(error), BaseExceptionGroup):
        return ()
    members: tuple[BaseException, ...] = BaseExceptionGroup.__dict__["exceptions"].__get__(error)
    return members
