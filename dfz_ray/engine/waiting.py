"""The tasks of one kind that wait, in the order in which they are due."""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Collection, Iterator, Sequence
from itertools import chain

PART_TASKS = 4_096
"""Numbers that do not follow each other are kept in parts of that size: taking from a part copies the rest of it."""


class Waiting:
    """Numbers of tasks; numbers that follow each other are kept as one range, which saves memory."""

    def __init__(self) -> None:
        self._parts: deque[range | array[int]] = deque()
        self.count = 0

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[int]:
        return chain.from_iterable(self._parts)

    def append(self, numbers: Sequence[int]) -> None:
        """Add tasks behind the others."""
        parts = self._parts
        last = parts[-1] if parts else None
        self.count += len(numbers)
        if isinstance(numbers, range):
            if isinstance(last, range) and last.stop == numbers.start:
                parts[-1] = range(last.start, numbers.stop)
            else:
                parts.append(numbers)
            return
        begun = 0
        if isinstance(last, array) and len(last) < PART_TASKS:
            begun = PART_TASKS - len(last)
            last.extend(numbers[:begun])
        parts.extend(_split(numbers[begun:]))

    def appendleft(self, numbers: Sequence[int]) -> None:
        """Add tasks before the others; they keep their order among each other."""
        self.count += len(numbers)
        self._parts.extendleft(reversed(_split(numbers)))

    def take(self, count: int) -> list[int]:
        """Take out so many of the first tasks."""
        taken: list[int] = []
        parts = self._parts
        while (missing := count - len(taken)) > 0:
            part = parts[0]
            taken.extend(part[:missing])
            if len(part) <= missing:
                parts.popleft()
            else:
                parts[0] = part[missing:]
        self.count -= count
        return taken

    def remove(self, numbers: Collection[int]) -> list[int]:
        """Take out those of these tasks that wait; returns the tasks that it found."""
        gone = [number for number in self if number in numbers]
        if gone:
            rest = [number for number in self if number not in numbers]
            self.clear()
            self.append(rest)
        return gone

    def clear(self) -> None:
        """Take out all tasks."""
        self._parts.clear()
        self.count = 0


def _split(numbers: Sequence[int]) -> list[array[int]]:
    return [array("q", numbers[first : first + PART_TASKS]) for first in range(0, len(numbers), PART_TASKS)]
