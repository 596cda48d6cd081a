"""The tests are tested: a safeguard is taken out of a copy of the project, and a test has to notice.

    python tests/mutations.py [NAME ...]

For each mutation the tests that should notice are run twice, on the copy as it is (they must pass) and with the
safeguard taken out (at least one must fail). Ends with 1 if any mutation goes unnoticed.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
TESTS_FAILED = 1
"""Pytest's exit code; a higher one says that the tests could not be run at all."""


class Mutation(NamedTuple):
    """A safeguard, and how it is taken out."""

    name: str
    file: str
    old: str
    new: str
    noticed_by: str
    """Tests, as pytest takes them."""


MUTATIONS = (
    Mutation(
        "no fsync",
        "dfz_ray/journal/writer.py",
        "f\"PRAGMA synchronous = {'FULL' if self._durable else 'OFF'}\"",
        '"PRAGMA synchronous = OFF"',
        "tests/unit/journal/test_fsync.py",
    ),
    Mutation(
        "no epoch check",
        "dfz_ray/journal/writer.py",
        "if (latest := self._latest_epoch()) != self.epoch:",
        "if (latest := self._latest_epoch()) < 0:",
        "tests/unit/journal/test_journal.py tests/unit/manager/test_group_commit.py",
    ),
    Mutation(
        "acknowledgement before commit",
        "dfz_ray/manager/group_commit.py",
        """                written = await loop.run_in_executor(self._thread, self._writer.commit, pending.rows)
                if pending.rows:
                    self.commits, self.commit_s = self.commits + 1, self.commit_s + loop.time() - begun
                self._on_committed(pending, written)
""",
        """                self._on_committed(pending, {})
                await loop.run_in_executor(self._thread, self._writer.commit, pending.rows)
""",
        "tests/unit/manager/test_group_commit.py",
    ),
    Mutation(
        "chunk-mates are charged",
        "dfz_ray/engine/losses.py",
        "commands.append(NoteAttemptsLost(held.chunk.id, executed, reason, event.message))",
        "commands.append(NoteAttemptsLost(held.chunk.id, executed, reason, event.message, charged=True))",
        "tests/unit/engine/test_engine_faults.py tests/unit/simulation/test_simulation.py",
    ),
    Mutation(
        "a report sent twice is counted twice",
        "dfz_ray/protocol/manager_side.py",
        "if report.number <= lease.number:",
        "if report.number < 0:",
        "tests/unit/simulation",
    ),
    Mutation(
        "an End is ignored",
        "dfz_ray/protocol/lease_protocol.py",
        "(LeaseState.REPORTED, Message.END): LeaseState.ENDING,",
        "(LeaseState.REPORTED, Message.END): LeaseState.WORKING,",
        "tests/unit/simulation -k faults",  # without faults it would go on for ever
    ),
    Mutation(
        "a second outcome replaces the first",
        "dfz_ray/journal/schema.sql",
        "INSERT INTO outcomes VALUES",
        "INSERT OR REPLACE INTO outcomes VALUES",
        "tests/unit/journal/test_journal.py",
    ),
    Mutation(
        "a second completion replaces the first outcome",
        "dfz_ray/journal/schema.sql",
        "INSERT INTO outcomes SELECT",
        "INSERT OR REPLACE INTO outcomes SELECT",
        "tests/unit/journal/test_journal.py",
    ),
    Mutation(
        "commit sums are not compared",
        "dfz_ray/journal/commit_sums.py",
        "elif _sum_of(before, commit, sums.get(commit.number, ())) != commit.sha256:",
        "elif not commit.sha256:",
        "tests/unit/journal/test_damage.py tests/unit/journal/test_run_audit.py",
    ),
    Mutation(
        "a run is opened whatever its outcomes say",
        "dfz_ray/journal/integrity.py",
        "return found[0] if found else next(find_disagreements(connection), None)",
        "return found[0] if found else None",
        "tests/unit/journal/test_integrity.py",
    ),
    Mutation(
        "records are of several moments",
        "dfz_ray/journal/reader.py",
        'self._connection.execute("BEGIN")',
        "pass",
        "tests/unit/journal/test_run_folder.py",
    ),
)


def run_tests(copy: Path, tests: str) -> subprocess.CompletedProcess[str]:
    """Run tests of the copy, against the copy."""
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *tests.split()]
    environment = {**os.environ, "PYTHONPATH": str(copy)}
    return subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True)


def is_noticed(mutation: Mutation) -> str:
    """Why the mutation goes unnoticed; empty if a test notices it."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "copy"
        copy.mkdir()
        for name in ("dfz_ray", "tests", "configs", "benchmarks"):
            shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
        for name in ("pyproject.toml", "README.md"):
            shutil.copy(ROOT / name, copy / name)
        sound = run_tests(copy, mutation.noticed_by)
        if sound.returncode:
            return f"its tests fail even without it: {sound.stdout[-2000:]}"
        file = copy / mutation.file
        text = file.read_text("utf-8")
        if text.count(mutation.old) != 1:
            return f"{mutation.file} has {text.count(mutation.old)} places like it, not 1: the mutation is out of date"
        file.write_text(text.replace(mutation.old, mutation.new), "utf-8")
        mutated = run_tests(copy, mutation.noticed_by)
        if mutated.returncode == TESTS_FAILED:
            failed = [line for line in mutated.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
            print(f"  noticed: {failed[0] if failed else 'a test failed'}")
            return ""
        return f"pytest ended with {mutated.returncode}: {mutated.stdout[-2000:]}{mutated.stderr[-2000:]}"


def main() -> None:
    """Try every mutation, or those that are named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="; ".join(one.name for one in MUTATIONS))
    names = parser.parse_args().names or [mutation.name for mutation in MUTATIONS]
    unnoticed = 0
    for mutation in MUTATIONS:
        if mutation.name in names:
            print(f"{mutation.name} ({mutation.file})", flush=True)
            why = is_noticed(mutation)
            unnoticed += bool(why)
            if why:
                print(f"  NOT noticed: {why}", flush=True)
    print(f"{len(names)} mutations, {unnoticed} not noticed")
    sys.exit(unnoticed > 0)


if __name__ == "__main__":
    main()
