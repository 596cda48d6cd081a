"""Finds the first of many numbers whose ranks change all the time."""

from __future__ import annotations

import heapq

Rank = tuple[int, int, float]
"""Lower is earlier."""


class Ranking:
    """Numbers by rank; of several with the same rank the lowest number is first."""

    def __init__(self) -> None:
        self._ranks: dict[int, Rank] = {}
        self._heap: list[tuple[Rank, int]] = []
        """Some entries are void: the number has another rank by now, or none."""

    def put(self, number: int, rank: Rank) -> None:
        """Give a number its rank, in place of an earlier one."""
        if self._ranks.get(number) == rank:
            return
        self._ranks[number] = rank
        heapq.heappush(self._heap, (rank, number))
        if len(self._heap) > 4 * len(self._ranks) + 16:
            self._heap = [(rank, number) for number, rank in self._ranks.items()]
            heapq.heapify(self._heap)

    def remove(self, number: int) -> None:
        """Take a number out, if it is in."""
        self._ranks.pop(number, None)

    def clear(self) -> None:
        """Take all numbers out."""
        self._ranks.clear()
        self._heap.clear()

    def find_first(self) -> int | None:
        """The number with the lowest rank, if there is any."""
        while self._heap:
            rank, number = self._heap[0]
            if self._ranks.get(number) == rank:
                return number
            heapq.heappop(self._heap)
        return None
