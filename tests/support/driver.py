"""Starts `dfz` commands that work on a run as processes of their own, which tests disturb."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple

import psutil

from dfz_ray.errors import JournalDamaged
from dfz_ray.journal.reader import JournalReader

BIN = Path(sys.executable).parent

SLOW = """
import time
from dfz_ray import domain

@domain("slow")
def slow(*, seed: int):
    time.sleep(0.03)
    return {"seed": seed}
"""

QUICK = """
import hashlib
import time
from dfz_ray import domain

@domain("quick", kind=lambda parameters: "large" if parameters["kib"] else "small")
def quick(ms: int = 10, kib: int = 0, *, seed: int):
    time.sleep(ms / 1000)
    word = hashlib.sha256(str(seed).encode()).hexdigest()
    return {"word": word, "text": word * (16 * kib)}
"""
OPTIONS = ("--import", "quick.py", "--address", "local", "--max-workers", "2")
COMMANDS = {"run": ("batch.json", "--run-dir", "run", *OPTIONS), "resume": ("run", *OPTIONS)}


def start_run(folder: Path) -> subprocess.Popen[str]:
    """Start `dfz run` on a batch of six seconds, in a process group of its own; return once results are committed."""
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
    """The number of completed tasks of a run; 0 if there is no run yet."""
    try:
        with JournalReader(folder) as journal:
            return journal.counts()["completed"]
    except JournalDamaged:
        return 0


def wait_until(condition: Callable[[], object], what: str, deadline_s: float = 300, each_s: float = 0.02) -> None:
    """Wait for a condition, with a deadline."""
    end = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < end, f"waited {deadline_s} s in vain until {what}"
        time.sleep(each_s)


def processes_of(driver: subprocess.Popen[str], word: str) -> list[psutil.Process]:
    """The driver's descendants whose command line contains a word."""
    found = []
    for process in psutil.Process(driver.pid).children(recursive=True):
        try:
            if word in " ".join(process.cmdline()):
                found.append(process)
        except psutil.NoSuchProcess:
            continue
    return found


def write_batch(folder: Path, tasks: int = 300, large: int = 6, ms: int | None = None, max_attempts: int = 20) -> None:
    """Write a batch of quick tasks, and their domain, for `dfz run`.

    The first tasks are so long that every worker has one before any has ended.

    Args:
        folder: the folder of the trial.
        tasks: the number of tasks.
        large: the number of tasks whose results become files.
        ms: how long each takes; None: 300 for the first eight, from 10 to 30 for the others.
        max_attempts: the largest number of attempts of each.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "quick.py").write_text(QUICK)
    entries = []
    for number in range(tasks):
        is_first = number < 8 and ms is None
        length = (300 if is_first else 10 + number * 7 % 21) if ms is None else ms
        kib = 300 if number % 50 == 25 and number // 50 < large else 0
        entries.append(
            {
                "id": f"t{number}",
                "domain": "quick",
                "parameters": {"ms": length, "kib": kib},
                "policy": {"priority": int(is_first)},
            }
        )
    backoff = {"first_s": 0.05, "most_s": 0.2}
    defaults = {"policy": {"max_attempts": max_attempts, "backoff": backoff}}
    (folder / "batch.json").write_text(json.dumps({"seed": 7, "defaults": defaults, "tasks": entries}))


class Glance(NamedTuple):
    """The state of a run's journal at a moment."""

    epoch: int = 0
    chunks: int = 0
    """Chunks of that epoch."""
    outcomes: int = 0
    commits: int = 0


def glance(run: Path) -> Glance:
    """The state of a run's journal, also while it is written; zeros if there is none yet."""
    query = (
        "WITH latest(epoch) AS (SELECT coalesce(max(epoch), 0) FROM epochs) SELECT epoch, "
        "(SELECT count(*) FROM chunks WHERE epoch = latest.epoch), (SELECT count(*) FROM outcomes), "
        "(SELECT count(*) FROM commits) FROM latest"
    )
    return Glance(*look(run, query))


def count_tasks(run: Path) -> int:
    """The number of tasks in the journal of a run."""
    return next(iter(look(run, "SELECT coalesce(sum(tasks), 0) FROM blocks")), 0)


def look(run: Path, query: str) -> tuple[int, ...]:
    """The first row that a query finds in the journal of a run; nothing if there is none yet."""
    try:
        uri = f"{(run / 'run.sqlite').absolute().as_uri()}?mode=ro"
        with contextlib.closing(sqlite3.connect(uri, uri=True)) as connection:
            return tuple(connection.execute(query).fetchone())
    except sqlite3.Error:
        return ()


class Program:
    """`dfz run` or `dfz resume` in a session of its own, with all processes that it starts, Ray's included.

    Args:
        folder: the folder of the trial, with batch.json, quick.py, and the run folder, `run`.
        command: run or resume; its output goes to files beside the batch.
    """

    def __init__(self, folder: Path, command: str) -> None:
        self.folder = folder
        self.run = folder / "run"
        self._stdout = folder / f"{command}-{time.time_ns()}.out"
        self._stderr = self._stdout.with_suffix(".err")
        with self._stdout.open("wb") as out, self._stderr.open("wb") as err:
            self.process = self._start(command, out, err)

    def _start(self, command: str, out: IO[bytes], err: IO[bytes]) -> psutil.Popen:
        arguments = [str(BIN / "dfz"), command, *COMMANDS[command], "--json"]
        return psutil.Popen(arguments, cwd=self.folder, stdout=out, stderr=err, start_new_session=True)

    @property
    def stdout(self) -> str:
        """Its output."""
        return self._stdout.read_text(errors="replace")

    @property
    def stderr(self) -> str:
        """Its messages on stderr."""
        return self._stderr.read_text(errors="replace")

    def summary(self) -> dict[str, Any]:
        """Its JSON about the run that has ended: counts, metrics and digest."""
        summary: dict[str, Any] = json.loads(self.stdout)
        return summary

    def members(self) -> Iterator[psutil.Process]:
        """Every living process of the session, also one whose parent is dead, and no other process."""
        for process in psutil.process_iter():
            with contextlib.suppress(ProcessLookupError, psutil.Error):
                if os.getsid(process.pid) == self.process.pid and process.status() != psutil.STATUS_ZOMBIE:
                    yield process

    def find(self, victim: str) -> list[psutil.Process]:
        """The processes of a role: driver, manager, worker (with a lease), raylet, gcs."""
        if victim == "driver":
            return [self.process] if self.process.is_running() else []
        word = {
            "manager": "ray::TaskManager",
            "worker": "ray::dfz lease quick",
            "raylet": "raylet/raylet",
            "gcs": "gcs_server",
        }[victim]
        found = []
        for process in self.members():
            with contextlib.suppress(psutil.Error):
                if word in " ".join(process.cmdline()[:1]):
                    found.append(process)
        return found

    def wait(self, deadline_s: float = 150) -> int:
        """Wait for the end of the command; returns its exit code."""
        code = self.process.wait(timeout=deadline_s)
        assert isinstance(code, int)
        return code

    def close(self) -> None:
        """Kill whatever is left of the session."""
        for process in [*self.members()]:
            with contextlib.suppress(psutil.Error):
                process.send_signal(signal.SIGKILL)
        with contextlib.suppress(psutil.TimeoutExpired):
            self.process.wait(timeout=10)
        wait_until(lambda: not [*self.members()], "all processes of the session are gone")
