"""What an audit looks at: one moment of a run, of which nothing is changed."""

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
from dfz_ray.journal.lock import is_held
from dfz_ray.journal.reader import UNREADABLE
from dfz_ray.journal.soundness import Seal, check_seal, find_other_schema, read_told_commits
from dfz_ray.journal.statements import STATEMENTS
from dfz_ray.protocol.columns import unpack


@dataclass(frozen=True)
class Evidence:
    """One moment of a run."""

    folder: RunFolder
    connection: sqlite3.Connection
    is_copy: bool
    """Whether the connection is to a copy of the journal."""
    seal: Seal
    told_commits: int | None
    """How many commits were on disk by what was told; None where that is not known."""

    def rows(self, statement: str) -> sqlite3.Cursor:
        """The rows that a statement of schema.sql finds."""
        return self.connection.execute(STATEMENTS[statement])

    def has_its_tables(self) -> bool:
        """Whether the tables are there that audits look at."""
        try:
            return not find_other_schema(self.connection)
        except UNREADABLE:
            return False

    @functools.cached_property
    def ids(self) -> list[str]:
        """The id of every task, by its number."""
        return [task_id for ids, _ in self.rows("read_names") for task_id in unpack(ids)]

    @functools.cached_property
    def kinds(self) -> array[int]:
        """The kind of every task, by its number."""
        return array("q", itertools.chain.from_iterable(unpack(kinds) for _, kinds in self.rows("read_names")))


def gather(run: RunFolder, at_end: contextlib.ExitStack) -> Evidence:
    """Take hold of a run as it is now.

    Args:
        run: its folder, which has a journal.
        at_end: lets go of it.

    Raises:
        sqlite3.Error, OSError: the journal can't be opened.
    """
    # Before the journal is looked at: whoever works on the run removes the one and raises the other meanwhile.
    seal, told = check_seal(run), read_told_commits(run)
    connection = run.connect("ro")
    at_end.callback(connection.close)
    must_copy = False
    try:
        connection.execute("BEGIN")
        connection.execute(STATEMENTS["read_schema"]).fetchall()
        # Without a WAL no commit is possible while someone reads, and an audit may take long.
        must_copy = connection.execute("PRAGMA journal_mode").fetchone() != ("wal",) and is_held(run.path)
    except UNREADABLE as error:
        # Only a writer can take back a commit that a crash has cut off.
        must_copy = getattr(error, "sqlite_errorname", "") == "SQLITE_READONLY_ROLLBACK"
    if must_copy:
        copy = RunFolder(Path(at_end.enter_context(tempfile.TemporaryDirectory(prefix="dfz_audit_"))))
        for file in run.path.glob(f"{run.database.name}*"):
            shutil.copy(file, copy.path)
        connection.close()
        connection = copy.connect("rw")
        at_end.callback(connection.close)
        connection.execute("BEGIN")
    return Evidence(run, connection, must_copy, seal, told)
