"""A read-only view of a run at one moment, for the audit."""

from __future__ import annotations

import contextlib
import functools
import itertools
import shutil
import sqlite3
import tempfile
from array import array
from dataclasses import dataclass
from pathlib import Path

from dfz_ray.journal.folder import RunFolder
from dfz_ray.journal.integrity import find_other_schema
from dfz_ray.journal.journal_file import UNREADABLE
from dfz_ray.journal.lock import is_held
from dfz_ray.journal.run_status import read_acknowledged_commits
from dfz_ray.journal.schema import STATEMENTS
from dfz_ray.journal.seal import Seal, check_seal
from dfz_ray.protocol.columns import unpack


@dataclass(frozen=True)
class RunSnapshot:
    """A run at one moment."""

    folder: RunFolder
    connection: sqlite3.Connection
    is_copy: bool
    """True if the connection reads a copy of the journal."""
    seal: Seal
    acknowledged_commits: int | None
    """How many commits the status file reports as being on disk; None if it reports nothing."""

    def query(self, statement: str) -> sqlite3.Cursor:
        """The rows that a statement of schema.sql finds."""
        return self.connection.execute(STATEMENTS[statement])

    def has_known_tables(self) -> bool:
        """True if the journal has exactly the tables of schema.sql."""
        try:
            return not find_other_schema(self.connection)
        except UNREADABLE:
            return False

    @functools.cached_property
    def ids(self) -> list[str]:
        """The id of every task, by its number."""
        return [task_id for ids, _ in self.query("read_names") for task_id in unpack(ids)]

    @functools.cached_property
    def kinds(self) -> array[int]:
        """The kind of every task, by its number."""
        return array("q", itertools.chain.from_iterable(unpack(kinds) for _, kinds in self.query("read_names")))


def take_snapshot(run: RunFolder, at_end: contextlib.ExitStack) -> RunSnapshot:
    """Read a run, which has a journal, as it is now; nothing is changed. Leaving `at_end` releases the snapshot.

    Raises sqlite3.Error or OSError if the journal can't be opened.
    """
    # Read these before the journal: a process that works on the run may remove the seal and raise the number meanwhile.
    seal, acknowledged = check_seal(run), read_acknowledged_commits(run.path)
    connection = run.connect("ro")
    at_end.callback(connection.close)
    must_copy = False
    try:
        connection.execute("BEGIN")
        connection.execute(STATEMENTS["read_schema"]).fetchall()
        # Without a WAL nobody can commit while someone reads, and an audit may take long.
        must_copy = connection.execute("PRAGMA journal_mode").fetchone() != ("wal",) and is_held(run.path)
    except UNREADABLE as error:
        # Only a writer can roll back a commit that a crash cut off.
        must_copy = getattr(error, "sqlite_errorname", "") == "SQLITE_READONLY_ROLLBACK"
    if must_copy:
        copy = RunFolder(Path(at_end.enter_context(tempfile.TemporaryDirectory(prefix="dfz_audit_"))))
        for file in run.path.glob(f"{run.database.name}*"):
            shutil.copy(file, copy.path)
        connection.close()
        connection = copy.connect("rw")
        at_end.callback(connection.close)
        connection.execute("BEGIN")
    return RunSnapshot(run, connection, must_copy, seal, acknowledged)
