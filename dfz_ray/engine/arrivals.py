"""Tasks that were submitted, by kind."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from dfz_ray.engine.consecutive import find_range
from dfz_ray.engine.messages import TasksSubmitted


def sort_by_kind(event: TasksSubmitted, first: int) -> dict[int, Sequence[int]]:
    """The tasks that are open, by kind, where the first one has that number."""
    kinds = set(event.kind_of)
    if len(kinds) == 1 and not event.settled:
        return {kinds.pop(): range(first, first + len(event.kind_of))}
    end = first + len(event.kind_of)
    by_kind: defaultdict[int, list[int]] = defaultdict(list)
    for number, kind_number in enumerate(event.kind_of, first):
        if number not in event.settled:
            by_kind[kind_number].append(number)
    return {kind_number: find_range(numbers, end) or numbers for kind_number, numbers in by_kind.items()}
