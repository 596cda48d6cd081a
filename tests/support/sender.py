"""A driver that is ended while it sends its batch: the run must say so, and the printed command must send the rest."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import signal
import sqlite3
import subprocess
from pathlib import Path
from typing import Any

import psutil

from dfz_ray.journal.lock import is_held
from support.audit_checker import check, find_incomplete
from support.driver import BIN, count_tasks, wait_until

NOOPS = """
from dfz_ray import domain

@domain("noop")
def noop():
    return None
"""
ENDINGS = {"SIGKILL": {-9}, "SIGTERM": {130}, "SIGINT": {130}}
"""The exit codes of a driver that a signal has ended."""


def end_while_sending(folder: Path, name: str, tasks: int) -> int:
    """Begin a run of tasks that do nothing, and send its driver a signal when a part is sent; returns that part.

    A lock on the journal keeps the manager from taking the rest, however fast the machine is.
    """
    (folder / "modules").mkdir(parents=True)
    (folder / "modules" / "noops.py").write_text(NOOPS)
    (folder / "batch.json").write_text(json.dumps({"generate": [{"domain": "noop", "count": tasks}]}))
    run = folder / "run"
    words = ["run", "batch.json", "--run-dir", "run", "--import", "modules/noops.py", "--address", "local"]
    with (folder / "err").open("w") as err:
        driver = psutil.Popen([str(BIN / "dfz"), *words], cwd=folder, stderr=err, start_new_session=True)
    try:
        wait_until(lambda: count_tasks(run), "a part is sent", 120, each_s=0.001)
        with contextlib.closing(sqlite3.connect(run / "run.sqlite", timeout=60, isolation_level=None)) as journal:
            journal.execute("BEGIN IMMEDIATE")
            sent = count_tasks(run)
            assert dfz(folder, "status", "last").returncode == 0, "it is incomplete while its driver sends"
            driver.send_signal(getattr(signal, name))
            if name == "SIGKILL":
                driver.wait(60)
            journal.execute("ROLLBACK")
        code = driver.wait(120)
        assert code in ENDINGS[name], f"exit code {code}: {(folder / 'err').read_text()}"
        wait_until(lambda: not is_held(run), "the manager is gone", 120)
    finally:
        for process in psutil.process_iter():
            with contextlib.suppress(ProcessLookupError, psutil.Error):
                if os.getsid(process.pid) == driver.pid:
                    process.kill()
    assert sent < tasks
    return count_tasks(run)


def check_incomplete(folder: Path, sent: int, tasks: int) -> str:
    """Status, resume and audit of the run say both numbers, with exit code 1; returns the command that they name."""
    says = f"incomplete: of the {tasks:,} tasks of batch 'batch' only {sent:,} were sent; the rest is sent by: "
    commands = set()
    for words in (["status", "last"], ["audit", "last"], ["resume", "last", "--address", "local"], ["status", "last"]):
        done = dfz(folder, *words)
        found = re.search(f"^{re.escape(says)}(.*)$", done.stdout + done.stderr, re.MULTILINE)
        assert done.returncode == 1, f"{words}: {done.returncode}: {done.stdout}{done.stderr}"
        assert found, f"{words}: {done.stdout}{done.stderr}"
        commands.add(found[1])
    assert check(folder / "run") == []
    assert find_incomplete(folder / "run") == [(sent, tasks)]
    (command,) = commands
    return command


def send_the_rest(folder: Path, command: str, tasks: int) -> dict[str, Any]:
    """Execute the command that was printed, elsewhere: every task completes, and nothing is incomplete any more."""
    (folder / "elsewhere").mkdir()
    _, *words = shlex.split(command)
    done = dfz(folder / "elsewhere", *words, "--address", "local", "--json")
    assert done.returncode == 0, done.stderr
    summary: dict[str, Any] = json.loads(done.stdout)
    assert summary["counts"]["completed"] == tasks == sum(summary["counts"].values())
    for words in (["status", "run"], ["audit", "run"]):
        assert dfz(folder, *words).returncode == 0
    assert check(folder / "run") == []
    assert find_incomplete(folder / "run") == []
    return summary


def dfz(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """The program, run to its end."""
    return subprocess.run([str(BIN / "dfz"), *words], cwd=folder, capture_output=True, text=True, timeout=280)
