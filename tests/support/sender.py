"""A driver that is ended while it sends its batch: the run must say so, and the printed command must send the rest."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import shutil
import signal
import sqlite3
import subprocess
from pathlib import Path
from typing import Any, NamedTuple

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
CODES = {"SIGKILL": -9, "SIGTERM": 130, "SIGINT": 130}
"""The exit code of a driver that a signal has ended."""


class Ended(NamedTuple):
    """A driver that a signal has ended while it sent its batch."""

    tasks: int
    """Of the batch."""
    sent: int
    code: int
    stderr: str


def end_while_sending(folder: Path, name: str, tasks: int) -> Ended:
    """Begin a run of tasks that do nothing, and send its driver a signal when a part of them is sent."""
    (folder / "modules").mkdir(parents=True)
    (folder / "modules" / "noops.py").write_text(NOOPS)
    while (ended := _try_to_end(folder, name, tasks)) is None:  # all were sent before the lock was taken
        shutil.rmtree(folder / "run")
        tasks *= 2
    assert ended.code == CODES[name], ended.stderr
    assert "Traceback" not in ended.stderr, ended.stderr
    return ended


def _try_to_end(folder: Path, name: str, tasks: int) -> Ended | None:
    run, err = folder / "run", folder / "err"
    (folder / "batch.json").write_text(json.dumps({"generate": [{"domain": "noop", "count": tasks}]}))
    words = ["run", "batch.json", "--run-dir", "run", "--import", "modules/noops.py", "--address", "local"]
    with err.open("w") as file:
        driver = psutil.Popen([str(BIN / "dfz"), *words], cwd=folder, stderr=file, start_new_session=True)
    try:
        wait_until(run.joinpath("run.sqlite").exists, "there is a journal", 120, each_s=0.001)
        with contextlib.closing(sqlite3.connect(run / "run.sqlite", timeout=60, isolation_level=None)) as journal:
            wait_until(lambda: _lock_with_tasks(journal), "a part is sent", 120, each_s=0.001)
            (sent,) = journal.execute("SELECT sum(tasks) FROM blocks").fetchone()
            status = dfz(folder, "status", "last", "--json")  # while the manager waits for the lock
            assert status.returncode == 0, f"it is incomplete while its driver sends: {status.stderr}"
            driver.send_signal(getattr(signal, name))
            if name == "SIGKILL":
                driver.wait(60)
            journal.execute("ROLLBACK")
        code = driver.wait(120)
        wait_until(lambda: not is_held(run), "the manager is gone", 120)
    finally:
        for process in psutil.process_iter():
            with contextlib.suppress(ProcessLookupError, psutil.Error):
                if os.getsid(process.pid) == driver.pid:
                    process.kill()
    return None if sent == tasks else Ended(tasks, count_tasks(run), code, err.read_text())


def _lock_with_tasks(journal: sqlite3.Connection) -> bool:
    """Take the lock that a writer needs once the journal has tasks: the manager can't take any more.

    Until then the journal is only read: taking and releasing the lock all the time would starve the manager.
    """
    if journal.execute("SELECT count(*) FROM blocks").fetchone() == (0,):
        return False
    journal.execute("BEGIN IMMEDIATE")
    return True


def check_incomplete(folder: Path, sent: int, tasks: int) -> str:
    """Status, resume and audit of the run say both numbers, with exit code 1; returns the command that they name."""
    says = f"incomplete: of the {tasks:,} tasks of batch 'batch' only {sent:,} were sent; the rest is sent by: "
    commands = set()
    for words in (["status", "last"], ["audit", "last"], ["resume", "last", "--address", "local"]):
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
    for words in (["status", "run", "--json"], ["audit", "run", "--json"]):
        done = dfz(folder, *words)
        assert done.returncode == 0, done.stdout + done.stderr
        assert json.loads(done.stdout)["incomplete"] == []
        assert json.loads(done.stdout).get("name", "batch") == "batch"
    assert check(folder / "run") == []
    assert find_incomplete(folder / "run") == []
    return summary


def dfz(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """The program, run to its end."""
    return subprocess.run([str(BIN / "dfz"), *words], cwd=folder, capture_output=True, text=True, timeout=600)
