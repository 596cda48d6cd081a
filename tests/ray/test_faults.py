"""A run whose processes die."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from support.driver import BIN, processes_of, start_run, wait_until

from dfz_ray.journal.reader import JournalReader
from dfz_ray.specs.states import STATES

ROOT = Path(__file__).parents[2]

INTERRUPTED_TWICE = """
import os, signal, sys, threading, time
from dfz_ray import domain, run
from dfz_ray.driver.run_session import RunSession


@domain("wait", cpus=1)
def wait(*, seed: int = 0):
    time.sleep(0.05)


def interrupt_the_end(main):
    codes = []
    while RunSession.join.__code__ not in codes:
        frame, codes = sys._current_frames()[main], []
        while frame is not None:
            codes.append(frame.f_code)
            frame = frame.f_back
    os.kill(os.getpid(), signal.SIGINT)


def interrupt_the_run(counts):
    if counts["completed"]:
        threading.Thread(target=interrupt_the_end, args=[threading.get_ident()], daemon=True).start()
        raise KeyboardInterrupt


signal.signal(signal.SIGINT, signal.default_int_handler)
try:
    run([wait.task()] * 1000, address="local", run_dir="run", progress=interrupt_the_run)
except KeyboardInterrupt:
    sys.exit(130)
"""
"""Ctrl-C comes once tasks have ended, and again while the run is closed."""


def test_ctrl_c_commits_what_had_ended(tmp_path: Path) -> None:
    """Ctrl-C ends a run with exit code 130 within seconds; what had ended is kept, and the message says where."""
    process = start_run(tmp_path)
    os.killpg(process.pid, signal.SIGINT)
    _, stderr = process.communicate(timeout=300)
    assert process.returncode == 130
    assert "what was committed is in run, and goes on with: dfz resume run" in stderr
    assert "Traceback" not in stderr
    with JournalReader(tmp_path / "run") as journal:
        counts = journal.counts()
        assert counts["completed"] == sum(record.status == "completed" for record in journal.records()) > 20
        assert counts["completed"] + counts["pending"] == 400


def test_a_second_ctrl_c_says_how_the_run_goes_on(tmp_path: Path) -> None:
    """A second Ctrl-C, while the run is closed, loses neither what was committed nor the words that say where it is."""
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED_TWICE], cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 130
    assert done.stderr == "interrupted; what was committed is in run, and goes on with: dfz resume run\n"
    with JournalReader(tmp_path / "run") as journal:
        assert journal.counts()["completed"] > 0


@pytest.mark.long
def test_a_worker_that_is_killed_costs_nothing(tmp_path: Path) -> None:
    """Killing a worker from outside looks like a crash of the task that it ran, which is tried again."""
    process = start_run(tmp_path)
    wait_until(lambda: processes_of(process, "ray::dfz lease slow"), "a worker is seen at work")
    processes_of(process, "ray::dfz lease slow")[0].kill()
    stdout, stderr = process.communicate(timeout=300)
    assert process.returncode == 0, stderr
    assert "400 completed" in stdout
    with JournalReader(tmp_path / "run") as journal:
        attempts = [record.attempts for record in journal.records()]
    assert set(attempts) <= {1, 2}


@pytest.mark.long
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


@pytest.mark.long
def test_json_is_alone_on_stdout_also_when_workers_die(tmp_path: Path) -> None:
    """`dfz run --json` prints one JSON object alone on stdout, whatever tasks and Ray print."""
    (tmp_path / "loud.py").write_text(
        "import os\nfrom dfz_ray import domain\n\n"
        "@domain('loud')\n"
        "def loud(die: bool = False):\n"
        "    print('x' * 100_000)\n"
        "    if die:\n"
        "        os._exit(3)\n"
    )
    (tmp_path / "batch.yaml").write_text(
        "tasks: [{domain: loud}, {domain: loud, parameters: {die: true}}, {domain: loud}]"
    )
    command = [str(BIN / "dfz"), "run", "batch.yaml", "--import", "loud.py", "--address", "local", "--json"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    told = json.loads(done.stdout)
    assert done.returncode == 1
    assert told.keys() == {"run_dir", "counts", "metrics", "digest"}
    assert told["counts"] == {**dict.fromkeys(STATES, 0), "completed": 2, "failed": 1}
    assert "1 task did not complete: 1 worker_crashed; first task-1: the worker process died" in done.stderr
    records = subprocess.run(
        [str(BIN / "dfz"), "results", "last", "--json", "--state", "failed"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    (record,) = map(json.loads, records.stdout.splitlines())
    assert record["error"]["reason"] == "worker_crashed"


@pytest.mark.long
def test_a_study_of_loud_and_dying_tasks_ends(tmp_path: Path) -> None:
    """Tasks that print much, or kill their worker, are measured or named; the study never hangs."""
    (tmp_path / "loud.py").write_text(
        "import os\nfrom dfz_ray import domain\n\n"
        "@domain('loud')\n"
        "def loud():\n"
        "    print('x' * 200_000)\n\n"
        "@domain('deadly')\n"
        "def deadly():\n"
        "    os._exit(3)\n"
    )
    command = [
        sys.executable,
        str(ROOT / "benchmarks/scale.py"),
        "--import",
        "loud.py",
        "--workers",
        "1",
        "--repeats",
        "1",
    ]
    for name, code in (("loud", 0), ("deadly", 1)):
        done = subprocess.run(
            [*command, "--domain", name, "--count", "4", "--output", name, "--address", "local"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == code, done.stderr
        assert "Traceback" not in done.stderr
        summary = json.loads((tmp_path / name / "summary.json").read_text())
        assert summary["points"][0]["success_rate"] == (1 if name == "loud" else None)
