"""The states of a task; `dfz_ray.engine.lifecycle` has the table of the transitions between them."""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum


class State(IntEnum):
    """The state of a task. The journal stores the numbers."""

    PENDING = 0
    RUNNING = 1
    COMPLETED = 2
    FAILED = 3
    CANCELLED = 4

    @property
    def label(self) -> str:
        """The state as it is written outside the engine."""
        return self.name.lower()


FINAL = frozenset({State.COMPLETED, State.FAILED, State.CANCELLED})
"""The states that no event changes."""

UNSUCCESSFUL = tuple(state for state in State if state in FINAL and state != State.COMPLETED)
"""The final states of tasks that ended without a result."""

STATES = tuple(state.label for state in State)
"""The states as they are written outside the engine, in the order of their numbers."""


def count_final(counts: Sequence[int]) -> int:
    """The number of tasks in a final state, of counts in the order of the states."""
    return sum(counts[state] for state in FINAL)
