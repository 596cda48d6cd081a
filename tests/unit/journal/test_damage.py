"""A run folder that is damaged, anywhere: it is noticed, and nothing that was acknowledged is silently lost."""

from __future__ import annotations

import contextlib
import json
import shutil
import sqlite3
from pathlib import Path

import pytest
from support.damage import (
    PAGE_BYTES,
    Contents,
    assert_noticed,
    assert_refused,
    columns,
    copies,
    damage_by_sql,
    flip,
    places,
    readable,
)
from support.journal_rows import open_tasks
from support.sample_run import INLINE_BYTES, META, NAMES, OPEN, build, check, completed, contents, create, told

from dfz_ray.errors import DfzError
from dfz_ray.journal.recovery import open_for_work
from dfz_ray.journal.run_audit import audit_run
from dfz_ray.journal.writer import Group, JournalWriter


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A closed run; tests damage copies of it."""
    folder = tmp_path_factory.mktemp("sound") / "run"
    build(folder)
    return folder


@pytest.fixture(scope="module")
def crashed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose process was killed with some commits in its log, all of them counted in its status file."""
    folder = tmp_path_factory.mktemp("crashed") / "run"
    writer = create(folder / "alive")
    for number in range(5):
        writer.commit(Group(completions=[completed(number, {"heads": number})]))
    (folder / "run").mkdir()
    for name in ("run.sqlite", "run.sqlite-wal"):
        shutil.copy(folder / "alive" / name, folder / "run")
    (folder / "run" / "status.json").write_text(json.dumps({"commits": writer.commits}))
    writer.close()
    return folder / "run"


def assert_nothing_silently_lost(folder: Path, before: Contents) -> None:
    """Opening the run for work is refused, or every outcome is still there and only the open task is due."""
    try:
        lock, writer, recovered = open_for_work(folder, META, INLINE_BYTES, durable=False)
    except DfzError:
        return
    assert open_tasks(recovered) == [OPEN]
    writer.close()
    lock.close()
    after = contents(folder)
    assert after["outcomes"] == before["outcomes"]
    assert after["blocks"] == before["blocks"]
    assert after["completions"] == before["completions"]


