"""What happens to a run when a process that it needs dies."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest
from driver import BIN, processes_of, start_run, wait_until

from dfz_ray.journal.reader import JournalReader


def test_ctrl_c_commits_what_had_ended(tmp_path: Path) -> None:
    """Ctrl-C ends a run with exit code 130 within seconds; what had ended is kept, and the message says where."""
    process = start_run(tmp_path)
    os.killpg(process.pid, signal.SIGINT)
    _, stderr = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "what was committed is in run, and goes on with: dfz resume run" in stderr
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
