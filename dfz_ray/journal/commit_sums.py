"""Adds commits to the journal, each with a sum over its rows, and compares rows with sums; schema.sql defines them."""

from __future__ import annotations

import functools
import hashlib
import itertools
import sqlite3
import time
from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from types import MappingProxyType, NoneType
from typing import Any, NamedTuple

import msgpack

from dfz_ray.journal.schema import STATEMENTS

Row = tuple[Any, ...]

ROWS_TOGETHER = (128, 16, 1)
"""The numbers of rows that one statement may add, in the order in which they are tried."""
ROWS_AT_ONCE = 500
"""The number of rows that are read together, except from tables with large values."""


class Table(NamedTuple):
    """A table whose rows belong to commits."""

    name: str
    add: str
    """The statement that adds a row."""
    scan: str
    """The statement that reads all rows, in the order of the primary key."""
    key: itemgetter[Any] = itemgetter(0)
    """The primary key of a row."""
    conversions: Mapping[int, type] = MappingProxyType({})
    """Columns in which SQLite stores a number as one of another type: position, and the type that it stores."""
    at_once: int = ROWS_AT_ONCE
    """The number of rows that are read together, to bound the memory that they take."""


TABLES = (
    Table("meta", "add_meta", "scan_meta"),
    Table("epochs", "add_epoch", "scan_epochs", conversions={1: float}),
    Table("batches", "add_batch", "scan_batches", conversions={3: float}),
    Table("domains", "add_domain", "scan_domains"),
    Table("kinds", "add_kind", "scan_kinds"),
    Table("files", "add_file", "scan_files", at_once=1),
    Table("blocks", "add_block", "scan_blocks", at_once=1),
    Table("leases", "add_lease", "scan_leases", itemgetter(0, 1), {4: float}),
    Table("chunks", "add_chunk", "scan_chunks", conversions={3: float}),
    Table("completions", "add_completion", "scan_completions", at_once=1),
    Table("attempts", "add_attempt", "scan_attempts", itemgetter(0, 1), {3: int, 4: float, 5: float, 6: float}),
    Table("cancels", "add_cancel", "scan_cancels", conversions={2: float}),
    Table("pool_changes", "add_pool_change", "scan_pool_changes", conversions={2: float}),
    Table("outcomes", "add_outcome", "scan_outcomes"),
    Table("reopened", "add_reopened", "scan_reopened", itemgetter(0, 1)),
)
"""In the order in which a sum covers them."""


class Commit(NamedTuple):
    """A row of `commits`."""

    number: int
    epoch: int
    committed_at: float
    rows: int
    sha256: bytes


NONE_YET = Commit(-1, 0, 0.0, 0, b"")
"""In the place of a commit before the first one."""


def add_commit(connection: sqlite3.Connection, before: Commit, epoch: int, rows: Mapping[str, Sequence[Row]]) -> Commit:
    """Add rows, by table and without the number of the commit, and the commit itself.

    Must be called within a transaction.
    """
    number = before.number + 1
    sums = []
    for table in TABLES:
        if added := rows.get(table.name):
            stored = sorted(_as_stored(added, table.conversions), key=table.key)
            numbered = [(*row, number) for row in stored]
            _insert(connection, STATEMENTS[table.add], numbered)
            sums.append((table.name, hashlib.sha256(_pack(numbered)).digest()))
    count = sum(map(len, rows.values()))
    commit = Commit(number, epoch, time.time(), count, b"")
    commit = commit._replace(sha256=_sum_of(before, commit, sums))
    connection.execute(STATEMENTS["add_commit"], commit)
    return commit


def _insert(connection: sqlite3.Connection, statement: str, rows: Sequence[Row]) -> None:
    """Add rows, many with one statement.

    For each statement Python releases the GIL and must get it back, and a busy thread makes it wait for that: row by
    row, a commit took fifty times as long while the manager was busy.
    """
    begun = 0
    for together in ROWS_TOGETHER:
        many = _repeat(statement, together)
        while len(rows) - begun >= together:
            connection.execute(many, list(itertools.chain.from_iterable(rows[begun : begun + together])))
            begun += together


@functools.lru_cache(maxsize=64)
def _repeat(statement: str, together: int) -> str:
    """Turn a statement that adds one row into one that adds several."""
    start, word, values = statement.strip().rstrip(";").partition("VALUES ")
    return start + word + ", ".join([values] * together)


@dataclass
class SumCheck:
    """The result of comparing a journal with its sums."""

    commits: int = 0
    rows: int = 0
    violations: list[str] = field(default_factory=list)


def check_sums(connection: sqlite3.Connection) -> SumCheck:
    """Compare every commit's rows, as they are now, with its sum, in one ordered scan of each table."""
    sums, counts = _sums_of_tables(connection)
    read = SumCheck()
    before = NONE_YET
    for commit in map(Commit._make, connection.execute(STATEMENTS["scan_commits"])):
        if commit.number != before.number + 1:
            read.violations.append(f"commit {before.number + 1} is missing: {commit.number} follows {before.number}")
        found = counts.pop(commit.number, 0)
        if found != commit.rows:
            read.violations.append(f"commit {commit.number} has {found} rows of the {commit.rows} that it added")
        elif _sum_of(before, commit, sums.get(commit.number, ())) != commit.sha256:
            read.violations.append(f"commit {commit.number} is not what was written: its sum is another one")
        read.commits += 1
        read.rows += found
        before = commit
    read.violations.extend(f"{rows} rows are of commit {number!r}, which is missing" for number, rows in counts.items())
    return read


def _sums_of_tables(connection: sqlite3.Connection) -> tuple[dict[int, list[tuple[str, bytes]]], Counter[int]]:
    """For every commit the sums of its rows in each table, and the number of its rows."""
    sums: dict[int, list[tuple[str, bytes]]] = defaultdict(list)
    counts: Counter[int] = Counter()
    for table in TABLES:
        under_way: dict[int, Any] = defaultdict(hashlib.sha256)
        cursor = connection.execute(STATEMENTS[table.scan])
        while rows := cursor.fetchmany(table.at_once):
            for commit, group in itertools.groupby(rows, key=itemgetter(-1)):
                together = list(group)
                counts[commit] += len(together)
                under_way[commit].update(_pack(together))
        for commit, digest in under_way.items():
            sums[commit].append((table.name, digest.digest()))
    return sums, counts


def _sum_of(before: Commit, commit: Commit, sums: Iterable[tuple[str, bytes]]) -> bytes:
    whole = hashlib.sha256(before.sha256 if isinstance(before.sha256, bytes) else b"")  # else it is reported by itself
    whole.update(_pack([commit[:-1]]))
    for name, digest in sums:
        whole.update(name.encode() + digest)
    return whole.digest()


def _pack(rows: Iterable[Row]) -> memoryview:
    """The rows as MessagePack, one after the other."""
    packer = msgpack.Packer(autoreset=False)
    deque(map(packer.pack, rows), maxlen=0)
    whole: memoryview = packer.getbuffer()
    return whole


def _as_stored(rows: Sequence[Row], conversions: Mapping[int, type]) -> Sequence[Row]:
    """The rows as SQLite returns them: a bool becomes an integer, and an integer in a REAL column a float."""
    if all(set(map(type, map(itemgetter(at), rows))) <= {kind, NoneType} for at, kind in conversions.items()):
        return rows
    return [
        tuple(
            value if value is None or position not in conversions else conversions[position](value)
            for position, value in enumerate(row)
        )
        for row in rows
    ]