@pytest.mark.parametrize("sealed", [True, False])
def test_a_journal_that_was_cut_is_noticed_wherever_it_was_cut(sound: Path, tmp_path: Path, sealed: bool) -> None:
    """A closed journal that ends at any page boundary, or within any page, is not sound, and is not opened for work."""
    size = (sound / "run.sqlite").stat().st_size
    lengths = [length for start in range(0, size, PAGE_BYTES) for length in (start, start + 1, start + PAGE_BYTES // 2)]

    for length, folder in zip([*lengths, size - 1], copies(sound, tmp_path / "run"), strict=False):
        with (folder / "run.sqlite").open("r+b") as file:
            file.truncate(length)
        if not sealed:
            (folder / "seal").unlink()
        assert_noticed(folder)
        assert_refused(folder)


def test_bytes_behind_the_end_of_a_journal_are_noticed(sound: Path, tmp_path: Path) -> None:
    """Something that follows a journal which no seal covers is noticed."""
    folder = next(copies(sound, tmp_path / "run"))
    (folder / "seal").unlink()
    with (folder / "run.sqlite").open("ab") as file:
        file.write(bytes(PAGE_BYTES))

    assert_noticed(folder)
    assert "or something follows it" in assert_refused(folder)


def test_one_byte_of_a_sealed_journal_is_noticed(sound: Path, tmp_path: Path) -> None:
    """Whichever byte of a closed journal is another one: the run is not sound, and is not opened for work."""
    damages = places(sound / "run.sqlite", 4, 50, seed=1)

    for (at, bits), folder in zip(damages, copies(sound, tmp_path / "run"), strict=False):
        flip(folder / "run.sqlite", at, bits)
        assert_noticed(folder)
        assert_refused(folder)


def test_the_refusal_of_a_journal_that_was_damaged_at_rest_tells_what_to_do(sound: Path, tmp_path: Path) -> None:
    """Opening a damaged run reports that it was damaged at rest, that nothing was changed, and what helps."""
    folder = next(copies(sound, tmp_path / "run"))
    flip(folder / "run.sqlite", (folder / "run.sqlite").stat().st_size - 1, 1)

    message = assert_refused(folder)

    assert message == (
        f"{folder / 'run.sqlite'} is damaged, and nothing was changed: the file is not the one that was sealed when "
        f"the run was closed; `dfz audit {folder}` shows more"
    )


def test_one_byte_of_an_unsealed_journal_is_noticed_where_it_matters(sound: Path, tmp_path: Path) -> None:
    """A byte that changes anything that is read is noticed without a seal, too; no acknowledged outcome is lost."""
    before = contents(sound)
    damages = places(sound / "run.sqlite", 6, 250, seed=2)
    mattered = 0

    for (at, bits), folder in zip(damages, copies(sound, tmp_path / "run"), strict=False):
        (folder / "seal").unlink()
        flip(folder / "run.sqlite", at, bits)
        if readable(folder) != before:
            mattered += 1
            assert_noticed(folder)
        assert_nothing_silently_lost(folder, before)

    assert mattered > len(damages) / 4  # else this has tried little


@pytest.mark.parametrize("table", NAMES)
def test_every_value_of_every_row_is_covered(sound: Path, tmp_path: Path, table: str) -> None:
    """A value that is another one is noticed, whatever the column, in a file that is in order.

    That is by the sum of the commit; or, of the outcome of a completed task, by what it follows from.
    """
    others = {int: 77, float: 0.25, str: "other", bytes: b"other", type(None): b"something"}
    rows = contents(sound)[table]
    for row in (rows[0], rows[-1], next((row for row in rows if row[1] == 3), rows[0])):
        for name, value in zip(columns(sound, table), row, strict=True):
            folder = next(copies(sound, tmp_path / "run"))
            key = columns(sound, table)[:2]
            change = f'UPDATE {table} SET "{name}" = ? WHERE "{key[0]}" = ? AND "{key[1]}" = ?'  # noqa: S608 - our names
            damage_by_sql(folder, change, others[type(value)], *row[:2])

            found = told(audit_run(folder))
            assert "commits" in found or (table == "outcomes" and row[1] == 2 and "outcomes" in found), name
            assert check(folder), name
            assert_refused(folder)


@pytest.mark.parametrize("table", NAMES)
def test_a_row_that_is_gone_is_noticed(sound: Path, tmp_path: Path, table: str) -> None:
    """A row that was removed is noticed, whatever the table, in a file that is in order."""
    folder = next(copies(sound, tmp_path / "run"))
    key = columns(sound, table)[0]
    damage_by_sql(folder, f'DELETE FROM {table} WHERE "{key}" = (SELECT min("{key}") FROM {table})')  # noqa: S608

    assert ("outcomes" if table == "outcomes" else "commits") in told(audit_run(folder))
    assert check(folder)
    assert_refused(folder)


@pytest.mark.parametrize(("table", "column"), [(t, c) for t in ("blocks", "completions", "chunks") for c in range(9)])
def test_a_column_of_anything_is_a_violation(sound: Path, tmp_path: Path, table: str, column: int) -> None:
    """Whatever a blob holds, the audit and the checker report a violation, and opening the run is refused."""
    names = columns(sound, table)
    if column >= len(names) or not isinstance(contents(sound)[table][0][column], bytes):
        pytest.skip("there is no such blob")
    for value in (
        b"",
        b"\xc1",
        b"\x80",
        b"\x90",
        b"\x05",
        b"\x91\xc0",
        b"\x91\x91\x00",
        b"\xdd\xff\xff\xff\xff",
        "",
        7,
    ):
        folder = next(copies(sound, tmp_path / "run"))
        damage_by_sql(folder, f"UPDATE {table} SET {names[column]} = ? WHERE rowid = 0", value)  # noqa: S608 - our names

        assert_noticed(folder)
        assert_refused(folder)


@pytest.mark.parametrize("changed", ["CAST(sql AS BLOB)", "NULL", "replace(sql, 'PRIMARY KEY', '')"])
def test_a_table_that_is_defined_otherwise_is_a_violation(sound: Path, tmp_path: Path, changed: str) -> None:
    """Whatever the file has in the place of a table's definition, it is reported, and opening the run is refused."""
    folder = next(copies(sound, tmp_path / "run"))
    (folder / "seal").unlink()
    with contextlib.closing(sqlite3.connect(folder / "run.sqlite", isolation_level=None)) as connection:
        connection.execute("PRAGMA writable_schema = ON")
        connection.execute(f"UPDATE sqlite_master SET sql = {changed} WHERE name = 'outcomes'")  # noqa: S608 - see above

    assert not audit_run(folder).ok
    assert_refused(folder)


def test_one_byte_of_the_log_of_a_crashed_run_is_noticed(crashed: Path, tmp_path: Path) -> None:
    """Damage to the log makes commits vanish, which the status file reveals: it is reported, and opening is refused."""
    assert audit_run(crashed).ok
    damages = places(crashed / "run.sqlite-wal", 3, 60, seed=3)

    for (at, bits), folder in zip(damages, copies(crashed, tmp_path / "run"), strict=False):
        flip(folder / "run.sqlite-wal", at, bits)
        assert any("acknowledged commits are missing" in text for text in told(audit_run(folder))["commits"])
        assert check(folder)
        assert "acknowledged commits are missing: status.json reports 8, the journal has " in assert_refused(folder)


def test_a_log_that_is_gone_is_noticed(crashed: Path, tmp_path: Path) -> None:
    """A crashed run whose log was deleted is not sound; it goes on without the lost commits only on request."""
    folder = next(copies(crashed, tmp_path / "run"))
    (folder / "run.sqlite-wal").unlink()

    assert_noticed(folder)
    assert "remove status.json to go on without them" in assert_refused(folder)
    (folder / "status.json").unlink()
    lock, writer, _ = open_for_work(folder, META, INLINE_BYTES, durable=False)
    writer.close()
    lock.close()
    assert audit_run(folder).ok


def test_one_byte_of_a_crashed_journal_is_noticed_where_it_matters(crashed: Path, tmp_path: Path) -> None:
    """A byte of the journal of a crashed run is noticed, where anything is read from it."""
    before = contents(next(copies(crashed, tmp_path / "before")))
    damages = places(crashed / "run.sqlite", 3, 30, seed=4)

    for (at, bits), folder in zip(damages, copies(crashed, tmp_path / "run"), strict=False):
        flip(folder / "run.sqlite", at, bits)
        if readable(folder) != before:
            assert_noticed(folder)
            assert_refused(folder)


@pytest.mark.parametrize("damage", ["changed", "gone"])
def test_the_file_of_a_large_result_is_covered(sound: Path, tmp_path: Path, damage: str) -> None:
    """A large result whose file is another one, or gone, is noticed."""
    folder = next(copies(sound, tmp_path / "run"))
    (file,) = (folder / "results").iterdir()
    if damage == "changed":
        flip(file, 100, 1)
    else:
        file.unlink()

    found = told(audit_run(folder))

    assert any(str(file) in text for text in found["results"])
    assert set(found) == {"results", "digest"}
    assert check(folder)


def test_a_log_beside_a_sealed_journal_is_noticed(sound: Path, crashed: Path, tmp_path: Path) -> None:
    """A journal that was restored beside the log of a crash is not mixed with it: the log is reported."""
    folder = next(copies(sound, tmp_path / "run"))
    shutil.copy(crashed / "run.sqlite-wal", folder)

    assert_noticed(folder)
    assert "there is a log beside the file, which was sealed without one" in assert_refused(folder)


@pytest.mark.parametrize("content", [b"", b"not hex", b"0" * 64 + b"\n", b"\xff\xfe"])
def test_a_seal_that_is_damaged_is_noticed(sound: Path, tmp_path: Path, content: bytes) -> None:
    """A seal that was changed does not pass for one."""
    folder = next(copies(sound, tmp_path / "run"))
    (folder / "seal").write_bytes(content)

    assert_noticed(folder)
    assert_refused(folder)


def test_a_run_that_is_opened_has_no_seal_until_it_is_closed(sound: Path, tmp_path: Path) -> None:
    """The seal is gone while a run is worked on, so that a crash leaves none, and is made anew when it is closed."""
    folder = next(copies(sound, tmp_path / "run"))
    before = (folder / "seal").read_bytes()

    writer = JournalWriter(folder, INLINE_BYTES, durable=False)
    assert not (folder / "seal").exists()
    writer.close()

    assert (folder / "seal").read_bytes() != before
    assert audit_run(folder).ok


def test_a_run_that_a_newer_writer_took_over_is_not_sealed_by_the_older_one(sound: Path, tmp_path: Path) -> None:
    """Only the writer that has the latest epoch seals a run."""
    folder = next(copies(sound, tmp_path / "run"))
    older = JournalWriter(folder, INLINE_BYTES, durable=False)
    newer = JournalWriter(folder, INLINE_BYTES, durable=False)

    older.close()
    assert not (folder / "seal").exists()
    newer.close()

    assert audit_run(folder).ok
    assert (folder / "seal").exists()
