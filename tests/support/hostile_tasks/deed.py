"""A hostile task: a function without arguments, and all that may become of a task that calls it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple

COMPLETED = "completed"
RAISED = "exception"
UNSTORABLE = "unserializable"
LATE = "timeout"
DIED = "worker_crashed"
NO_MEMORY = "out_of_memory"
ENDS = {COMPLETED, RAISED, UNSTORABLE, LATE, DIED, NO_MEMORY}
DEADLINE_S = 1.5
"""The deadline of tasks that would hang: what they do takes much longer, or for ever."""
GROWING_S = 5.0
"""In which what grows without end takes some 250 MB."""


class Deed(NamedTuple):
    """A hostile task."""

    name: str
    group: str
    act: Callable[[], Any]
    may: frozenset[str]
    """All that may become of it: completed, or the reason of its failure."""
    deadline_s: float | None
    """Where it would hang, or where it would take gigabytes if nobody stopped it."""
    strays: bool
    """True if it kills its worker when it has long ended: whatever is executed then may be charged for that."""
    own_result: bool
    """True if it returns a value of its own; else its result shows its name and seed."""
    is_heavy: bool
    """True if it takes so much memory, or so much time, that a short sample does without it."""


DEEDS: dict[str, Deed] = {}


def deed(
    *may: str,
    hangs: bool = False,
    grows: bool = False,
    strays: bool = False,
    own_result: bool = False,
    is_heavy: bool = False,
) -> Callable[[Callable[[], Any]], Callable[[], Any]]:
    """Register a function under its own name as a hostile task; its group is the name of its module.

    If it hangs, it may end by its deadline. If it grows, its deadline must not be needed, and protects the machine.
    """

    def register(act: Callable[[], Any]) -> Callable[[], Any]:
        name = act.__name__
        if name in DEEDS or not ENDS.issuperset(may) or not may:
            raise ValueError(f"{name} is registered twice, or says nothing that may become of it")
        group = act.__module__.rpartition(".")[2]
        ends = frozenset({*may, LATE} if hangs else may)
        deadline_s = DEADLINE_S if hangs else GROWING_S if grows else None
        DEEDS[name] = Deed(name, group, act, ends, deadline_s, strays, own_result, is_heavy)
        return act

    return register


def later(act: Callable[[], Any], delay_s: float = 0.02) -> None:
    """Act when the task has ended, in a thread that it leaves behind."""

    def wait_and_act() -> None:
        time.sleep(delay_s)
        act()

    threading.Thread(target=wait_and_act, daemon=True).start()


def repeat(act: Callable[[], Any], length_s: float = 2.0, each_s: float = 0.0005) -> None:
    """Act again and again for a while, in a thread that the task leaves behind."""

    def act_again() -> None:
        end = time.monotonic() + length_s
        while time.monotonic() < end:
            act()
            time.sleep(each_s)

    threading.Thread(target=act_again, daemon=True).start()


def loop() -> None:
    """Compute for ever, in Python."""
    while True:
        sum(range(100))
