"""Opening the file of a run's journal, and refusing one that is missing, cut short, or of another schema."""

from __future__ import annotations

import contextlib
import os
import sqlite3

from dfz_ray.errors import JournalDamaged, RunFolderRefused
from dfz_ray.journal.folder import RunFolder
from dfz_ray.journal.lock import RunLock
from dfz_ray.journal.schema import STATEMENTS, VERSION

UNREADABLE = (sqlite3.Error, UnicodeDecodeError)
"""The exceptions that reading a damaged journal may raise; the latter for a text that is not UTF-8."""


def open_journal(folder: RunFolder, mode: str) -> sqlite3.Connection:
    """A connection to a run's journal. The mode is `ro`, or `rw` for the process that works on the run.

    Raises JournalDamaged if the journal is missing, can't be read, or is of another schema.
    """
    if not os.path.lexists(folder.database):
        raise JournalDamaged(folder.describe_lack())
    with contextlib.ExitStack() as on_failure:
        try:
            connection = folder.connect(mode)
            on_failure.callback(connection.close)
            version = dict(connection.execute(STATEMENTS["get_meta"])).get("schema_version")
            wrong_size = find_wrong_size(connection, folder)
        except UNREADABLE as error:
            raise unreadable(folder, error) from error
        if version != str(VERSION):
            raise JournalDamaged(f"{folder.path} has schema {version}; this dfz_ray reads schema {VERSION}")
        if wrong_size:  # SQLite would read zeros where a part of a page is missing
            raise JournalDamaged(f"{folder.database} is damaged: {wrong_size}")
        on_failure.pop_all()
        return connection


def roll_back_cut_off(folder: RunFolder) -> None:
    """Roll back a commit that a crash cut off (without a WAL), so that the journal can be read.

    The journal stays as it is while a live process holds the run, if the folder can't be written, and if it was sealed:
    a log beside a sealed journal is not its own.
    """
    if not folder.has_unfinished_commit() or folder.seal.exists():
        return
    with (
        contextlib.suppress(RunFolderRefused, OSError, sqlite3.Error),
        contextlib.closing(RunLock(folder.path, wait_s=0.0)),
        contextlib.closing(folder.connect("rw")) as connection,
    ):
        connection.execute(STATEMENTS["read_schema"]).fetchall()  # the first look at the file rolls back


def find_wrong_size(connection: sqlite3.Connection, folder: RunFolder) -> str | None:
    """Compare the file's size with its number of pages; beside a log they can differ, and None is returned."""
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    (page_bytes,) = connection.execute("PRAGMA page_size").fetchone()
    size = folder.database.stat().st_size
    if size == pages * page_bytes or folder.has_log():
        return None
    return f"it has {size} bytes, not {pages} pages of {page_bytes}: it is cut short, or something follows it"


def unreadable(folder: RunFolder, error: Exception) -> JournalDamaged:
    """The exception to raise for a journal that can't be read."""
    why: object = error
    if getattr(error, "sqlite_errorname", "") == "SQLITE_READONLY_ROLLBACK":
        why = "a crash cut its last commit off; it can be read again once the run has been opened for work"
    return JournalDamaged(f"{folder.database} can't be read: {why}")
