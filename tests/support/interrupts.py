"""Ctrl-C: in programs that tests start, and at a chosen line of a function."""

from __future__ import annotations

import contextlib
import itertools
import linecache
import signal
import sys
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any


def heed_interrupts() -> None:
    """Let this process, and all that it starts, end by Ctrl-C, whatever has started it.

    A shell that starts a program with `&` lets it ignore that signal, and all that the program starts, too. Tests send
    it, and wait for its effect.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


class Interruption:
    """Says whether an interruption has come."""

    has_come = False


@contextlib.contextmanager
def interrupted(function: Callable[..., Any], line: int) -> Iterator[Interruption]:
    """Ctrl-C comes once, before the function executes its n-th line (the first is 0); the caller survives it.

    A `with` that ends is no such line: Python notices Ctrl-C when its `__exit__` has returned.
    """
    told, before, code = Interruption(), sys.gettrace(), function.__code__
    left = itertools.count(line, -1)
    entered: set[int] = set()

    def within(frame: FrameType, event: str, argument: Any) -> Any:
        if event == "line" and not told.has_come:
            is_with = linecache.getline(code.co_filename, frame.f_lineno).lstrip().startswith("with ")
            if (not is_with or frame.f_lineno not in entered) and next(left) == 0:
                told.has_come = True
                raise KeyboardInterrupt
            if is_with:
                entered.add(frame.f_lineno)
        return within

    def trace(frame: FrameType, event: str, argument: Any) -> Any:
        return within if frame.f_code is code else None

    sys.settrace(trace)
    try:
        yield told
    except KeyboardInterrupt:
        pass
    finally:
        sys.settrace(before)


@contextlib.contextmanager
def interrupted_after(function: Callable[..., Any]) -> Iterator[None]:
    """Ctrl-C comes when the function has returned, before its caller has the result."""
    before = sys.gettrace()

    def within(frame: FrameType, event: str, argument: Any) -> Any:
        if event == "return":
            sys.settrace(before)
            raise KeyboardInterrupt
        return within

    sys.settrace(lambda frame, event, argument: within if frame.f_code is function.__code__ else None)
    try:
        yield
    finally:
        sys.settrace(before)
