"""What a worker leaves behind on its node."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from dfz_ray.engine.messages import NO_TASK
from dfz_ray.worker import crash_marker, lasting_memory
from dfz_ray.worker.crash_marker import CrashMarker, CrashReport

WORKER = """
import os, sys, tempfile
tempfile.tempdir = sys.argv[1]
from dfz_ray.worker.crash_marker import CrashMarker
marker = CrashMarker("run/lease")
marker.open()
marker.note_thread(0, 17, 0.0)
os.write(marker.open_dump().fileno(), b"here it hung")
os.kill(os.getpid(), 9)
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of marks, in a temporary folder of its own."""
    root = tmp_path / f"dfz_ray-{os.getuid()}"
    monkeypatch.setattr(crash_marker, "ROOT", root)
    crash_marker._remove_left.cache_clear()
    return root


def test_the_task_of_a_killed_worker_is_known(folder: Path) -> None:
    """A worker that was killed has left the number of its task, and where it hung; reading that removes it."""
    subprocess.run([sys.executable, "-c", WORKER, str(folder.parent)])
    assert CrashMarker("run/lease").read_crash_report() == CrashReport((17,), "here it hung", (17,))
    assert CrashMarker("run/lease").read_crash_report() == CrashReport(None, "")
    assert not list(folder.iterdir())


def test_a_worker_between_tasks_blames_none(folder: Path) -> None:
    """A marker begins with no task, and goes back to it; a lease that ends well leaves nothing."""
    own = CrashMarker("run/lease")
    own.open()
    assert [path.stat().st_mode & 0o777 for path in (folder, folder / "run")] == [0o700, 0o700]
    own.note(3)
    own.note(NO_TASK)
    assert CrashMarker("run/lease").read_crash_report().executing == ()
    own.close()
    assert not list(folder.iterdir())


def test_what_a_worker_executes_can_be_read_while_it_lives(folder: Path) -> None:
    """That takes nothing away. Of a worker that is gone nothing is known."""
    own = CrashMarker("run/lease", 2)
    own.open()
    for executing in ((), (3,), (3, 5)):
        for position, number in enumerate(executing):
            own.note_thread(position, number)
        assert CrashMarker("run/lease").read_executing() == executing
    own.close()
    assert CrashMarker("run/lease").read_executing() == ()


MISLED = """
import sys, tempfile
tempfile.tempdir = sys.argv[1]
from dfz_ray.worker.crash_marker import CrashMarker
tempfile.tempdir = "/nowhere"
marker = CrashMarker("run/lease")
marker.open()
marker.note(17)
"""


def test_a_task_that_moves_temporary_files_does_not_move_the_marker(folder: Path) -> None:
    """The marker of a later lease in its process lies where the manager looks."""
    subprocess.run([sys.executable, "-c", MISLED, str(folder.parent)])
    assert CrashMarker("run/lease").read_crash_report().executing == (17,)


@pytest.mark.parametrize("spoil", [Path.unlink, lambda path: os.truncate(path, 0)])
def test_a_marker_that_someone_spoils_kills_nobody_and_is_made_anew(
    folder: Path, spoil: Callable[[Path], None]
) -> None:
    """Whoever truncates or removes a marker does no harm to its worker, whose next chunk is marked again."""
    own = CrashMarker("run/lease", 2)
    own.open()
    own.note_thread(1, 3)
    spoil(folder / "run" / "lease")
    own.note(4)

    own.renew()

    own.note(5)
    assert CrashMarker("run/lease").read_crash_report().executing == (5, 3)
    own.renew()
    own.close()
    assert not list(folder.iterdir())


def test_a_limit_on_files_stops_no_marker(folder: Path) -> None:
    """A task that has forbidden its process to write files is known all the same."""
    code = WORKER.replace(
        "marker.note_thread(", "resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0)); marker.note_thread("
    )
    code = code.replace('os.write(marker.open_dump().fileno(), b"here it hung")', "")
    ended = subprocess.run([sys.executable, "-c", f"import resource\n{code}", str(folder.parent)])
    assert ended.returncode == -9
    assert CrashMarker("run/lease").read_crash_report().executing == (17,)


def test_markers_leave_no_memory_behind(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When a marker was read, closed, or removed because nobody had read it, its memory is free again."""
    monkeypatch.setattr(crash_marker, "LEFT_S", -2.0)
    monkeypatch.setattr(crash_marker, "_HEAD", b"testing\0")  # so that it takes nothing from other runs
    head = "from dfz_ray.worker import crash_marker\ncrash_marker._HEAD = b'testing\\0'\n"
    code = WORKER.replace("marker = ", f"{head}marker = ")
    subprocess.run([sys.executable, "-c", code, str(folder.parent)])
    used = [find_memory(folder / "run" / "lease")]
    CrashMarker("run/lease").read_crash_report()
    own = CrashMarker("run/own")
    own.open()
    used.append(find_memory(folder / "run" / "own"))
    own.close()
    subprocess.run([sys.executable, "-c", code, str(folder.parent)])
    used.append(find_memory(folder / "run" / "lease"))
    (folder / "run" / "lease").unlink()
    crash_marker._remove_left.cache_clear()
    own.open()
    own.close()
    for number in used:
        with pytest.raises(OSError, match=r"."):
            lasting_memory.read(number, 1)


