"""What happens to a run when a process that it needs dies."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from dfz_ray.journal.reader import JournalReader

BIN = Path(sys.executable).parent

SLOW = """
import time
from dfz_ray import domain

@domain("slow")
def slow(*, seed: int):
    time.sleep(0.05)
    return {"seed": seed}
"""


def start_run(folder: Path) -> subprocess.Popen[str]:
    """`dfz run` on a batch of ten seconds, in a process group of its own; returns once results are committed."""
    (folder / "slow.py").write_text(SLOW)
    (folder / "batch.yaml").write_text("generate: [{domain: slow, count: 400}]")
    command = [str(BIN / "dfz"), "run", "batch.yaml", "--import", "slow.py", "--address", "local", "--max-workers", "2"]
    process = subprocess.Popen(
        [*command, "--run-dir", "run"],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    wait_until(lambda: completed(folder / "run") > 20, "results are committed")
    return process


def completed(folder: Path) -> int:
    if not (folder / "run.sqlite").is_file():
        return 0
    with JournalReader(folder) as journal:
        return journal.counts()["completed"]


def wait_until(condition: object, what: str, deadline_s: float = 60) -> None:
    end = time.monotonic() + deadline_s
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < end, f"waited {deadline_s} s in vain until {what}"
        time.sleep(0.02)


def processes_of(driver: subprocess.Popen[str], word: str) -> list[psutil.Process]:
    """The driver's descendants whose command line has a word."""
    found = []
    for process in psutil.Process(driver.pid).children(recursive=True):
        try:
            if word in " ".join(process.cmdline()):
                found.append(process)
        except psutil.NoSuchProcess:
            continue
    return found


def test_ctrl_c_commits_what_had_ended(tmp_path: Path) -> None:
    """Ctrl-C ends a run with exit code 130 within seconds; what had ended is kept, and the message says where."""
    process = start_run(tmp_path)
    os.killpg(process.pid, signal.SIGINT)
    _, stderr = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "what was committed is in run" in stderr
    assert "Traceback" not in stderr
    with JournalReader(tmp_path / "run") as journal:
        counts = journal.counts()
        assert counts["completed"] == sum(record.status == "completed" for record in journal.records()) > 20
        assert counts["completed"] + counts["pending"] == 400


def test_a_worker_that_is_killed_costs_at_most_the_task_that_it_ran(tmp_path: Path) -> None:
    """Killing a worker process from outside is a crash of the task that it ran alone, at most; the run goes on."""
    process = start_run(tmp_path)
    wait_until(lambda: processes_of(process, "ray::slow"), "a worker is seen at work")
    processes_of(process, "ray::slow")[0].kill()
    stdout, _ = process.communicate(timeout=120)
    with JournalReader(tmp_path / "run") as journal:
        counts = journal.counts()
    assert counts["completed"] >= 399
    assert counts["completed"] + counts["failed"] == 400
    assert process.returncode == (1 if counts["failed"] else 0)
    assert "tasks" in stdout


def test_a_manager_that_is_killed_ends_the_run_with_a_clear_word(tmp_path: Path) -> None:
    """Without its manager a run can't go on: it says so in a line, and what was committed can be read."""
    process = start_run(tmp_path)
    (manager,) = processes_of(process, "ray::TaskManager")
    manager.kill()
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "error: the manager of the run is gone" in stderr
    assert "Traceback" not in stderr
    with JournalReader(tmp_path / "run") as journal:
        assert journal.counts()["completed"] > 20
        assert len(journal.digest()) == 64


def test_a_full_disk_stops_the_run_and_loses_nothing(tmp_path: Path) -> None:
    """When the journal can't be written any more the run stops with the reason, and what was committed stays."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)], capture_output=True).returncode:
        pytest.skip("no small file system can be mounted here")
    try:
        (tmp_path / "fill.py").write_text(
            "from dfz_ray import domain\n\n"
            "@domain('fill')\n"
            "def fill(*, seed: int):\n"
            "    return {'text': str(seed) * 500}\n"
        )
        (tmp_path / "batch.yaml").write_text("generate: [{domain: fill, count: 2000}]")
        command = [str(BIN / "dfz"), "run", "batch.yaml", "--import", "fill.py", "--address", "local"]
        done = subprocess.run(
            [*command, "--run-dir", str(disk / "run")], cwd=tmp_path, capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 1
        assert "can't be written" in done.stderr
        assert "Traceback" not in done.stderr
        with JournalReader(disk / "run") as journal:
            assert 0 < journal.counts()["completed"] < 2000
            assert all(record.result for record in journal.records() if record.status == "completed")
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)
