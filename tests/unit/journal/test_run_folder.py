"""The folder of a run: its permissions, its files, reading it while the run goes on, and folders that are refused."""

from __future__ import annotations

import contextlib
import gc
import hashlib
import itertools
import os
import re
import shutil
import stat
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.journal_rows import completion, together
from support.small_run import META, completed, failed, handed_out, make_run, records, results

from dfz_ray.errors import JournalDamaged, RunFolderRefused
from dfz_ray.journal.reader import JournalReader
from dfz_ray.journal.recovery import open_for_work
from dfz_ray.journal.schema import ATTEMPT_FAILED
from dfz_ray.journal.writer import COLUMN_BYTES, Group, JournalWriter
from dfz_ray.specs.encoding import encode

INLINE_BYTES = 100


def run_script(script: str) -> str:
    """The output of a program that can import the modules of the tests."""
    path = f"import sys; sys.path.insert(0, {str(Path(__file__).parents[2])!r})\n"
    command = [sys.executable, "-c", path + textwrap.dedent(script)]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout


# --- reading while it is written, and afterwards ----------------------------------------------------------------------


def test_readers_see_whole_commits_while_the_run_goes_on(tmp_path: Path) -> None:
    """A reader that was there from the start sees each commit as soon as it has returned, also after the last."""
    writer = make_run(tmp_path, [str(number) for number in range(50)])
    with JournalReader(tmp_path) as early:
        for number in range(0, 50, 2):
            writer.commit(together(completed(number, number), completed(number + 1, number)))
            assert early.counts()["completed"] == number + 2
            with JournalReader(tmp_path) as late:
                assert late.counts() == early.counts()
        writer.close()

        assert early.counts()["completed"] == 50
        assert len(list(early.records())) == 50
    assert len(results(tmp_path)) == 50


def test_what_a_reader_is_in_the_middle_of_does_not_move(tmp_path: Path) -> None:
    """Records that are read while others are committed are those of one moment: the one when reading began."""
    writer = make_run(tmp_path, [str(number) for number in range(100)])
    with JournalReader(tmp_path) as journal:
        reading = iter(journal.records())
        first = next(reading)
        writer.commit(Group(completions=[completion(0, {number: number for number in range(100)})]))

        rest = list(reading)

        assert {(record.status, record.attempts) for record in [first, *rest]} == {("pending", 0)}
        assert journal.counts()["completed"] == 100


def test_commits_between_the_tables_that_a_reader_reads_do_not_tear_its_records(tmp_path: Path) -> None:
    """However many tables are read, all records are of one moment."""
    writer = make_run(tmp_path, [str(number) for number in range(100)])
    numbers = itertools.count()

    class DisturbedReader(JournalReader):
        """Another task fails before each statement reads anything."""

        def query(self, statement: str, values: tuple[Any, ...] = ()) -> Iterator[Any]:
            number = next(numbers)
            group = failed(number, "exception", "no")
            group.chunks.append(handed_out(number, number))
            group.attempts.append((number, number, ATTEMPT_FAILED, 1, 1.0, 2.0, 0.5, "exception", None))
            writer.commit(group)
            return super().query(statement, values)

    with DisturbedReader(tmp_path) as journal:
        found = list(journal.records())

    assert next(numbers) > 5
    kinds = {(record.status, record.attempts, record.start_time, record.node) for record in found}
    assert kinds <= {("pending", 0, None, None), ("failed", 1, 1.0, "host-a")}


