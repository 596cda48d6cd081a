"""A commit that SIGKILL cuts off, of a journal without a write-ahead log, as on network file systems."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

_KILLED = """
import os, signal, sqlite3, sys
from pathlib import Path
from dfz_ray.journal.lock import RunLock

lock = RunLock(Path(sys.argv[1]))
connection = sqlite3.connect(Path(sys.argv[1]) / "run.sqlite", isolation_level=None)
assert connection.execute("PRAGMA journal_mode = TRUNCATE").fetchone() == ("truncate",)
connection.execute("PRAGMA cache_size = 1")  # so that pages are written before the end of the commit
connection.execute("BEGIN IMMEDIATE")
connection.execute("DELETE FROM outcomes")
connection.execute("DELETE FROM completions")
connection.executemany("INSERT INTO meta VALUES (?, ?, 0)", ((f"cut/{n}", "x" * 90) for n in range(3000)))
os.kill(os.getpid(), signal.SIGKILL)
"""


def cut_off_commit(run: Path, host: str | None = None) -> None:
    """Let a process that works on a run die in a commit. `host` is where it ran, by its lock; None: on this host."""
    (run / "seal").unlink(missing_ok=True)  # as a process does that opens the run for work
    process = subprocess.run([sys.executable, "-c", _KILLED, str(run)], check=False, timeout=60)
    assert process.returncode == -signal.SIGKILL
    assert (run / "run.sqlite-journal").stat().st_size > 0
    if host is not None:
        (run / "lock").write_text(f"process 1 on {host}")
