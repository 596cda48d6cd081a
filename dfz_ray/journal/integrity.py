"""Checks that a journal still holds what was written to it, and refuses a damaged one."""

from __future__ import annotations

import contextlib
import functools
import json
import re
import sqlite3
from collections.abc import Iterator, Sequence
from typing import Any

from dfz_ray.errors import JournalDamaged
from dfz_ray.journal.commit_sums import check_sums
from dfz_ray.journal.folder import STATUS, RunFolder
from dfz_ray.journal.journal_file import open_journal
from dfz_ray.journal.run_status import read_acknowledged_commits
from dfz_ray.journal.schema import STATEMENTS
from dfz_ray.journal.seal import Seal, check_seal
from dfz_ray.protocol.columns import DIGEST_BYTES, TIMES_BYTES, unpack


def refuse_damaged(folder: RunFolder) -> None:
    """Check a journal before it is opened for work: a sealed one by its seal, any other one row by row.

    Raises JournalDamaged if it is missing, unreadable, damaged, or of another schema. Nothing is changed.
    """
    # Without a WAL, a commit that was cut off must be rolled back first, which only a writing connection does.
    with contextlib.closing(open_journal(folder, "rw" if folder.has_unfinished_commit() else "ro")) as connection:
        try:
            found = _find_damage(connection, folder)
        except Exception as error:  # a damaged file may hold anything, e.g. a text in the place of a number
            found = f"{type(error).__name__}: {error}"
    if found:
        text = f"{folder.database} is damaged, and nothing was changed: {found}; `dfz audit {folder.path}` shows more"
        raise JournalDamaged(text)


def _find_damage(connection: sqlite3.Connection, folder: RunFolder) -> str | None:
    seal = check_seal(folder)
    if seal in (Seal.BROKEN, Seal.BYPASSED):
        return str(seal.value)
    acknowledged = read_acknowledged_commits(folder.path)
    connection.execute("BEGIN")
    if missing := find_missing_commits(connection, acknowledged):
        return f"{missing}; remove {STATUS} to go on without them"
    if seal is Seal.WHOLE:
        return None
    torn = find_torn_structure(connection, thoroughly=False)
    found = torn or find_other_schema(connection) or check_sums(connection).violations
    return found[0] if found else next(find_disagreements(connection), None)


def find_torn_structure(connection: sqlite3.Connection, *, thoroughly: bool) -> list[str]:
    """Let SQLite check its own structure; `thoroughly` compares the indexes with the tables, too."""
    rows = connection.execute(f"PRAGMA {'integrity_check' if thoroughly else 'quick_check'}(20)").fetchall()
    return [] if rows == [("ok",)] else [f"SQLite: {text}" for (text,) in rows]


def find_other_schema(connection: sqlite3.Connection) -> list[str]:
    """Find tables that differ from those of schema.sql."""
    differing = _own_definitions() ^ _definitions_of(connection)
    return [f"the table {name!r} is not that of the schema" for name in sorted({str(row[1]) for row in differing})]


@functools.cache
def _own_definitions() -> frozenset[tuple[Any, ...]]:
    with contextlib.closing(sqlite3.connect(":memory:")) as memory:
        memory.executescript(STATEMENTS["schema"])
        return frozenset(_definitions_of(memory))


def _definitions_of(connection: sqlite3.Connection) -> set[tuple[Any, ...]]:
    """SQLite's definition of each table, without the comments, for those may change."""
    rows = connection.execute(STATEMENTS["read_schema"])
    return {(*names, re.sub(r"\s+", " ", re.sub(r"--[^\n]*", "", str(sql or "")))) for *names, sql in rows}


def find_missing_commits(connection: sqlite3.Connection, acknowledged: int | None) -> str | None:
    """Compare the number of commits with the number that was acknowledged before this connection began to read."""
    (found,) = connection.execute(STATEMENTS["count_commits"]).fetchone()
    if acknowledged is None or acknowledged <= found:
        return None
    return f"acknowledged commits are missing: {STATUS} reports {acknowledged}, the journal has {found}"


def find_disagreements(connection: sqlite3.Connection) -> Iterator[str]:
    """Compare `completions`, chunk by chunk, with the outcomes that follow from them, which no sum covers.

    A damaged journal may also raise JournalDamaged, sqlite3.Error, TypeError or ValueError.
    """
    outcomes = {chunk: columns for chunk, *columns in connection.execute(STATEMENTS["read_completed_outcomes"])}
    for chunk, tasks, times, results, digests, commit in connection.execute(STATEMENTS["scan_completions"]):
        numbers = unpack(tasks)
        if not set(map(type, numbers)) <= {int}:
            yield f"chunk {chunk}: the tasks that completed in it are not numbered by integers"
            continue
        yield from _find_unequal(chunk, len(numbers), times, len(unpack(results)), digests)
        first, last, explained, named = outcomes.pop(chunk, (commit, commit, 0, "[]"))
        yield from _find_differing(chunk, numbers, json.loads(named))
        if (first, last) != (commit, commit):
            yield f"chunk {chunk}: it completed in commit {commit}, by its outcomes in commits {first} to {last}"
        if explained:
            yield f"chunk {chunk}: completed tasks of it have a reason, a message or a traceback"
    for chunk, (*_, named) in outcomes.items():
        yield f"outcomes say that tasks {named:.50} completed in chunk {chunk}, in which none did"


def _find_unequal(chunk: int, tasks: int, times: bytes, results: int, digests: bytes) -> Iterator[str]:
    if (len(times), results, len(digests)) != (TIMES_BYTES * tasks, tasks, DIGEST_BYTES * tasks):
        lengths = f"{len(times)} bytes of times, {results} results and {len(digests)} bytes of digests"
        yield f"chunk {chunk}: {tasks} tasks completed in it, with {lengths}"


def _find_differing(chunk: int, completed: Sequence[int], named: Sequence[int]) -> Iterator[str]:
    """Compare the tasks that completed in a chunk with those whose outcomes name it."""
    if sorted(completed) == sorted(named):
        return
    if len(set(completed)) < len(completed):
        yield f"chunk {chunk}: a task completed in it more than once"
    for number in sorted(set(completed).difference(named)):
        yield f"task {number}: it completed in chunk {chunk}, but has no outcome that says so"
    for number in sorted(set(named).difference(completed)):
        yield f"task {number}: its outcome says that it completed in chunk {chunk}, in which it did not"