def find_memory(path: Path) -> int:
    """The id of a marker's memory, which exists."""
    number = crash_marker._FILE.unpack(path.read_bytes())[1]
    assert lasting_memory.read(number, 1)
    return number


def test_a_link_in_the_place_of_a_folder_is_not_followed(folder: Path) -> None:
    """A folder of a run that is a link to another place gets no marker."""
    (folder.parent / "elsewhere").mkdir()
    folder.mkdir(mode=0o700)
    (folder / "run").symlink_to(folder.parent / "elsewhere")
    own = CrashMarker("run/lease")
    own.open()
    own.note(1)
    assert not list((folder.parent / "elsewhere").iterdir())


def test_what_is_revoked_adds_up(folder: Path) -> None:
    """Tasks that a lease is to let go of are told to it, also in several steps."""
    own = CrashMarker("run/lease")
    own.open()
    assert own.revoked() == set()
    CrashMarker("run/lease").revoke([1, 2])
    CrashMarker("run/lease").revoke([2, 5])
    assert own.revoked() == {1, 2, 5}
    own.close()
    assert not list(folder.iterdir())


def test_what_is_revoked_at_once_adds_up(folder: Path) -> None:
    """Interrupts of one lease that meet lose no task, disturb neither each other nor the marker, and are read whole."""
    own = CrashMarker("run/lease")
    own.open()
    with ThreadPoolExecutor(4) as threads:
        revoking = [threads.submit(CrashMarker("run/lease").revoke, [number]) for number in range(200)]
        while not all(one.done() for one in revoking):
            own.open()
            assert own.revoked() <= set(range(200))
    for one in revoking:
        one.result()
    own.note(7)

    assert own.revoked() == set(range(200))
    assert CrashMarker("run/lease").read_crash_report().executing == (7,)
    assert not list(folder.iterdir())


@pytest.mark.parametrize("content", [b"", b"\x92\x01", b"\x07", b"\xc1", b"\x91\x90", b"\x91\xa1a"])
def test_what_somebody_else_has_written_revokes_nothing(folder: Path, content: bytes) -> None:
    """A file that names no tasks raises nothing in the task that a signal interrupts."""
    own = CrashMarker("run/lease")
    own.open()
    (folder / "run" / "lease.revoked").write_bytes(content)
    assert own.revoked() == set()
    CrashMarker("run/lease").revoke([3])
    assert own.revoked() == {3}
    own.close()


