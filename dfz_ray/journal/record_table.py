"""All records of a run, each made when it is accessed."""

from __future__ import annotations

import functools
import itertools
from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, overload

from dfz_ray.journal.record import Record, TaskError, read_result
from dfz_ray.journal.schema import ATTEMPT_FAILED
from dfz_ray.protocol.columns import DIGEST_BYTES, TIMES, read_times, split_digests, unpack
from dfz_ray.specs.encoding import decode, run_digest
from dfz_ray.specs.states import STATES, State

if TYPE_CHECKING:
    import numpy as np

UNPACKED_CHUNKS = 64
"""The most chunks whose results are kept unpacked, for consecutive records are often of the same chunks."""


class CompletedChunk(NamedTuple):
    """The tasks of a chunk that completed, as columns. Their results are read on demand."""

    chunk: int
    tasks: bytes
    times: bytes
    digests: bytes


class UnsuccessfulAttempt(NamedTuple):
    """An attempt that ended without completing its task."""

    task: int
    chunk: int
    outcome: int
    began_at: float | None
    ended_at: float | None


class TableRows(NamedTuple):
    """The rows of a journal that records are made of, as the statements of schema.sql return them."""

    blocks: Sequence[tuple[bytes, bytes]]
    """Ids and kinds, in the order of submission."""
    completions: Sequence[CompletedChunk]
    results: Callable[[int], bytes]
    """Returns the column of results of a chunk, by its number."""
    others: Sequence[tuple[int, int, str, str, str | None]]
    """Number, state, reason, message and traceback of every task that ended without a result."""
    attempts: Sequence[UnsuccessfulAttempt]
    """In the order of tasks and chunks."""
    kinds: Sequence[tuple[str, str]]
    """Domain and name, by number."""
    nodes: Mapping[int, str]
    """By chunk: the host name of its worker's node."""


