"""The state of every task, and the one table of the transitions between states."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from enum import IntEnum
from types import MappingProxyType
from typing import Any

from dfz_ray.errors import IllegalTransition
from dfz_ray.specs.states import FINAL, State, count_final


class Transition(IntEnum):
    """An event in the life of a task."""

    BEGAN = 0
    """A worker reported that it began the task's chunk."""
    HANDED_BACK = 1
    """Its chunk ended without it: nothing was committed, and another attempt is due."""
    RESULT_COMMITTED = 2
    FAILURE_COMMITTED = 3
    CANCELLATION_COMMITTED = 4


TRANSITIONS: dict[tuple[State, Transition], State] = {
    (State.PENDING, Transition.BEGAN): State.RUNNING,
    (State.RUNNING, Transition.HANDED_BACK): State.PENDING,
    (State.RUNNING, Transition.RESULT_COMMITTED): State.COMPLETED,
    (State.RUNNING, Transition.FAILURE_COMMITTED): State.FAILED,
    (State.PENDING, Transition.FAILURE_COMMITTED): State.FAILED,  # it can never run: infeasible
    (State.PENDING, Transition.CANCELLATION_COMMITTED): State.CANCELLED,
    (State.RUNNING, Transition.CANCELLATION_COMMITTED): State.CANCELLED,
}

COMMITS = {target: transition for (_, transition), target in TRANSITIONS.items() if target in FINAL}
"""For each final state: the transition that leads there when it is committed."""

_NEXT = [[int(TRANSITIONS.get((state, transition), -1)) for state in State] for transition in Transition]
_SOURCES = [frozenset(int(source) for source, known in TRANSITIONS if known == one) for one in Transition]


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
        """Add tasks under the next numbers: PENDING, or in the final state that a journal gives."""
        self._states.extend(bytes(count))
        self.counts[State.PENDING] += count - len(settled)
        for number, state in settled.items():
            self._states[number] = state
            self.counts[state] += 1

    def get_state(self, number: int) -> State:
        """The state of one task."""
        return State(self._states[number])

    def move(self, numbers: Sequence[int], transition: Transition) -> None:
        """Move tasks to the state that follows.

        Raises:
            IllegalTransition: one of them can't make this transition; then none has changed.
        """
        states, following = self._states, _NEXT[transition]
        run = find_range(numbers, len(states)) if len(numbers) > 1 else None
        sources = set(map(states.__getitem__, numbers) if run is None else states[run.start : run.stop])
        if not sources <= _SOURCES[transition]:
            culprit = next(number for number in numbers if following[states[number]] < 0)
            raise IllegalTransition(culprit, self.get_state(culprit).label, transition.name.lower(), self._history())
        if len(sources) > 1:
            for number in set(numbers):
                self._count(states[number], following[states[number]], 1)
                states[number] = following[states[number]]
            return
        for source in sources:
            target = following[source]
            if run is None:
                self._count(source, target, len(set(numbers)))
                for number in numbers:
                    states[number] = target
            else:
                self._count(source, target, len(run))
                states[run.start : run.stop] = bytes((target,)) * len(run)

    def _count(self, source: int, target: int, tasks: int) -> None:
        self.counts[source] -= tasks
        self.counts[target] += tasks

    def find_open(self) -> set[int]:
        """The tasks that are not in a final state."""
        return {number for number, state in enumerate(self._states) if state not in FINAL}

    @property
    def open(self) -> int:
        """The number of tasks that are not in a final state."""
        return len(self) - count_final(self.counts)


def find_range(numbers: Sequence[int], end: int) -> range | None:
    """These numbers as a range, if each is one more than the one before it and all are from 0 to below `end`.

    A range is handled as a whole, which takes far less time than number by number.
    """
    if not numbers or numbers[-1] - numbers[0] != len(numbers) - 1 or numbers[0] < 0 or numbers[-1] >= end:
        return None
    found = range(numbers[0], numbers[-1] + 1)
    return found if numbers == found or list(numbers) == list(found) else None
