"""Reading a run's journal, also while it is being written."""

from __future__ import annotations

import contextlib
import itertools
import sqlite3
from collections.abc import Iterator
from operator import itemgetter
from pathlib import Path
from typing import Any

from dfz_ray.errors import JournalDamaged
from dfz_ray.journal.folder import RunFolder
from dfz_ray.journal.record import Record, TaskError
from dfz_ray.journal.statements import STATEMENTS, VERSION
from dfz_ray.specs.encoding import run_digest

STATES = ("pending", "running", "completed", "failed", "cancelled")
"""As they are written outside the engine, in the order of the journal's numbers."""


class JournalReader:
    """A read-only view of a run folder; a context manager.

    Raises:
        JournalDamaged: there is no journal, or it can't be read, or it is of another schema.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = RunFolder(folder)
        self._connection = open_journal(self._folder, "ro")
        self.meta: dict[str, str] = dict(self._rows("get_meta"))

    def __enter__(self) -> JournalReader:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file."""
        self._connection.close()

    def counts(self) -> dict[str, int]:
        """Tasks per state; what is not final counts as pending, for only the manager knows what runs."""
        found = dict(self._rows("count_states"))
        return {state: found.get(number, 0) for number, state in enumerate(STATES)}

    def domains(self) -> list[str]:
        """The names of the domains that the run's tasks are of."""
        return [name for (name,) in self._rows("read_domains")]

    def shapes(self) -> list[str]:
        """The resources (JSON) of the run's kinds, each once."""
        return sorted({resources for _, _, resources in self._rows("read_kinds")})

    def records(self) -> Iterator[Record]:
        """Every task, in the order of submission."""
        attempts = itertools.groupby(self._rows("read_attempts"), key=itemgetter(0))
        current: tuple[int, list[Any]] | None = None
        for number, *row in self._rows("read_records"):
            while current is None or current[0] < number:
                group = next(attempts, None)
                current = (group[0], list(group[1])) if group else (2**63, [])
            yield self._record(row, current[1] if current[0] == number else [])

    def _record(self, row: list[Any], attempts: list[Any]) -> Record:
        task_id, domain, kind, state, result, file, reason, message, traceback = row
        began, ended, node = attempts[-1][2:] if attempts else (None, None, None)
        return Record(
            task_id=task_id,
            domain=domain,
            kind=kind,
            status=STATES[state or 0],
            stored_result=self._folder.results / file if file else result,
            error=TaskError(reason, message, traceback) if reason else None,
            attempts=len(attempts),
            start_time=began,
            end_time=ended,
            node=node,
        )

    def digest(self) -> str:
        """The digest of the run, in hex; schema.sql says over what."""
        return run_digest(self._rows("read_digests"))

    def spans(self) -> list[tuple[float, float]]:
        """Start and end of every execution that ended, in the order of their start, in Unix seconds."""
        return list(self._rows("read_spans"))

    def _rows(self, statement: str) -> Iterator[Any]:
        try:
            # `yield from` would close the cursor in the end, also that of a reader which has been closed before.
            for row in self._connection.execute(STATEMENTS[statement]):  # noqa: UP028
                yield row
        except sqlite3.Error as error:
            raise _unreadable(self._folder, error) from error


def open_journal(folder: RunFolder, mode: str) -> sqlite3.Connection:
    """A connection to a run's journal, which must exist.

    Args:
        folder: the run folder.
        mode: `ro`, or `rw` for the one who works on the run.

    Raises:
        JournalDamaged: there is no journal, or it can't be read, or it is of another schema.
    """
    if not folder.database.is_file():
        raise JournalDamaged(f"{folder.path} is no run folder: it has no run.sqlite")
    with contextlib.ExitStack() as on_failure:
        try:
            connection = folder.connect(mode)
            on_failure.callback(connection.close)
            version = dict(connection.execute(STATEMENTS["get_meta"])).get("schema_version")
            page_bytes = connection.execute("PRAGMA page_size").fetchone()[0]
        except sqlite3.Error as error:
            raise _unreadable(folder, error) from error
        if version != str(VERSION):
            raise JournalDamaged(f"{folder.path} has schema {version}; this dfz_ray reads schema {VERSION}")
        if not folder.has_log() and folder.database.stat().st_size % page_bytes:  # SQLite would read zeros for the rest
            raise JournalDamaged(f"{folder.database} is cut short: it ends in the middle of a page")
        on_failure.pop_all()
        return connection


def _unreadable(folder: RunFolder, error: sqlite3.Error) -> JournalDamaged:
    why: object = error
    if getattr(error, "sqlite_errorname", "") == "SQLITE_READONLY_ROLLBACK":
        why = "a crash cut its last commit off; it can be read again once the run has been opened for work"
    return JournalDamaged(f"{folder.database} can't be read: {why}")
