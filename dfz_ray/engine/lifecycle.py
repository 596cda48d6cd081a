"""The states of a task, and the one table of what may happen to it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from enum import IntEnum
from types import MappingProxyType
from typing import Any

from dfz_ray.errors import IllegalTransition


class State(IntEnum):
    """Where a task stands. The numbers are what the journal stores."""

    PENDING = 0
    RUNNING = 1
    COMPLETED = 2
    FAILED = 3
    CANCELLED = 4

    @property
    def label(self) -> str:
        """The state as it is written outside the engine."""
        return self.name.lower()


class Happening(IntEnum):
    """What can happen to a task."""

    BEGAN = 0
    """A worker said that it began the task's chunk."""
    HANDED_BACK = 1
    """Its chunk ended without it: nothing was committed, and another attempt is due."""
    RESULT_COMMITTED = 2
    FAILURE_COMMITTED = 3
    CANCELLATION_COMMITTED = 4


TRANSITIONS: dict[tuple[State, Happening], State] = {
    (State.PENDING, Happening.BEGAN): State.RUNNING,
    (State.RUNNING, Happening.HANDED_BACK): State.PENDING,
    (State.RUNNING, Happening.RESULT_COMMITTED): State.COMPLETED,
    (State.RUNNING, Happening.FAILURE_COMMITTED): State.FAILED,
    (State.PENDING, Happening.FAILURE_COMMITTED): State.FAILED,  # it can never run: infeasible
    (State.PENDING, Happening.CANCELLATION_COMMITTED): State.CANCELLED,
    (State.RUNNING, Happening.CANCELLATION_COMMITTED): State.CANCELLED,
}

FINAL = frozenset({State.COMPLETED, State.FAILED, State.CANCELLED})
"""No event leads out of these."""

_NEXT = [[TRANSITIONS.get((state, happening), -1) for state in State] for happening in Happening]


class Lifecycle:
    """The state of every task of a run; `move` is the only way to change one."""

    def __init__(self, history: Callable[[], Any] = tuple) -> None:
        self._states = bytearray()
        self._history = history
        self.counts = [0] * len(State)
        """Tasks per state, in the order of State."""

    def __len__(self) -> int:
        return len(self._states)

    def add(self, count: int, settled: Mapping[int, int] = MappingProxyType({})) -> None:
        """Add tasks under the next numbers: PENDING, or in the final state that a journal says they are in."""
        self._states.extend(bytes(count))
        self.counts[State.PENDING] += count - len(settled)
        for number, state in settled.items():
            self._states[number] = state
            self.counts[state] += 1

    def get_state(self, number: int) -> State:
        """The state of one task."""
        return State(self._states[number])

    def move(self, numbers: Sequence[int], happening: Happening) -> None:
        """Let something happen to tasks.

        Raises:
            IllegalTransition: it can't happen to one of them; then none has changed.
        """
        states, following = self._states, _NEXT[happening]
        targets = [following[states[number]] for number in numbers]
        if -1 in targets:
            culprit = numbers[targets.index(-1)]
            raise IllegalTransition(culprit, self.get_state(culprit).label, happening.name.lower(), self._history())
        for number, target in zip(numbers, targets, strict=True):
            self.counts[states[number]] -= 1
            self.counts[target] += 1
            states[number] = target

    @property
    def open(self) -> int:
        """How many tasks are not in a final state."""
        return self.counts[State.PENDING] + self.counts[State.RUNNING]
