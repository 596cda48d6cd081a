"""Ctrl-C leaves no condition locked."""

from __future__ import annotations

import sys
import threading
from types import FrameType
from typing import Any

import pytest

from dfz_ray.driver.condition import Condition


def enter(condition: threading.Condition) -> None:
    with condition:
        pass


def interrupt_each_function_in(condition: threading.Condition) -> None:
    """Ctrl-C comes as the first function of Python begins that leaving the `with` calls, if there is one."""
    leaving: list[bool] = []

    def trace(frame: FrameType, event: str, argument: Any) -> Any:
        if frame.f_code.co_name == "__exit__":
            leaving.append(True)
            raise KeyboardInterrupt

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        enter(condition)
    except KeyboardInterrupt:
        pass
    finally:
        sys.settrace(before)


def is_free(condition: threading.Condition) -> bool:
    """True if another thread can enter it."""
    found: list[bool] = []
    thread = threading.Thread(target=lambda: found.append(condition.acquire(timeout=0.1)))
    thread.start()
    thread.join()
    return found[0]


@pytest.mark.parametrize(("kind", "expected"), [(Condition, True), (threading.Condition, False)])
def test_an_interrupt_at_the_end_of_a_with(kind: type[threading.Condition], expected: bool) -> None:
    """Another thread can enter our condition; that of the standard library stays locked, or ours were not needed."""
    condition = kind()
    interrupt_each_function_in(condition)
    assert is_free(condition) == expected


def test_it_is_a_condition() -> None:
    """One thread waits until another one notifies it."""
    condition, seen = Condition(), []

    def wait() -> None:
        with condition:
            condition.wait_for(lambda: bool(seen), 10)
            seen.append("woken")

    thread = threading.Thread(target=wait)
    thread.start()
    with condition:
        seen.append("set")
        condition.notify_all()
    thread.join(10)
    assert seen == ["set", "woken"]
