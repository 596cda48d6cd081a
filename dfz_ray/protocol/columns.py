"""Tasks, and their results, as columns: so they travel and are stored many at a time. schema.sql has the format.

A row for each task and attempt cost the manager four times as much. A column stays below some 64 MiB, because a value
of SQLite ends at 10^9 bytes.
"""

from __future__ import annotations

import itertools
import sys
from array import array
from collections.abc import Collection, Sequence
from operator import sub
from typing import Any, NamedTuple, Self

import msgpack

from dfz_ray.errors import JournalDamaged

TIMES = 3
"""Floats for each task: start, end, CPU time."""
TIMES_BYTES = 8 * TIMES
DIGEST_BYTES = 32


def pack(values: Sequence[Any]) -> bytes:
    """One value for each task, as a MessagePack array."""
    packed: bytes = msgpack.packb(values)
    return packed


def unpack(column: bytes) -> list[Any]:
    """The values of a column.

    Raises:
        JournalDamaged: it is not a column.
    """
    try:
        values = msgpack.unpackb(column)
    except (ValueError, TypeError) as error:
        raise JournalDamaged(f"a column can't be unpacked: {error}") from None
    if not isinstance(values, list):
        raise JournalDamaged(f"a column is no array: {type(values).__name__}")
    return values


def unpack_works(column: bytes) -> list[tuple[int, bytes]]:
    """Seeds and parameters, in tuples: the garbage collector need not look at them, as it does at lists."""
    works: tuple[tuple[int, bytes], ...] = msgpack.unpackb(column, use_list=False)
    return list(works)


NO_WORK = (0, b"")
"""Stands in for the seed and the parameters of a task that is final."""


class TaskColumns(NamedTuple):
    """Tasks that were submitted together."""

    tasks: int
    """The number of tasks."""
    ids: bytes
    kinds: bytes
    works: bytes
    descriptions: bytes

    @classmethod
    def of(cls, ids: Sequence[str], kinds: Sequence[int], works: Sequence[Any], descriptions: Sequence[str]) -> Self:
        """The columns of tasks: id, number of the kind, seed and parameters, description."""
        return cls(len(ids), pack(ids), pack(kinds), pack(works), pack(descriptions))


NO_TASKS = TaskColumns.of((), (), (), ())


class Completions(NamedTuple):
    """The tasks of a chunk that completed."""

    tasks: bytes
    times: bytes
    results: bytes
    digests: bytes

    @classmethod
    def of(cls, executions: Sequence[tuple[Any, ...]]) -> Completions:
        """The columns of executions: number, start, end, CPU time, result (or the name of its file), digest."""
        if not executions:
            return NOTHING_COMPLETED
        numbers, began, ended, cpu, results, digests, *_ = zip(*executions, strict=True)
        times = array("d", itertools.chain.from_iterable(zip(began, ended, cpu, strict=True)))
        return cls(pack(numbers), _little_endian(times).tobytes(), pack(results), b"".join(digests))

    def numbers(self) -> list[int]:
        """The tasks' numbers."""
        return unpack(self.tasks)

    def durations_s(self) -> list[float]:
        """The run time of each task."""
        times = read_times(self.times)
        return list(map(sub, times[1::TIMES], times[0::TIMES]))

    def cpu_s(self) -> float:
        """The CPU time of all tasks together."""
        return sum(read_times(self.times)[2::TIMES])

    def rows(self) -> list[tuple[int, float, float, float, bytes | str, bytes]]:
        """The executions, as `of` took them."""
        times = read_times(self.times)
        columns = self.numbers(), times[0::TIMES], times[1::TIMES], times[2::TIMES], unpack(self.results)
        return list(zip(*columns, split_digests(self.digests), strict=True))

    def only(self, numbers: Collection[int]) -> Completions:
        """The completions of these tasks alone."""
        return Completions.of([row for row in self.rows() if row[0] in numbers])


NOTHING_COMPLETED = Completions(pack([]), b"", pack([]), b"")


def read_times(column: bytes) -> array[float]:
    """Three floats for each task, one after the other."""
    times = array("d")
    times.frombytes(column)
    return _little_endian(times)


def split_digests(column: bytes) -> list[bytes]:
    """The digest of each task."""
    return [column[at : at + DIGEST_BYTES] for at in range(0, len(column), DIGEST_BYTES)]


def _little_endian(floats: array[float]) -> array[float]:
    if sys.byteorder == "big":
        floats.byteswap()
    return floats
