"""Three algorithms that sort a list; each counts its comparisons and its moves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Effort:
    """The effort of sorting a list."""

    comparisons: int
    """How many times two elements were compared by `<`."""
    moves: int
    """How many times an element was written to a place of the list or of the buffer."""


def quicksort(values: list[int]) -> Effort:
    """Sort in place around pivots: Hoare's partition, with the median of first, middle and last element.

    So lists that are sorted already, in either direction, or full of equal elements are divided in halves, and not one
    by one. The smaller part is sorted first while the larger one waits, so that no more than log2(n) parts wait.
    """
    comparisons = moves = 0
    waiting = [(0, len(values) - 1)]
    while waiting:
        first, last = waiting.pop()
        while first < last:
            pivot, compared = _median_of_three(values[first], values[(first + last) // 2], values[last])
            comparisons += compared
            left, right = first, last
            while left <= right:
                while values[left] < pivot:
                    left += 1
                    comparisons += 1
                while pivot < values[right]:
                    right -= 1
                    comparisons += 1
                comparisons += 2  # the two that ended the loops
                if left <= right:
                    if left < right:
                        values[left], values[right] = values[right], values[left]
                        moves += 2
                    left += 1
                    right -= 1
            if right - first < last - left:
                waiting.append((left, last))
                last = right
            else:
                waiting.append((first, right))
                first = left
    return Effort(comparisons, moves)


def _median_of_three(one: int, two: int, three: int) -> tuple[int, int]:
    """The middle one of three, and the number of comparisons that it took."""
    if two < one:
        one, two = two, one
    if not three < two:
        return two, 2
    return (one if three < one else three), 3


def mergesort(values: list[int]) -> Effort:
    """Sort by merging neighbouring runs of 1, 2, 4, ... elements, to and fro between the list and a buffer."""
    count = len(values)
    comparisons = moves = 0
    source, target = values, [0] * count
    width = 1
    while width < count:
        for start in range(0, count, 2 * width):
            left, middle = start, min(start + width, count)
            right, end = middle, min(start + 2 * width, count)
            place = start
            while left < middle and right < end:
                comparisons += 1
                if source[right] < source[left]:
                    target[place] = source[right]
                    right += 1
                else:
                    target[place] = source[left]
                    left += 1
                place += 1
            for rest in (*range(left, middle), *range(right, end)):
                target[place] = source[rest]
                place += 1
            moves += end - start
        source, target = target, source
        width *= 2
    if source is not values:
        for place in range(count):
            values[place] = source[place]
        moves += count
    return Effort(comparisons, moves)


def heapsort(values: list[int]) -> Effort:
    """Sort in place: make a heap whose root is the largest element, and move the root to the end, again and again."""
    count = len(values)
    comparisons = moves = 0
    for start in reversed(range(count // 2)):
        more = _sift_down(values, values[start], start, count)
        comparisons, moves = comparisons + more[0], moves + more[1]
    for end in reversed(range(1, count)):
        sunk = values[end]
        values[end] = values[0]
        more = _sift_down(values, sunk, 0, end)
        comparisons, moves = comparisons + more[0], moves + more[1] + 1
    return Effort(comparisons, moves)


def _sift_down(values: list[int], sunk: int, place: int, end: int) -> tuple[int, int]:
    """Put an element into its place of the heap, at `place` or below; returns comparisons and moves."""
    comparisons = moves = 0
    while (child := 2 * place + 1) < end:
        if child + 1 < end:
            comparisons += 1
            if values[child] < values[child + 1]:
                child += 1
        comparisons += 1
        if not sunk < values[child]:
            break
        values[place] = values[child]
        moves += 1
        place = child
    values[place] = sunk
    return comparisons, moves + 1


ALGORITHMS: dict[str, Callable[[list[int]], Effort]] = {
    "quicksort": quicksort,
    "mergesort": mergesort,
    "heapsort": heapsort,
}
