"""All records of a run in memory, each made when it is looked at."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, overload

from dfz_ray.journal.record import STATES, Record, TaskError
from dfz_ray.specs.encoding import run_digest


class TableRows(NamedTuple):
    """What a journal says of all tasks, as the statements of schema.sql give it."""

    tasks: list[tuple[Any, ...]]
    """Id, kind, state, result, file, digest, reason, message, traceback; in the order of submission."""
    attempts: list[tuple[Any, ...]]
    """Task, chunk, outcome, start, end; in the order of tasks and chunks."""
    kinds: list[tuple[str, str]]
    """Domain and name, by number."""
    nodes: Mapping[int, str]
    """By chunk: the host name of its worker's node."""


class RecordTable(Sequence[Record]):
    """The records of a run in the order of submission.

    Args:
        rows: what the journal says.
        results: the folder of large results.
    """

    def __init__(self, rows: TableRows, results: Path) -> None:
        self._rows = rows
        self._results = results
        self._last = {row[0]: row for row in rows.attempts}
        several = len(rows.attempts) > len(self._last)
        self._attempts = Counter(row[0] for row in rows.attempts) if several else None
        self._records: list[Record | None] = [None] * len(rows.tasks)

    @property
    def counts(self) -> dict[str, int]:
        """Tasks per state; what is not final counts as pending."""
        found = Counter(row[2] or 0 for row in self._rows.tasks)
        return {state: found.get(number, 0) for number, state in enumerate(STATES)}

    @property
    def positions(self) -> dict[str, int]:
        """The position of every task, by its id."""
        return {row[0]: position for position, row in enumerate(self._rows.tasks)}

    @property
    def spans(self) -> list[tuple[float, float]]:
        """Start and end of every execution that ended, in the order of their start, in Unix seconds."""
        return sorted((row[3], row[4]) for row in self._rows.attempts if row[2] <= 1 and row[3] is not None)

    def digest(self) -> str:
        """The digest of the run, in hex; schema.sql says over what."""
        return run_digest((row[0], row[5]) for row in self._rows.tasks if row[5] is not None)

    def __len__(self) -> int:
        return len(self._records)

    @overload
    def __getitem__(self, index: int) -> Record: ...
    @overload
    def __getitem__(self, index: slice) -> list[Record]: ...
    def __getitem__(self, index: int | slice) -> Record | list[Record]:
        if isinstance(index, slice):
            return [self[position] for position in range(*index.indices(len(self)))]
        record = self._records[index]
        if record is None:
            record = self._records[index] = self._make(range(len(self))[index])
        return record

    def load(self) -> None:
        """Take large results into memory: the folder is about to go."""
        for position, row in enumerate(self._rows.tasks):
            if row[4] is not None:
                self._records[position] = self[position].loaded()

    def _make(self, position: int) -> Record:
        task_id, kind, state, result, file, _, reason, message, traceback = self._rows.tasks[position]
        domain, name = self._rows.kinds[kind]
        _, chunk, _, began, ended = self._last.get(position, (position, None, None, None, None))
        many = self._attempts[position] if self._attempts is not None else int(chunk is not None)
        return Record(
            task_id=task_id,
            domain=domain,
            kind=name,
            status=STATES[state or 0],
            stored_result=self._results / file if file else result,
            error=TaskError(reason, message, traceback) if reason else None,
            attempts=many,
            start_time=began,
            end_time=ended,
            node=self._rows.nodes.get(chunk) if chunk is not None else None,
        )
