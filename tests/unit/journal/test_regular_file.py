"""A folder that someone else has filled: its links, pipes and devices harm no file, and hold nobody up."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.command_line import dfz
from support.small_run import completed, make_run

from dfz_ray.errors import RunFolderRefused
from dfz_ray.journal.cancel_requests import CancelRequest, file_request, read_requests
from dfz_ray.journal.folder import REQUESTS, STATUS, RunFolder, write_whole
from dfz_ray.journal.reader import JournalReader
from dfz_ray.journal.recovery import open_for_work
from dfz_ray.journal.regular_file import SMALL_BYTES, open_regular, read_small

PRECIOUS = "the user's own words"
READ = ("run.sqlite", "run.sqlite-wal", "run.sqlite-shm", "run.sqlite-journal", "lock", "seal", STATUS)
"""The files of a run folder that its readers open."""
WRITTEN = (*READ, "status.json.part", "seal.part")
KINDS: dict[str, Callable[[Path, Path], object]] = {
    "a symbolic link": lambda path, precious: path.symlink_to(precious),
    "a symbolic link ": lambda path, precious: path.symlink_to("/dev/zero"),
    "a pipe": lambda path, precious: os.mkfifo(path),
    "a folder": lambda path, precious: path.mkdir(),
    "a device": lambda path, precious: os.mknod(path, 0o600 | 0o020000, os.makedev(1, 5)),
}
COMMANDS = (["status"], ["audit"], ["results", "--json"], ["failures"], ["cancel", "--all"])


@pytest.fixture(autouse=True)
def nothing_hangs() -> Iterator[None]:
    """An error instead of a test that waits for ever."""

    def give_up(*_: object) -> None:
        raise AssertionError("it hangs")

    before = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(30)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture
def precious(tmp_path: Path) -> Path:
    """A file of the user that has nothing to do with the run."""
    path = tmp_path / "thesis.tex"
    path.write_text(PRECIOUS)
    return path


def put(kind: str, path: Path, precious: Path) -> None:
    """Put something else in the place of a file."""
    path.unlink(missing_ok=True)
    with contextlib.suppress(PermissionError):  # only root makes devices
        KINDS[kind](path, precious)
        return
    pytest.skip("devices can't be made here")


def test_a_file_that_is_no_file_stops_every_command(
    tmp_path: Path, precious: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each command says in one line which file is wrong and what it is; it neither waits nor writes anywhere else."""
    for number, kind in enumerate(KINDS):
        for name in WRITTEN:
            folder = tmp_path / f"run-{number}-{name}"
            make_run(folder, ["a", "b"], completed(0, 1)).close()
            put(kind, folder / name, precious)
            for command, *options in COMMANDS:
                code = dfz(command, str(folder), *options)

                out, err = capsys.readouterr()
                assert (code, out) == (2, ""), (kind, name, command, err)
                assert f"error: {folder / name}: found {kind.strip()}; expected " in err
                assert err.count("\n") == 1
            with pytest.raises(RunFolderRefused, match=f"{name}: found {kind.strip()}; expected "):
                open_for_work(folder, {})
    assert precious.read_text() == PRECIOUS


def test_a_new_run_in_a_folder_with_links_writes_nothing_elsewhere(tmp_path: Path, precious: Path) -> None:
    """A folder that only has the leftovers of a run takes a new run, unless they are links."""
    for name in ("lock", "run.sqlite", "run.sqlite.new", "run.sqlite.new-journal"):
        folder = tmp_path / name
        folder.mkdir()
        (folder / name).symlink_to(precious)

        with contextlib.suppress(RunFolderRefused):
            opened = open_for_work(folder, {"run_id": "r"})
            opened.writer.close()
            opened.lock.close()

        assert precious.read_text() == PRECIOUS


def test_a_file_is_replaced_even_if_its_unfinished_copy_is_a_link(tmp_path: Path, precious: Path) -> None:
    """What a file is written to first never leads elsewhere, and neither does the file that it replaces."""
    for name in ("new", "new.part"):
        (tmp_path / name).symlink_to(precious)

    write_whole(tmp_path / "new", b"content")

    assert (tmp_path / "new").read_bytes() == b"content"
    assert not (tmp_path / "new").is_symlink()
    assert precious.read_text() == PRECIOUS


@pytest.mark.parametrize("name", [REQUESTS, "results"])
def test_a_folder_of_a_run_is_no_link(tmp_path: Path, name: str) -> None:
    """Requests and results that a link leads elsewhere are refused, and no file there is removed."""
    settings = tmp_path / "settings"
    settings.mkdir()
    (settings / "editor.json").write_text("{}")
    folder = tmp_path / "run"
    make_run(folder, ["a", "b"], completed(0, 1)).close()
    (folder / name).symlink_to(settings)

    with pytest.raises(RunFolderRefused, match=f"{name}: found a symbolic link; expected your own folder"):
        file_request(folder, CancelRequest(whole_run=True))
    with pytest.raises(RunFolderRefused, match=f"{name}: found a symbolic link"):
        open_for_work(folder, {})
    if name == REQUESTS:
        with pytest.raises(RunFolderRefused, match="found a symbolic link"):
            read_requests(folder)

    assert [path.name for path in settings.iterdir()] == ["editor.json"]


