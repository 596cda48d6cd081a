"""The results of a run."""

from __future__ import annotations

import functools
import itertools
import math
import os
import shutil
import sys
import weakref
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, Self, overload

from dfz_ray.errors import InvalidInput, Problem, TasksFailed
from dfz_ray.journal.openings import read_pauses, read_slot_changes
from dfz_ray.journal.reader import JournalReader
from dfz_ray.journal.record import Record, json_value, read_result
from dfz_ray.journal.record_table import ChosenRecords, RecordTable, Row
from dfz_ray.specs.encoding import decode
from dfz_ray.specs.states import STATES

if TYPE_CHECKING:
    import pandas

SHOWN_CHARACTERS = 100


class Selection(Sequence[Record]):
    """Records of a run, in the order of submission, also by task id."""

    def __init__(self, records: ChosenRecords) -> None:
        self._chosen = records

    @functools.cached_property
    def counts(self) -> dict[str, int]:
        """The number of tasks in each state."""
        found = self._chosen.count_states()
        return {state: found[state] for state in STATES}

    @functools.cached_property
    def _positions(self) -> dict[str, int]:
        return {record.task_id: position for position, record in enumerate(self._chosen)}

    def select(self, state: str | None = None, domain: str | None = None, kind: str | None = None) -> Selection:
        """The records of tasks in a state, of a domain, of a kind; None means any.

        Raises:
            InvalidInput: there is no such state.
        """
        if state is not None and state not in STATES:
            raise InvalidInput([Problem("state", repr(state), f"one of {', '.join(STATES)}")], "select")
        wanted = [() if one is None else (one,) for one in (state, domain, kind)]
        return Selection(self._chosen.find(*wanted))

    def to_pandas(self) -> pandas.DataFrame:
        """A table with a row for each task, and a column `result.<key>` for each key of a result.

        Keys of one text have columns of their own: of 1 and "1" these are `result.1` and `result.'1'`.
        """
        import pandas

        return pandas.DataFrame(make_columns(self._chosen.rows()))

    def __contains__(self, key: object) -> bool:
        """True if there is a task of that id; or that record, as in any sequence."""
        return key in self._positions if isinstance(key, str) else key in self._chosen

    def __len__(self) -> int:
        return len(self._chosen)

    def __iter__(self) -> Iterator[Record]:
        return iter(self._chosen)

    @overload
    def __getitem__(self, key: str | int) -> Record: ...
    @overload
    def __getitem__(self, key: slice) -> Sequence[Record]: ...
    def __getitem__(self, key: str | int | slice) -> Record | Sequence[Record]:
        """A record by its task's id (KeyError if there is none) or by position; a slice of records."""
        return self._chosen[self._positions[key] if isinstance(key, str) else key]

    def __copy__(self) -> Self:
        """Records do not change: a copy is the same object."""
        return self

    def __deepcopy__(self, memo: object) -> Self:
        """Records do not change: a copy is the same object."""
        return self

    def __reduce__(self) -> NoReturn:
        """Raise TypeError: another process may not see the run folder, or find it removed."""
        raise TypeError(
            f"{type(self).__name__} can't be pickled, for they are read from the run folder when they are looked at: "
            "pickle list(...) of them, or for large results [record.result for record in ...]"
        )

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self._describe()}>"

    def _describe(self) -> str:
        """The outcome in one line."""
        counts = ", ".join(f"{count} {state}" for state, count in self.counts.items() if count) or "no tasks"
        failed = self.counts["failed"] and self._chosen.find(("failed",))[0]
        return f"{counts}; first failed: {failed.task_id}: {_first_line(str(failed.error))}" if failed else counts


