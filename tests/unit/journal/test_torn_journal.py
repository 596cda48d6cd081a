"""Reading a journal that is damaged, of another schema or missing, and the journal after a kill."""

from __future__ import annotations

import contextlib
import itertools
import shutil
import sqlite3
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from support.cut_off_commit import cut_off_commit
from support.journal_rows import completion, together
from support.sample_run import both_say_ok
from support.small_run import completed, make_run, results

from dfz_ray.driver.run_opening import RunOpening
from dfz_ray.errors import JournalDamaged
from dfz_ray.journal.cancel_requests import CancelRequest, cancel_at_rest
from dfz_ray.journal.folder import RunFolder
from dfz_ray.journal.lock import RunLock
from dfz_ray.journal.openings import read_imports
from dfz_ray.journal.reader import JournalReader
from dfz_ray.journal.recovery import open_for_work
from dfz_ray.journal.run_audit import audit_run
from dfz_ray.journal.run_status import find_status
from dfz_ray.journal.schema import VERSION
from dfz_ray.journal.writer import Group, JournalWriter
from dfz_ray.specs.run_config import RunConfig


def damaged(folder: Path) -> str:
    """The message for a run folder that can't be read to the end; a reader raises no other error."""

    def read() -> None:
        with JournalReader(folder) as journal:
            journal.counts()
            list(journal.records())
            journal.digest()
            _ = journal.records().spans

    with pytest.raises(JournalDamaged) as caught:
        read()
    return str(caught.value)