def test_markers_that_nobody_read_are_removed(folder: Path) -> None:
    """Marks of workers that died long ago are removed by later workers; those of living ones stay."""
    subprocess.run([sys.executable, "-c", WORKER, str(folder.parent)])
    mine = CrashMarker("run/mine")
    mine.open()
    mine.open_dump()
    long_ago = time.time() - 3600
    for path in folder.glob("*/*"):
        os.utime(path, (long_ago, long_ago))
    crash_marker._remove_left.cache_clear()
    later = CrashMarker("later/later")
    later.open()
    assert sorted(path.name for path in folder.glob("*/*")) == ["later", "mine", "mine.dump"]


def test_a_folder_of_someone_else_is_not_used(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where another user has made the folder of marks, nothing is written there, and nothing in it is believed."""
    subprocess.run([sys.executable, "-c", WORKER, str(folder.parent)])
    name = folder.name
    other = os.getuid() + 1
    monkeypatch.setattr(os, "getuid", lambda: other)
    folder.rename(folder.with_name(name.replace(str(other - 1), str(other))))
    assert CrashMarker("run/lease").read_crash_report() == CrashReport(None, "")
    own = CrashMarker("run/new")
    own.open()
    own.note(1)
    assert own.open_dump() is None
    assert not list(folder.with_name(f"dfz_ray-{other}").glob("*/new*"))


SEVERAL = """
import os, sys, tempfile, threading, time
tempfile.tempdir = sys.argv[1]
from dfz_ray.worker.crash_marker import CrashMarker
marker = CrashMarker("run/lease", 4)
marker.open()
now = time.monotonic()
marker.note_thread(0, 5, now - 1, 0xAB)
marker.note_thread(1, 6, now - 3, 0xCD)
marker.note_thread(2, 7)
marker.note_thread(3, 8, now + 100)
if len(sys.argv) > 2:
    marker.note_interrupted(0)
    marker.note_interrupted(1)
dump = "Timeout!\\nThread 0x00000000000000ab (most recent call first):\\n  here\\n"
dump += "Thread 0x00000000000000cd (most recent call first):\\n  there\\n"
os.write(marker.open_dump().fileno(), dump.encode())
os.kill(os.getpid(), 9)
"""


def test_of_several_tasks_those_that_did_not_let_go_in_time_are_guilty(folder: Path) -> None:
    """A worker of several threads leaves the numbers of all its tasks, who had its grace for nothing, and where."""
    subprocess.run([sys.executable, "-c", SEVERAL, str(folder.parent), "asked to let go"])
    report = CrashMarker("run/lease").read_crash_report(grace_s=2.0)
    assert report.executing == (5, 6, 7, 8)
    assert (report.overdue, report.are_guilty) == ((6,), True)
    assert "there" in report.dump
    assert "here\n" not in report.dump.replace("there\n", "")


def test_who_could_not_be_asked_to_let_go_is_not_known_to_be_guilty(folder: Path) -> None:
    """Where no task was asked to let go, since one kept all threads from running, all that are late are named."""
    subprocess.run([sys.executable, "-c", SEVERAL, str(folder.parent)])
    report = CrashMarker("run/lease").read_crash_report(grace_s=2.0)
    assert (report.overdue, report.are_guilty) == ((5, 6), False)


def test_a_worker_that_ends_for_another_reason_blames_none_of_its_tasks(folder: Path) -> None:
    """Where the object store has no room for an input, the task that waits for it is not to blame."""
    own = CrashMarker("run/lease", width=3)
    own.open()
    for position, number in enumerate((7, 8, 9)):
        own.note_thread(position, number, due=1e9)

    own.blame_nobody()

    assert CrashMarker("run/lease").read_crash_report() == CrashReport((), "")


def test_threads_that_tasks_have_left_behind_are_told(folder: Path) -> None:
    """One of them may have killed the worker, and not the task that was executed then."""
    own = CrashMarker("run/lease")
    own.open()
    own.note(7)
    own.note_strays()

    found = CrashMarker("run/lease").read_crash_report()

    assert (found.executing, found.had_strays) == ((7,), True)
