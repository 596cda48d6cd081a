"""Whether a journal's file is what was written: its seal, its size and structure, and the commits that were told."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import sqlite3
from enum import Enum
from typing import Any

from dfz_ray.errors import JournalDamaged
from dfz_ray.journal.agreement import find_disagreements
from dfz_ray.journal.commit_sums import check_sums
from dfz_ray.journal.folder import RunFolder, sync_folder, write_whole
from dfz_ray.journal.reader import open_journal
from dfz_ray.journal.statements import STATEMENTS
from dfz_ray.journal.status import STATUS


class Seal(Enum):
    """What the seal says of the journal."""

    WHOLE = "the file is the one that was sealed"
    BROKEN = "the file is not the one that was sealed when the run was closed"
    BYPASSED = "there is a log beside the file, which was sealed without one"
    NONE = "there is none"


def write_seal(folder: RunFolder, durable: bool) -> None:
    """Seal a journal that no one has open any more.

    Raises:
        OSError: it can't be read, or the seal not be written.
    """
    write_whole(folder.seal, f"{_sum_of_file(folder)}\n".encode(), durable)
    if durable:
        sync_folder(folder.path)


def remove_seal(folder: RunFolder) -> None:
    """Let the journal be written; the seal is gone from the disk before anything is."""
    if folder.seal.exists():
        folder.seal.unlink()
        sync_folder(folder.path)


def check_seal(folder: RunFolder) -> Seal:
    """Compare the journal with its seal."""
    with contextlib.suppress(FileNotFoundError):
        seal = folder.seal.read_bytes()
        found = Seal.WHOLE if seal == f"{_sum_of_file(folder)}\n".encode() else Seal.BROKEN
        if found is Seal.WHOLE and folder.has_log():
            found = Seal.BYPASSED  # SQLite would take it for part of the journal
        # Whoever opens a run removes its seal before writing: where it is gone by now, nothing is wrong.
        if folder.seal.read_bytes() == seal:
            return found
    return Seal.NONE


def _sum_of_file(folder: RunFolder) -> str:
    with folder.database.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def find_torn_structure(connection: sqlite3.Connection, *, thoroughly: bool) -> list[str]:
    """What SQLite itself finds wrong; a thorough look compares the indexes with the tables, too."""
    rows = connection.execute(f"PRAGMA {'integrity_check' if thoroughly else 'quick_check'}(20)").fetchall()
    return [] if rows == [("ok",)] else [f"SQLite: {text}" for (text,) in rows]


def find_other_schema(connection: sqlite3.Connection) -> list[str]:
    """Which tables are not those of schema.sql."""
    with contextlib.closing(sqlite3.connect(":memory:")) as memory:
        memory.executescript(STATEMENTS["schema"])
        differing = _definitions_of(memory) ^ _definitions_of(connection)
    return [f"the table {name!r} is not that of the schema" for name in sorted({str(row[1]) for row in differing})]


def _definitions_of(connection: sqlite3.Connection) -> set[tuple[Any, ...]]:
    """What SQLite knows of each table, without the comments, for those may change."""
    rows = connection.execute(STATEMENTS["read_schema"])
    return {(*names, re.sub(r"\s+", " ", re.sub(r"--[^\n]*", "", str(sql or "")))) for *names, sql in rows}


def read_told_commits(folder: RunFolder) -> int | None:
    """How many commits were on disk when the status file was written, where that is known."""
    try:
        told = json.loads((folder.path / STATUS).read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    commits = told.get("commits") if isinstance(told, dict) else None
    return commits if type(commits) is int else None


def find_missing_commits(connection: sqlite3.Connection, told: int | None) -> str | None:
    """Whether commits are missing that were told of, before this connection began to read, as being on disk."""
    (found,) = connection.execute(STATEMENTS["count_commits"]).fetchone()
    if told is None or told <= found:
        return None
    return f"acknowledged commits are missing: {STATUS} tells of {told}, the journal has {found}"


def refuse_damaged(folder: RunFolder) -> None:
    """Look at a journal before it is opened for work: a sealed one must be what was sealed, any other one sound.

    Raises:
        JournalDamaged: there is no journal, or it can't be read, or it is of another schema, or it is damaged; nothing
            was changed.
    """
    # A commit that was cut off without a WAL has to be taken back first, which only a writing connection does.
    with contextlib.closing(open_journal(folder, "rw" if folder.has_unfinished_commit() else "ro")) as connection:
        try:
            found = _find_damage(connection, folder)
        except Exception as error:  # a damaged file may hold anything, where a number is looked for, say
            found = f"{type(error).__name__}: {error}"
    if found:
        told = f"{folder.database} is damaged, and nothing was changed: {found}; `dfz audit {folder.path}` tells more"
        raise JournalDamaged(told)


def _find_damage(connection: sqlite3.Connection, folder: RunFolder) -> str | None:
    seal = check_seal(folder)
    if seal in (Seal.BROKEN, Seal.BYPASSED):
        return str(seal.value)
    told = read_told_commits(folder)
    connection.execute("BEGIN")
    if missing := find_missing_commits(connection, told):
        return f"{missing}; remove {STATUS} to go on without them"
    if seal is Seal.WHOLE:
        return None
    torn = find_torn_structure(connection, thoroughly=False)
    found = torn or find_other_schema(connection) or check_sums(connection).violations
    return found[0] if found else next(find_disagreements(connection), None)