def begin_script(script: str) -> subprocess.Popen[str]:
    """A program that finds the modules of the tests."""
    path = f"import sys; sys.path.insert(0, {str(Path(__file__).parents[2])!r})\n"
    command = [sys.executable, "-c", path + textwrap.dedent(script)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_a_folder_without_a_journal_is_told(tmp_path: Path) -> None:
    """A folder that is no run folder is refused for reading and for writing, and stays as it is."""
    for folder in (tmp_path, tmp_path / "nowhere"):
        assert damaged(folder) == f"{folder} is no run folder: it has no run.sqlite"
        with pytest.raises(JournalDamaged, match="is no run folder"):
            JournalWriter(folder)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", [b"", b"not a database, but long enough to be taken for one" * 100])
def test_a_file_that_is_no_database_is_told(tmp_path: Path, content: bytes) -> None:
    """A run.sqlite that is no database is refused with its path, for reading and for writing, and stays as it is."""
    (tmp_path / "run.sqlite").write_bytes(content)

    assert f"{tmp_path / 'run.sqlite'} can't be read: " in damaged(tmp_path)
    with pytest.raises(JournalDamaged, match="can't be read"):
        JournalWriter(tmp_path)
    assert (tmp_path / "run.sqlite").read_bytes() == content


def test_a_journal_that_was_cut_short_is_told_wherever_it_was_cut(tmp_path: Path) -> None:
    """A journal whose end is missing is refused as damaged, wherever it was cut; nothing wrong is read from it."""
    ids = [str(number) for number in range(300)]
    make_run(tmp_path, ids, *(completed(number, "x" * 90) for number in range(300))).close()
    whole = (tmp_path / "run.sqlite").read_bytes()

    for length in [1, 15, 16, 99, 100, 4095, 4096, 4097, *range(5000, len(whole), 9_999), len(whole) - 1]:
        (tmp_path / "run.sqlite").write_bytes(whole[:length])
        assert str(tmp_path / "run.sqlite") in damaged(tmp_path)


def test_a_journal_of_another_schema_is_refused(tmp_path: Path) -> None:
    """A journal of another schema is refused with both numbers, for reading and for writing."""
    make_run(tmp_path, []).close()
    with sqlite3.connect(tmp_path / "run.sqlite") as connection:
        connection.execute("UPDATE meta SET value = '999' WHERE key = 'schema_version'")
    connection.close()

    assert damaged(tmp_path) == f"{tmp_path} has schema 999; this dfz_ray reads schema {VERSION}"
    with pytest.raises(JournalDamaged, match="has schema 999"):
        JournalWriter(tmp_path)


def test_a_log_that_was_cut_short_loses_whole_commits_from_its_end(tmp_path: Path) -> None:
    """Of a log whose tail is torn every commit before the tear is there, whole, and none after it."""
    writer = make_run(tmp_path / "run", [str(number) for number in range(60)])
    for number in range(0, 60, 3):
        together_in_chunk = {number + 1: "x" * 90, number + 2: "x" * 90}
        writer.commit(
            together(completed(number, "x" * 90), Group(completions=[completion(100 + number, together_in_chunk)]))
        )
    log = (tmp_path / "run" / "run.sqlite-wal").read_bytes()
    seen = []

    for cut, length in enumerate([*range(0, len(log), len(log) // 25), len(log)]):
        copy = tmp_path / f"cut {cut}"
        copy.mkdir()
        shutil.copy(tmp_path / "run" / "run.sqlite", copy)
        (copy / "run.sqlite-wal").write_bytes(log[:length])
        with JournalReader(copy) as journal:
            assert journal.counts()["completed"] == len(results(copy))
        seen.append(sorted(map(int, results(copy))))

    assert seen[0] == []
    assert seen[-1] == list(range(60))
    for before, after in itertools.pairwise(seen):
        assert len(before) % 3 == 0
        assert before == after[: len(before)]


def go_on(run: Path) -> None:
    """Open a run for work as the manager does, and close it."""
    opened = open_for_work(run, {})
    opened.writer.close()
    opened.lock.close()


def test_a_commit_that_was_cut_off_without_a_log_is_rolled_back_by_whoever_reads_on_that_host(tmp_path: Path) -> None:
    """Without a log, as on network file systems, a process that dies in a commit leaves a run that can be read."""
    make_run(tmp_path, ["a", "b"], completed(0, "committed")).close()
    cut_off_commit(tmp_path)

    assert audit_run(tmp_path).ok
    assert RunFolder(tmp_path).has_unfinished_commit()  # the audit changes nothing
    assert find_status(tmp_path).counts["completed"] == 1
    assert results(tmp_path) == {"a": "committed"}
    go_on(tmp_path)
    assert both_say_ok(tmp_path)


def test_a_commit_of_another_host_is_rolled_back_by_whoever_goes_on(tmp_path: Path) -> None:
    """Reading leaves the commit of a process elsewhere, which may live; resuming, running and cancelling go on."""
    run = tmp_path / "run"
    make_run(run, ["a", "b"], completed(0, "committed")).close()

    def cancel() -> None:
        assert cancel_at_rest(run, CancelRequest(whole_run=True)) == 1

    def resume() -> None:
        assert read_imports(run) == []

    def run_again() -> None:
        RunOpening(RunConfig(run_dir=run), run, (), has_listener=False)

    for go_on_with in (resume, run_again, lambda: go_on(run), cancel):
        cut_off_commit(run, host="elsewhere")
        assert "a crash cut its last commit off" in damaged(run)
        go_on_with()
        assert results(run) == {"a": "committed"}
        assert both_say_ok(run)


def test_a_log_beside_a_sealed_journal_is_not_rolled_back(tmp_path: Path) -> None:
    """A rollback log that somebody lays beside a run at rest changes nothing in it."""
    make_run(tmp_path, ["a", "b"], completed(0, "committed")).close()
    seal = (tmp_path / "seal").read_bytes()
    cut_off_commit(tmp_path)
    (tmp_path / "seal").write_bytes(seal)
    before = (tmp_path / "run.sqlite").read_bytes()

    assert "a crash cut its last commit off" in damaged(tmp_path)
    assert (tmp_path / "run.sqlite").read_bytes() == before


def test_a_commit_of_a_process_that_lives_is_left_alone(tmp_path: Path) -> None:
    """While a live process holds the run, nobody else rolls its commit back."""
    make_run(tmp_path, ["a", "b"], completed(0, "committed")).close()
    cut_off_commit(tmp_path)
    with contextlib.closing(RunLock(tmp_path)):
        assert "a crash cut its last commit off" in damaged(tmp_path)
    assert results(tmp_path) == {"a": "committed"}


@pytest.mark.parametrize("acknowledged", [1, 8, 40])
def test_a_process_that_is_killed_loses_nothing_that_it_had_committed(tmp_path: Path, acknowledged: int) -> None:
    """After SIGKILL in the middle of many commits the journal holds every one that had returned, each of them whole."""
    run = tmp_path / "run"
    process = begin_script(f"""
        from support.small_run import *
        writer = make_run(Path({str(run)!r}), [str(number) for number in range(30_000)], inline_bytes=100)
        for number in range(0, 30_000, 3):
            chunk = completion(100_000 + number, {{number + 1: "large" * 1000 + str(number % 7), number + 2: "x" * 90}})
            writer.commit(together(completed(number, number), Group(completions=[chunk])))
            print(number, flush=True)
    """)
    assert process.stdout is not None
    last = [int(process.stdout.readline()) for _ in range(acknowledged)][-1]

    process.kill()

    last = max([last, *map(int, process.stdout.read().split())])
    process.stdout.close()
    assert process.wait(timeout=30) < 0
    found = results(run)
    assert len(found) % 3 == 0
    assert last + 3 <= len(found) <= last + 6 < 30_000
    for number in range(0, len(found), 3):
        assert found[str(number)] == number
        assert found[str(number + 1)] == "large" * 1000 + str(number % 7)
        assert found[str(number + 2)] == "x" * 90
    JournalWriter(run).close()
    assert results(run) == found