class RecordTable(Sequence[Record]):
    """The records of a run in the order of submission. `results` is the folder of large results."""

    def __init__(self, rows: TableRows, results: Path) -> None:
        self._rows = rows
        self._folder = results
        self._ids: list[str] = [task_id for ids, _ in rows.blocks for task_id in unpack(ids)]
        self._kinds = array("l", itertools.chain.from_iterable(unpack(kinds) for _, kinds in rows.blocks))
        self._loaded: dict[int, bytes] = {}
        """Large results in memory, by the number of their task."""
        self._results_of = functools.lru_cache(UNPACKED_CHUNKS)(lambda chunk: unpack(rows.results(chunk)))

    @functools.cached_property
    def counts(self) -> dict[str, int]:
        """Tasks per state. Every open task counts as pending."""
        found = Counter(state for _, state, *_ in self._rows.others)
        found[State.COMPLETED] = sum(len(chunk.digests) for chunk in self._rows.completions) // DIGEST_BYTES
        found[State.PENDING] = len(self._ids) - found.total()
        return {state.label: found[state] for state in State}

    @functools.cached_property
    def positions(self) -> dict[str, int]:
        """The position of every task, by its id."""
        return dict(zip(self._ids, range(len(self._ids)), strict=True))

    @property
    def spans(self) -> np.ndarray[Any, Any]:
        """Start and end of every execution that ended, in Unix seconds: shape (executions, 2), ordered by start."""
        import numpy as np  # importing it takes longer than showing the state of a run

        completed = [np.asarray(read_times(chunk.times)).reshape(-1, TIMES)[:, :2] for chunk in self._rows.completions]
        failed = [
            (one.began_at, one.ended_at)
            for one in self._rows.attempts
            if one.outcome == ATTEMPT_FAILED and one.began_at
        ]
        spans = np.concatenate([*completed, np.asarray(failed, dtype=float).reshape(-1, 2)])
        ordered: np.ndarray[Any, Any] = spans[np.argsort(spans[:, 0], kind="stable")]
        return ordered

    def digest(self) -> str:
        """The digest of the run, in hex; schema.sql defines it."""
        return run_digest(self.digests())

    def digests(self) -> Iterator[tuple[str, bytes]]:
        """The id and the digest of every completed task."""
        for chunk in self._rows.completions:
            for number, own in zip(unpack(chunk.tasks), split_digests(chunk.digests), strict=True):
                yield self._ids[number], own

    def unsuccessful(self) -> Iterator[Record]:
        """The records of tasks that ended without a result: failed and cancelled ones."""
        return map(self._make, self._others)

    def values(self) -> list[Any]:
        """The results of all tasks; None for each that did not complete."""
        values: list[Any] = [None] * len(self._ids)
        for chunk in self._rows.completions:
            for number, stored in zip(unpack(chunk.tasks), self._results_of(chunk.chunk), strict=True):
                content = self._find(number, stored)
                values[number] = decode(read_result(content) if isinstance(content, Path) else content)
        return values

    def __len__(self) -> int:
        return len(self._ids)

    def __iter__(self) -> Iterator[Record]:
        return map(self._make, range(len(self)))

    @overload
    def __getitem__(self, index: int) -> Record: ...
    @overload
    def __getitem__(self, index: slice) -> list[Record]: ...
    def __getitem__(self, index: int | slice) -> Record | list[Record]:
        numbers = range(len(self))[index]
        return self._make(numbers) if isinstance(numbers, int) else [self._make(number) for number in numbers]

    def load(self) -> None:
        """Read large results into memory, because the folder is about to be deleted."""
        for chunk in self._rows.completions:
            for number, stored in zip(unpack(chunk.tasks), self._results_of(chunk.chunk), strict=True):
                if isinstance(stored, str):
                    self._loaded[number] = read_result(self._folder / stored)

    def _find(self, number: int, stored: bytes | str) -> bytes | Path:
        """A result as MessagePack, or the file that holds it."""
        if isinstance(stored, bytes):
            return stored
        return self._loaded[number] if number in self._loaded else self._folder / stored

    @functools.cached_property
    def _places(self) -> tuple[array[int], array[int]]:
        """For every task the index of its completion, or -1, and its index within that."""
        chunks, places = array("l", [-1]) * len(self._ids), array("l", [0]) * len(self._ids)
        for at, chunk in enumerate(self._rows.completions):
            for place, number in enumerate(unpack(chunk.tasks)):
                chunks[number], places[number] = at, place
        return chunks, places

    @functools.cached_property
    def _others(self) -> dict[int, tuple[int, TaskError]]:
        return {
            number: (state, TaskError(reason, message, traceback))
            for number, state, reason, message, traceback in self._rows.others
        }

    @functools.cached_property
    def _attempts(self) -> dict[int, list[UnsuccessfulAttempt]]:
        return {number: list(own) for number, own in itertools.groupby(self._rows.attempts, lambda one: one.task)}

    def _make(self, number: int) -> Record:
        attempts = self._attempts.get(number, ())
        at = self._places[0][number]
        state, error = self._others.get(number, (State.PENDING, None))
        stored: bytes | Path | None = None
        chunk: int | None = None
        began: float | None = None
        ended: float | None = None
        if at >= 0:
            completed, place = self._rows.completions[at], self._places[1][number]
            state, chunk = State.COMPLETED, completed.chunk
            began, ended = read_times(completed.times[8 * TIMES * place : 8 * (TIMES * place + 2)])
            stored = self._find(number, self._results_of(chunk)[place])
        elif attempts:
            _, chunk, _, began, ended = attempts[-1]
        domain, name = self._rows.kinds[self._kinds[number]]
        return Record(
            task_id=self._ids[number],
            domain=domain,
            kind=name,
            status=STATES[state],
            stored_result=stored,
            error=error,
            attempts=len(attempts) + (at >= 0),
            start_time=began,
            end_time=ended,
            node=None if chunk is None else self._rows.nodes.get(chunk),
        )
