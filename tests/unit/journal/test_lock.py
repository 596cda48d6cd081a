"""One process at a time works on a run."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from support.sample_run import build

from dfz_ray.errors import RunFolderRefused
from dfz_ray.journal import folder as journal_folder
from dfz_ray.journal.lock import LOCK, RunLock
from dfz_ray.journal.recovery import open_for_work
from dfz_ray.journal.run_audit import audit_run

HOLD = """
import sys
from pathlib import Path
from dfz_ray.journal.lock import RunLock

lock = RunLock(Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
"""


def hold(folder: Path) -> subprocess.Popen[str]:
    """Another process that works on the run."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_a_run_that_a_live_process_holds_is_refused_with_its_name(tmp_path: Path) -> None:
    """A second process waits, and is then refused with the name of the process that works on the run."""
    process = hold(tmp_path)
    with pytest.raises(RunFolderRefused, match=f"process {process.pid} on .* works on the run in .*; waited 0.2 s"):
        RunLock(tmp_path, wait_s=0.2)
    process.communicate()
    RunLock(tmp_path, wait_s=0.2).close()


def test_a_process_that_is_killed_holds_nothing(tmp_path: Path) -> None:
    """The lock ends with its process, however that ends, and the process that waits for it gets it."""
    process = hold(tmp_path)
    process.kill()
    RunLock(tmp_path, wait_s=10).close()
    process.communicate()
    assert str(process.pid) not in (tmp_path / LOCK).read_text()


@pytest.mark.parametrize("code", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    """Where a file system has no locks, e.g. Lustre mounted without `flock`, the error says so; no file stays open."""

    def refuse(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(RunFolderRefused, match="has no locks"):
        RunLock(tmp_path, wait_s=0.2)
    assert tmp_path / LOCK not in [Path(file.path) for file in psutil.Process().open_files()]


ON_FULL_DISK = """
import resource, sys
from pathlib import Path
from dfz_ray.errors import RunFolderRefused
from dfz_ray.journal.lock import RunLock

resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
try:
    RunLock(Path(sys.argv[1]))
except RunFolderRefused as error:
    print(error)
"""


def test_a_lock_that_can_not_be_written_refuses_the_run(tmp_path: Path) -> None:
    """Without room for its lock a run is refused with the file and the reason, and is not held."""
    command = [sys.executable, "-c", ON_FULL_DISK, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert (done.stdout, done.stderr) == (f"{tmp_path / LOCK} can't be written: File too large\n", "")
    RunLock(tmp_path, wait_s=0.2).close()


def test_a_run_that_somebody_reads_for_long_is_no_damaged_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever opens a run for work meanwhile is told so, and leaves it as it was; afterwards the run can be opened."""
    monkeypatch.setattr(journal_folder, "BUSY_S", 0.1)
    run = tmp_path / "run"
    build(run)
    with contextlib.closing(sqlite3.connect(f"file:{run / 'run.sqlite'}?mode=ro", uri=True)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM outcomes").fetchone()
        with pytest.raises(RunFolderRefused, match="is being read, for example by `dfz audit`; try again"):
            open_for_work(run, {})
    checks = audit_run(run).checks
    assert all(check.looked_at["seal"] == "whole" for check in checks if check.name == "file")

    opened = open_for_work(run, {})
    opened.writer.close()
    opened.lock.close()
