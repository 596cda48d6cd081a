"""Damage to run folders, and asserting that it is noticed."""

from __future__ import annotations

import random
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dfz_ray.errors import JournalDamaged, RunFolderRefused
from dfz_ray.journal.journal_file import UNREADABLE
from dfz_ray.journal.recovery import open_for_work
from dfz_ray.journal.run_audit import audit_run
from support.amount import amount
from support.sample_run import INLINE_BYTES, META, check, contents

PAGE_BYTES = 4096
Contents = dict[str, list[tuple[Any, ...]]]


def copies(whole: Path, into: Path) -> Iterator[Path]:
    """One copy after the other, each in place of the last."""
    while True:
        shutil.rmtree(into, ignore_errors=True)
        shutil.copytree(whole, into)
        yield into


def flip(file: Path, at: int, bits: int) -> None:
    with file.open("r+b") as opened:
        opened.seek(at)
        (byte,) = opened.read(1)
        opened.seek(at)
        opened.write(bytes([byte ^ bits]))


def places(file: Path, per_page: int, used: int, seed: int) -> list[tuple[int, int]]:
    """Bytes of a file, and which of their bits to turn: some of each page, and some more that are not zero.

    `make test` takes a part of them.
    """
    draw = random.Random(seed)  # noqa: S311 - no secret
    content = file.read_bytes()
    starts = range(0, len(content), PAGE_BYTES)
    chosen = [start + at for start in starts for at in (0, 5, *draw.sample(range(PAGE_BYTES), per_page - 2))]
    chosen += draw.sample([at for at, byte in enumerate(content) if byte], used)
    chosen = draw.sample(chosen, amount(len(chosen)))
    return [(at, draw.choice((1, 0x80, 0xFF, draw.randrange(1, 256)))) for at in chosen if at < len(content)]


def readable(folder: Path) -> Contents | None:
    """All rows, where they can be read."""
    try:
        return contents(folder)
    except UNREADABLE:
        return None


def assert_noticed(folder: Path) -> None:
    """Neither the audit nor the independent checker takes the run for sound."""
    assert not audit_run(folder).ok
    assert check(folder)


def assert_refused(folder: Path) -> str:
    """Opening the run for work is refused, and changes nothing. Returns the message."""
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    with pytest.raises((JournalDamaged, RunFolderRefused)) as caught:
        open_for_work(folder, META, INLINE_BYTES, durable=False)
    changed = {path: content for path, content in before.items() if path.read_bytes() != content}
    assert {path.name for path in changed} <= {"run.sqlite-shm", "lock"}
    return str(caught.value)


def damage_by_sql(folder: Path, change: str, *values: object) -> None:
    """Change a closed run by a statement, so that its file is in order, and let nothing show that it was closed."""
    (folder / "seal").unlink()
    with sqlite3.connect(folder / "run.sqlite") as connection:
        assert connection.execute(change, values).rowcount > 0
    connection.close()


def columns(folder: Path, table: str) -> list[str]:
    with sqlite3.connect(folder / "run.sqlite") as connection:
        found = [name for _, name, *_ in connection.execute(f"PRAGMA table_info({table})")]
    connection.close()
    return found
