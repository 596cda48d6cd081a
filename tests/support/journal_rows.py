"""Rows of a journal for tests: tasks and completions in columns, as a manager gets them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

from dfz_ray.journal.recovery import Recovered
from dfz_ray.journal.writer import Group
from dfz_ray.protocol.columns import NO_WORK, Completions, pack
from dfz_ray.specs.encoding import digest, encode

Row = tuple[Any, ...]

TIMES = (4.0, 5.5, 1.25)
"""Start, end and CPU time of a completed task, by default."""


def block(first: int, ids: Sequence[str], parameters: Sequence[Any] = (), batch: int = 0, description: str = "") -> Row:
    """Tasks of kind 0, of seeds 1000, 1001, ...; a number of flips where no parameters are given."""
    numbers = range(first, first + len(ids))
    given = parameters or [{"flips": number} for number in numbers]
    works = [(1000 + number, encode(own)) for number, own in zip(numbers, given, strict=True)]
    columns = ids, [0] * len(ids), works, [description] * len(ids)
    return (first, len(ids), batch, *map(pack, columns))


def completion(
    chunk: int, results: Mapping[int, Any], times: Sequence[float] = TIMES, volatile: frozenset[str] = frozenset()
) -> Row:
    """The completed tasks of a chunk: number and result."""
    rows = [(number, *times, encode(result), digest(result, volatile)) for number, result in results.items()]
    return (chunk, *Completions.of(rows))


def together(*groups: Group) -> Group:
    """One group with the rows of them all."""
    whole = Group()
    for group in groups:
        for table in fields(Group):
            getattr(whole, table.name).extend(getattr(group, table.name))
    return whole


def open_tasks(recovered: Recovered) -> list[int]:
    """The tasks that a run goes on with: there is work for exactly those that have no outcome."""
    found = [number for number in range(len(recovered.kind_of)) if number not in recovered.settled]
    assert found == [number for number, work in enumerate(recovered.works) if work != NO_WORK]
    return found