class Results(Selection):
    """The results of a run: the records of its tasks, and their metrics.

    They are read from the run folder when they are looked at. A temporary folder is removed with its Results, and the
    records of large results that were taken from them.

    Args:
        records: all records of the run.
        slots: the number of tasks that could execute at once, at the beginning.
        run_dir: the run folder; None if it was temporary and every task completed.
        changes: for each opening of the run, and each change of the number of slots, its time, in Unix seconds, and the
            number from then on.
        pauses: begin and end, in Unix seconds, of each time when no driver had the run open.
    """

    def __init__(
        self,
        records: RecordTable,
        slots: float,
        run_dir: str | None,
        changes: Sequence[tuple[float, int]] = (),
        pauses: Sequence[tuple[float, float]] = (),
    ) -> None:
        super().__init__(ChosenRecords(records, range(len(records))))
        self._records = records
        self._slots = slots
        self.slot_changes = changes
        self._pauses = pauses
        self.run_dir = run_dir
        self.counts = records.counts

    @property
    def _positions(self) -> dict[str, int]:
        return self._records.positions

    @functools.cached_property
    def metrics(self) -> dict[str, Any]:
        """The metrics of the run; see `dfz_ray.journal.metrics.compute_metrics`."""
        from dfz_ray.journal.metrics import compute_metrics

        return compute_metrics(self._records.spans, self.counts, self._slots, self.slot_changes, self._pauses)

    @functools.cached_property
    def digest(self) -> str:
        """SHA-256 over the completed results, in hex; equal digests mean equal results."""
        return self._records.digest()

    def values(self) -> list[Any]:
        """The results alone, not records: what the tasks have returned, in the order of submission.

        All else here gives records: iterating, `[...]`, `select`.

        Raises:
            TasksFailed: a task did not complete.
        """
        if self.counts["completed"] < len(self):
            other = [state for state in STATES if state != "completed"]
            first = self._records.find(other)[0]
            raise TasksFailed(self.counts, (first.task_id, str(first.error or first.status)), self.run_dir or "")
        return self._records.values()

    def _describe(self) -> str:
        seconds = self.metrics["total_duration"]
        took = f" in {seconds:.2f} s" if seconds is not None else ""
        kept = f"; {self.run_dir}" if self.run_dir else ""
        counts, *failed = super()._describe().partition("; ")
        return f"{counts}{took}{''.join(failed)}{kept}"


def _first_line(text: str) -> str:
    line = text.partition("\n")[0]
    return line if len(line) <= SHOWN_CHARACTERS else f"{line[:SHOWN_CHARACTERS]}..."


def read_results(folder: Path, temporary: bool = False) -> Results:
    """The results of a run that has ended, from its folder, which stays.

    A temporary folder whose tasks all completed is removed when the Results are, or when the process ends.
    """
    with JournalReader(folder) as journal:
        records, slots = journal.table(), int(journal.meta["slots"])
        changes, pauses = read_slot_changes(journal), read_pauses(journal)
    keep = not temporary or records.counts["completed"] < len(records)
    results = Results(records, slots, str(folder) if keep else None, changes, pauses)
    if not keep:
        # Each selection of the records has the table, too.
        weakref.finalize(records, _remove, folder, os.getpid())
    elif temporary:
        print(f"not all tasks completed; the run is kept in {folder}", file=sys.stderr)
    return results


def _remove(folder: Path, process: int) -> None:
    """Remove a temporary folder, in the process that has made it: a fork of it ends without that."""
    if os.getpid() == process:
        shutil.rmtree(folder, ignore_errors=True)


def make_columns(rows: Iterable[Row]) -> dict[str, list[Any]]:
    """The columns of a table with a row for each record, and a column `result.<key>` for each key of a result."""
    columns: dict[str, list[Any]] = {}
    fields = list(zip(*rows, strict=True)) or [()] * FIELDS
    ids, domains, kinds, states, stored, errors, attempts, begun, ended, nodes = map(list, fields)
    results = [None if one is None else decode(read_result(one) if isinstance(one, Path) else one) for one in stored]
    of_keys: dict[tuple[Any, ...], list[int]] = {}
    """By the keys of results that are mappings, the positions of those results."""
    others: list[int] = []
    for position, result in enumerate(results):
        if isinstance(result, dict):
            of_keys.setdefault(tuple(result), []).append(position)
        else:
            others.append(position)
    size = len(results)
    columns |= {"task_id": ids, "domain": domains, "kind": kinds, "status": states}
    if others:
        columns["result"] = [math.nan] * size
        for position in others:
            columns["result"][position] = json_value(results[position])
    columns |= {
        "error": [str(error) if error else None for error in errors],
        "attempts": attempts,
        "start_time": begun,
        "end_time": ended,
        "duration": [
            None if end is None or begin is None else end - begin for begin, end in zip(begun, ended, strict=True)
        ],
        "node": nodes,
    }
    named: dict[str, set[Any]] = {}
    for key in itertools.chain.from_iterable(of_keys):
        named.setdefault(str(key), set()).add(key)
    for keys, positions in of_keys.items():
        whole = len(positions) == size
        chosen = results if whole else [results[position] for position in positions]
        columns_here = zip(*[one.values() for one in chosen if one is not None], strict=True)
        for key, values in zip(keys, columns_here, strict=True):
            name = f"result.{key}" if len(named[str(key)]) == 1 else f"result.{key!r}"
            if whole:
                columns[name] = list(values)
                continue
            column = columns.setdefault(name, [math.nan] * size)
            for position, value in zip(positions, values, strict=True):
                column[position] = value
    return columns


FIELDS = 10
"""The number of fields of a record."""
