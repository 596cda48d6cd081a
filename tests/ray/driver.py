"""`dfz run` as a process of its own, to be disturbed."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

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


def start_run(folder: Path) -> subprocess.Popen[str]:
    """`dfz run` on a batch of six seconds, in a process group of its own; returns once results are committed."""
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
    """How many tasks of a run have completed, 0 where there is no run yet."""
    try:
        with JournalReader(folder) as journal:
            return journal.counts()["completed"]
    except JournalDamaged:
        return 0


def wait_until(condition: Callable[[], object], what: str, deadline_s: float = 60) -> None:
    """Wait for a condition, with a deadline."""
    end = time.monotonic() + deadline_s
    while not condition():
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