def test_a_result_that_is_a_link_is_a_violation(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The audit says so if the file of a large result is a link, even if that leads to equal bytes."""
    folder = tmp_path / "run"
    make_run(folder, ["a"], completed(0, "x" * 1000), inline_bytes=100).close()
    (file,) = (folder / "results").iterdir()
    file.rename(tmp_path / "elsewhere")
    file.symlink_to(tmp_path / "elsewhere")

    assert dfz("audit", str(folder)) == 4
    assert f"{file}: found a symbolic link; expected a regular file" in capsys.readouterr().out
    assert dfz("results", str(folder), "--json") == 2
    assert f"{file}: found a symbolic link; expected a regular file" in capsys.readouterr().err


def test_a_file_with_a_second_name_is_read_but_not_written(tmp_path: Path, precious: Path) -> None:
    """A hard link leads a write to another file as a symbolic one does; a run that has some may still be read."""
    folder = tmp_path / "run"
    make_run(folder, ["a"], completed(0, 1)).close()
    os.link(precious, folder / "lock")

    assert dfz("status", str(folder)) == 0
    with pytest.raises(RunFolderRefused, match=r"lock: found a file that has another name, too \(a hard link\)"):
        open_for_work(folder, {})

    assert precious.read_text() == PRECIOUS


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become another user")
def test_the_run_of_someone_else_is_read_but_not_written(tmp_path: Path) -> None:
    """Another user may look at a run that its owner has opened to all, but neither resumes nor cancels it."""
    folder = tmp_path / "run"
    make_run(folder, ["a", "b"], completed(0, 1)).close()
    shutil.copytree(folder, tmp_path / "own")
    folder.chmod(0o777)
    for path in folder.iterdir():
        path.chmod(0o666)
    for path in (tmp_path, *tmp_path.parents[:-1]):
        path.chmod(path.stat().st_mode | 0o055)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    script = (
        "import os, sys\n"
        "from dfz_ray.cli import call, group\n"
        "COMMANDS = (['status'], ['audit'], ['cancel', '--all'])\n"
        "def codes(folder):\n"
        "    return [call(group, [name, folder, *more]) for name, *more in COMMANDS]\n"
        "codes(sys.argv[2])  # imports what is imported late, which the other user may not be able to read\n"
        "os.setuid(65534)\n"
        "print('codes', codes(sys.argv[1]))\n"
    )
    command = [sys.executable, "-c", script, str(folder), str(tmp_path / "own")]

    done = subprocess.run(command, capture_output=True, text=True, check=True)

    assert done.stdout.splitlines()[-1] == "codes [0, 0, 2]"
    (message,) = done.stderr.splitlines()
    assert "found one that belongs to the user 0; expected your own regular file" in message
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_a_file_that_has_no_end_is_not_read(tmp_path: Path) -> None:
    """A file that is read whole is bounded, however long it says that it is."""
    folder = tmp_path / "run"
    make_run(folder, ["a"], completed(0, 1)).close()
    (folder / STATUS).touch()
    os.truncate(folder / STATUS, 2**40)
    (folder / REQUESTS).mkdir()
    (folder / REQUESTS / "endless.json").touch()
    os.truncate(folder / REQUESTS / "endless.json", 2**40)

    with pytest.raises(RunFolderRefused, match=f"{STATUS}: found more than {SMALL_BYTES} bytes"):
        read_small(folder / STATUS)
    assert read_requests(folder) == []
    assert not (folder / REQUESTS / "endless.json").exists()
    with pytest.raises(RunFolderRefused, match="name fewer tasks"):
        file_request(folder, CancelRequest(tasks=("x" * SMALL_BYTES,)))


def test_a_run_whose_folder_is_reached_through_a_link_is_a_run(tmp_path: Path) -> None:
    """The way to the run folder may go through links, as where runs lie on another disk."""
    make_run(tmp_path / "disk" / "run", ["a"], completed(0, 1)).close()
    (tmp_path / "runs").symlink_to(tmp_path / "disk")

    opened = open_for_work(tmp_path / "runs" / "run", {})
    opened.writer.close()
    opened.lock.close()

    RunFolder(tmp_path / "runs" / "run").refuse_irregular(writes=True)
    with JournalReader(tmp_path / "runs" / "run") as journal:
        assert list(journal.ids()) == ["a"]


def test_a_regular_file_is_opened_for_what_was_asked(tmp_path: Path) -> None:
    """A file of one's own is made, written and read."""
    descriptor = open_regular(tmp_path / "new", os.O_WRONLY | os.O_CREAT)
    os.write(descriptor, b"content")
    os.close(descriptor)

    assert read_small(tmp_path / "new") == b"content"
    with pytest.raises(FileNotFoundError):
        open_regular(tmp_path / "missing")