def test_reading_may_be_left_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading may stop in the middle of ids or records: closing the reader raises nothing, then or later."""
    unraisable: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", unraisable.append)
    make_run(tmp_path, list("abc"))
    with JournalReader(tmp_path) as journal:
        reading = journal.ids(), iter(journal.records())
        for each in reading:
            next(each)

    del reading, each
    gc.collect()

    assert unraisable == []


def test_a_closed_journal_is_one_file(tmp_path: Path) -> None:
    """A run that has come to rest is a single file, which can be copied, and its seal, which need not."""
    make_run(tmp_path / "run", list("abc"), completed(0, 1)).close()

    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["run.sqlite", "seal"]
    (tmp_path / "copy").mkdir()
    shutil.copy(tmp_path / "run" / "run.sqlite", tmp_path / "copy")
    assert results(tmp_path / "copy") == {"a": 1}


def test_reading_changes_nothing(tmp_path: Path) -> None:
    """Reading a run that has come to rest leaves its folder as it was, to the byte."""
    make_run(tmp_path, list("abc"), completed(0, "x" * 1000), inline_bytes=INLINE_BYTES).close()
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}

    records(tmp_path)

    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


# --- the folder -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("there", [False, True])
def test_the_folder_is_the_users_alone(tmp_path: Path, there: bool) -> None:
    """A run folder has mode 0700, also where an empty one was there, and whatever the umask is."""
    folder = tmp_path / "deep" / "run #1?%20"
    if there:
        folder.mkdir(parents=True, mode=0o755)
    umask = os.umask(0o077 if there else 0)
    try:
        make_run(folder, ["a"], completed(0, "x" * 1000), inline_bytes=INLINE_BYTES)
    finally:
        os.umask(umask)

    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert results(folder) == {"a": "x" * 1000}


def test_a_folder_that_holds_a_run_is_refused(tmp_path: Path) -> None:
    """A new run never overwrites another one: the folder is refused, and its content stays."""
    make_run(tmp_path, ["a"], completed(0, 1))

    with pytest.raises(RunFolderRefused, match="holds a run already"):
        JournalWriter.create(tmp_path, META)

    assert results(tmp_path) == {"a": 1}


def test_a_folder_with_something_else_in_it_is_refused(tmp_path: Path) -> None:
    """A folder that holds other files is refused, and neither they nor its mode are changed."""
    (tmp_path / "thesis.tex").write_text("dear diary")
    tmp_path.chmod(0o755)

    with pytest.raises(RunFolderRefused, match="neither empty nor a run"):
        JournalWriter.create(tmp_path, META)

    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o755


def test_a_file_where_the_folder_should_be_is_refused(tmp_path: Path) -> None:
    """A folder that can't be made is refused with the reason."""
    (tmp_path / "run").write_text("")

    for folder in (tmp_path / "run", tmp_path / "run" / "deeper"):
        with pytest.raises(RunFolderRefused, match="can't be a run folder: "):
            JournalWriter.create(folder, META)


def test_a_folder_on_a_full_disk_is_refused(tmp_path: Path) -> None:
    """Where there is no room for a journal the folder is refused, with the reason, before anything runs."""
    printed = run_script(f"""
        import resource
        from support.small_run import *
        from dfz_ray.errors import RunFolderRefused
        resource.setrlimit(resource.RLIMIT_FSIZE, (8192, 8192))
        try:
            make_run(Path({str(tmp_path)!r}) / "run", [])
        except RunFolderRefused as error:
            print(error)
    """)

    assert re.match(rf"{tmp_path}/run can't hold a journal: (disk I/O error|database or disk is full)", printed)


