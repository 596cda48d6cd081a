"""Numbers that follow each other: many things are done with a range at once."""

from __future__ import annotations

from collections.abc import Sequence


def find_range(numbers: Sequence[int], end: int) -> range | None:
    """The range of these numbers, where each is one more than the one before it, and all are from 0 to below an end."""
    if not numbers or numbers[-1] - numbers[0] != len(numbers) - 1 or numbers[0] < 0 or numbers[-1] >= end:
        return None
    found = range(numbers[0], numbers[-1] + 1)
    return found if numbers == found or list(numbers) == list(found) else None
