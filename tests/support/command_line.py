"""The command line, in this process or in one of its own, and runs that other processes work on."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import psutil

from dfz_ray.cli import call, group
from dfz_ray.journal.cancel_requests import read_requests, resolve
from dfz_ray.journal.lock import is_held
from dfz_ray.journal.reader import JournalReader
from dfz_ray.journal.recovery import open_for_work
from dfz_ray.journal.writer import Group
from support.journal_rows import open_tasks, together
from support.small_run import cancelled

MODULES = {
    "coins.py": 'from dfz_ray import domain\n\n@domain("coin")\ndef coin(flips: int = 10): "Toss a coin."\n',
    "raising.py": 'raise RuntimeError("no\\nluck")\n',
    "exiting.py": "raise SystemExit(0)\n",
    "broken.py": "def\n",
    "modules/calendar.py": "",
}


EVIL = "\x1b]0;evil\x07\x9b2J[red]\u202e\ud800"
"""A text that would set a terminal's title, clear it, colour it, reverse its text, or break its encoding."""


def dfz(*arguments: str, command: click.Command = group) -> int:
    """The exit code of a command, run in this process."""
    return call(command, list(arguments))


def entries(folder: Path) -> set[str]:
    """The files of a folder, without Python's caches."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if "__pycache__" not in path.parts}


def children_of_session(session: int) -> list[psutil.Process]:
    """The processes that are left of a session."""
    found = []
    for process in psutil.process_iter():
        try:
            if os.getsid(process.pid) == session and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (ProcessLookupError, PermissionError, psutil.Error):
            continue
    return found


def run_program(*arguments: str, **options: Any) -> tuple[int, str, str, list[psutil.Process]]:
    """Run `python -m dfz_ray` in a session of its own. Returns exit code, output, errors and processes left behind."""
    process = subprocess.Popen(
        [sys.executable, "-m", "dfz_ray", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        **options,
    )
    out, err = process.communicate(timeout=300)
    return process.returncode, out, err, children_of_session(process.pid)


def manage(folder: Path, ended: threading.Event) -> None:
    """Work on a run, and carry out requests as a manager does, until the event is set."""
    opened = open_for_work(folder, {})
    numbers = iter(range(100))
    due = set(open_tasks(opened.recovered))
    while not ended.wait(0.01):
        for path, request in read_requests(folder):
            concerned = resolve(folder, request) & due
            cancels = [(next(numbers), opened.writer.epoch, 1.0, request.scope, len(concerned))]
            opened.writer.commit(together(*map(cancelled, concerned), Group(cancels=cancels)))
            path.unlink(missing_ok=True)
    opened.writer.close()
    opened.lock.close()


@contextlib.contextmanager
def managed(folder: Path) -> Iterator[None]:
    """A run that is worked on, from here on."""
    ended = threading.Event()
    manager = threading.Thread(target=manage, args=(folder, ended))
    manager.start()
    wait_for(lambda: is_held(folder))
    try:
        yield
    finally:
        ended.set()
        manager.join()


HOLD = """
import sys
from pathlib import Path
from dfz_ray.journal.lock import RunLock

lock = RunLock(Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
"""


@contextlib.contextmanager
def held(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that works on the run, and meets no request."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def counts_of(folder: Path) -> dict[str, int]:
    """Tasks per state, of the states that there are."""
    with JournalReader(folder) as journal:
        return {state: count for state, count in journal.counts().items() if count}


@contextlib.contextmanager
def started(*arguments: str) -> Iterator[Any]:
    """The program, at work."""
    with subprocess.Popen(
        [sys.executable, "-m", "dfz_ray", *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        yield process


def wait_for(condition: Callable[[], object]) -> None:
    """Wait until it is so."""
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)
