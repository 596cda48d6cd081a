"""What a worker leaves behind on its node."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from dfz_ray.engine.messages import NO_TASK
from dfz_ray.worker import crash_marker
from dfz_ray.worker.crash_marker import CrashMarker, CrashReport

WORKER = """
import os, sys, tempfile
tempfile.tempdir = sys.argv[1]
from dfz_ray.worker.crash_marker import CrashMarker
marker = CrashMarker("lease")
marker.open()
marker.note(17)
os.write(marker.open_dump().fileno(), b"here it hung")
os.kill(os.getpid(), 9)
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of marks, in a temporary folder of its own."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    crash_marker._remove_left.cache_clear()
    return tmp_path / f"dfz_ray-{os.getuid()}"


def test_the_task_of_a_killed_worker_is_known(folder: Path) -> None:
    """A worker that was killed has left the number of its task, and where it hung; reading that removes it."""
    subprocess.run([sys.executable, "-c", WORKER, str(folder.parent)])
    assert CrashMarker("lease").read_crash_report() == CrashReport((17,), "here it hung", (17,), are_guilty=True)
    assert CrashMarker("lease").read_crash_report() == CrashReport(None, "")
    assert not list(folder.iterdir())


def test_a_worker_between_tasks_blames_none(folder: Path) -> None:
    """A marker begins with no task, and goes back to it; a lease that ends well leaves nothing."""
    own = CrashMarker("lease")
    own.open()
    assert folder.stat().st_mode & 0o777 == 0o700
    own.note(3)
    own.note(NO_TASK)
    assert CrashMarker("lease").read_crash_report().executing == ()
    own.close()
    assert not list(folder.iterdir())


def test_what_is_revoked_adds_up(folder: Path) -> None:
    """Tasks that a lease is to let go of are told to it, also in several steps."""
    own = CrashMarker("lease")
    own.open()
    assert own.revoked() == set()
    CrashMarker("lease").revoke([1, 2])
    CrashMarker("lease").revoke([2, 5])
    assert own.revoked() == {1, 2, 5}
    own.close()
    assert not list(folder.iterdir())


def test_markers_that_nobody_read_are_removed(folder: Path) -> None:
    """Marks of workers that died long ago are removed by later workers; those of living ones stay."""
    subprocess.run([sys.executable, "-c", WORKER, str(folder.parent)])
    mine = CrashMarker("mine")
    mine.open()
    mine.open_dump()
    long_ago = time.time() - 3600
    for path in folder.iterdir():
        os.utime(path, (long_ago, long_ago))
    crash_marker._remove_left.cache_clear()
    later = CrashMarker("later")
    later.open()
    assert sorted(path.name for path in folder.iterdir()) == ["later", "mine", "mine.dump"]


def test_a_folder_of_someone_else_is_not_used(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where another user has made the folder of marks, nothing is written there, and nothing in it is believed."""
    subprocess.run([sys.executable, "-c", WORKER, str(folder.parent)])
    name = folder.name
    other = os.getuid() + 1
    monkeypatch.setattr(os, "getuid", lambda: other)
    folder.rename(folder.with_name(name.replace(str(other - 1), str(other))))
    assert CrashMarker("lease").read_crash_report() == CrashReport(None, "")
    own = CrashMarker("new")
    own.open()
    own.note(1)
    assert own.open_dump() is None
    assert not list(folder.with_name(f"dfz_ray-{other}").glob("new*"))


SEVERAL = """
import os, sys, tempfile, threading, time
tempfile.tempdir = sys.argv[1]
from dfz_ray.worker.crash_marker import CrashMarker
marker = CrashMarker("lease", 4)
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
    report = CrashMarker("lease").read_crash_report(grace_s=2.0)
    assert report.executing == (5, 6, 7, 8)
    assert (report.overdue, report.are_guilty) == ((6,), True)
    assert "there" in report.dump
    assert "here\n" not in report.dump.replace("there\n", "")


def test_who_could_not_be_asked_to_let_go_is_not_known_to_be_guilty(folder: Path) -> None:
    """Where no task was asked to let go, since one kept all threads from running, all that are late are named."""
    subprocess.run([sys.executable, "-c", SEVERAL, str(folder.parent)])
    report = CrashMarker("lease").read_crash_report(grace_s=2.0)
    assert (report.overdue, report.are_guilty) == ((5, 6), False)