@pytest.mark.parametrize("size_kib", range(60, 200, 20))
def test_a_run_can_be_made_once_a_full_disk_has_room(tmp_path: Path, size_kib: int) -> None:
    """Wherever a disk is full while a run is made, nothing is left there that the next attempt can't use."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size_kib}k", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("no small file system can be mounted here")
    try:
        with contextlib.suppress(RunFolderRefused, JournalDamaged):
            open_for_work(disk / "run", META).lock.close()
        subprocess.run(["mount", "-o", "remount,size=10m", str(disk)], check=True)

        lock, writer, _ = open_for_work(disk / "run", META)

        writer.close()
        lock.close()
        assert records(disk / "run") == []
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


# --- large results ----------------------------------------------------------------------------------------------------


def test_large_results_are_files_named_by_their_hash(tmp_path: Path) -> None:
    """A result of more than the limit is a file named by the hash of its bytes; one of just the limit is not."""
    writer = make_run(tmp_path, ["small", "large", "equal"], inline_bytes=INLINE_BYTES)
    at_limit, over = "x" * (INLINE_BYTES - 2), "x" * (INLINE_BYTES - 1)
    assert (len(encode(at_limit)), len(encode(over))) == (INLINE_BYTES, INLINE_BYTES + 1)

    writer.commit(completed(0, at_limit))
    assert not (tmp_path / "results").exists()
    writer.commit(Group(completions=[completion(8, {1: over})]))
    writer.commit(completed(2, over))

    name = hashlib.sha256(encode(over)).hexdigest()
    assert [path.name for path in (tmp_path / "results").iterdir()] == [name]
    assert (tmp_path / "results" / name).read_bytes() == encode(over)
    assert stat.S_IMODE((tmp_path / "results").stat().st_mode) == 0o700
    assert results(tmp_path) == {"small": at_limit, "large": over, "equal": over}


def test_of_a_chunk_only_the_large_results_are_files(tmp_path: Path) -> None:
    """Results of one chunk are stored each by its own size, however large they are together."""
    writer = make_run(tmp_path, [str(number) for number in range(100)], inline_bytes=INLINE_BYTES)
    expected = {number: "x" * (INLINE_BYTES - 2 + (number in (40, 70))) + "y" * (number == 70) for number in range(100)}

    writer.commit(Group(completions=[completion(0, expected)]))

    named = {hashlib.sha256(encode(expected[number])).hexdigest() for number in (40, 70)}
    assert {path.name for path in (tmp_path / "results").iterdir()} == named
    assert results(tmp_path) == {str(number): result for number, result in expected.items()}


@pytest.mark.parametrize("damage", ["changed", "shortened", "missing"])
def test_a_large_result_that_is_not_what_was_committed_is_told(tmp_path: Path, damage: str) -> None:
    """A result's file that was changed, cut short or deleted is an error that names it, never a wrong result."""
    make_run(tmp_path, ["a"], completed(0, "x" * 1000), inline_bytes=INLINE_BYTES)
    (file,) = (tmp_path / "results").iterdir()
    if damage == "missing":
        file.unlink()
    else:
        file.write_bytes(file.read_bytes()[:-1] + (b"y" if damage == "changed" else b""))

    with pytest.raises(JournalDamaged, match=f"is missing: .*{file.name}" if damage == "missing" else "has changed: "):
        _ = records(tmp_path)[0].result


def test_task_ids_never_become_paths(tmp_path: Path) -> None:
    """Ids that look like paths write nothing outside the run folder, and nothing that is named after them."""
    ids = ["../../escape", "/tmp/dfz_ray_escape", "results/../x", "a\0b", "CON", "." * 300]  # noqa: S108
    writer = make_run(tmp_path / "run", ids, inline_bytes=INLINE_BYTES)

    writer.commit(together(*(completed(number, task_id * 200) for number, task_id in enumerate(ids))))

    assert [path.name for path in tmp_path.iterdir()] == ["run"]
    assert not Path("/tmp/dfz_ray_escape").exists()  # noqa: S108
    assert {path.name for path in (tmp_path / "run" / "results").iterdir()} == {
        hashlib.sha256(encode(task_id * 200)).hexdigest() for task_id in ids
    }
    assert results(tmp_path / "run") == {task_id: task_id * 200 for task_id in ids}


def test_a_write_that_fails_half_way_spoils_no_equal_result(tmp_path: Path) -> None:
    """If a result can't be written the reason is reported, and an equal committed result stays readable."""
    printed = run_script(f"""
        import resource
        from support.small_run import *
        from dfz_ray.errors import JournalDamaged
        folder = Path({str(tmp_path)!r}) / "run"
        writer = make_run(folder, ["a", "b"], completed(0, "x" * 1_000_000))
        resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, 500_000))
        try:
            writer.commit(completed(1, "x" * 1_000_000))
        except JournalDamaged as error:
            print(error)
    """)

    assert "can't be written: " in printed
    assert "File too large" in printed
    assert results(tmp_path / "run") == {"a": "x" * 1_000_000}


def test_results_that_are_too_much_for_one_value_of_sqlite_become_files(tmp_path: Path) -> None:
    """A chunk whose results are all small enough, and together are not, is written, and comes back whole."""
    count, text = 400, "x" * 200_000
    writer = make_run(tmp_path, [f"t{number}" for number in range(count)])
    whole = completion(0, {number: f"{number} {text}" for number in range(count)})
    assert len(whole[3]) > COLUMN_BYTES

    writer.commit(Group(chunks=[handed_out(0, *range(count))], completions=[whole]))
    writer.close()

    assert results(tmp_path) == {f"t{number}": f"{number} {text}" for number in range(count)}
    assert (tmp_path / "run.sqlite").stat().st_size < COLUMN_BYTES
