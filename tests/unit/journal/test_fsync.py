"""Acknowledged commits are on disk: a run that is killed at any fsync goes on from there, and no fsync is missing."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support.fsync_work import TASKS, result_of, second_attempts
from support.journal_rows import open_tasks
from support.sample_run import INLINE_BYTES, META, both_say_ok, contents
from support.syscall_trace import SYNCS

from dfz_ray.journal.reader import JournalReader
from dfz_ray.journal.recovery import open_for_work

ACKNOWLEDGEMENTS = 11
"""How often the work reports what is on disk."""


def run_work(mode: str, folder: Path, durability: str = "durable") -> list[Any]:
    """The output of the traced program; the test is skipped if it can't be traced."""
    program = [sys.executable, str(Path(__file__).parents[2] / "support/fsync_work.py"), mode, str(folder), durability]
    done = subprocess.run(program, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    printed = [json.loads(line) for line in done.stdout.splitlines()]
    if isinstance(printed[-1], dict) and "skip" in printed[-1]:
        pytest.skip(printed[-1]["skip"])
    return printed


def test_a_run_that_is_killed_at_an_fsync_has_all_that_was_acknowledged(tmp_path: Path) -> None:
    """Killed at whichever fsync, a run goes on to its end, and has all that was acknowledged, and each result once."""
    kills = run_work("kills", tmp_path)

    assert [kill["code"] for kill in kills] == [-signal.SIGKILL] * (len(kills) - 1) + [0]
    assert len(kills) > 40
    assert {len(kill["told"]) for kill in kills} == set(range(ACKNOWLEDGEMENTS + 1))
    for kill in kills:
        folder = Path(kill["run"])
        acknowledged = kill["told"][-1] if kill["told"] else {"commits": 0, "states": {}}
        lock, writer, recovered = open_for_work(folder, META, INLINE_BYTES, durable=False)
        assert writer.commits > acknowledged["commits"]  # one more, by which it was opened
        states = {str(task): state for task, state in recovered.settled.items()}
        if kill is not kills[-1] and acknowledged["states"].get("5") == 3 != states.get("5"):
            del acknowledged["states"]["5"]  # it was killed after the commit that reopens it, before that was told
        assert states.items() >= acknowledged["states"].items()
        if recovered.kind_of:
            assert len(recovered.kind_of) == TASKS
            writer.commit(second_attempts(open_tasks(recovered), writer.epoch))
        writer.close()
        lock.close()

        assert both_say_ok(folder)
        if recovered.kind_of:
            with JournalReader(folder) as journal:
                found = {record.task_id: record.result for record in journal.records() if record.status == "completed"}
            failed = {task for task, state in recovered.settled.items() if state == 3}
            assert found == {f"task-{task}": result_of(task) for task in range(TASKS) if task not in failed}
            assert len(contents(folder)["outcomes"]) == TASKS


def unsynced_at_acknowledgements(calls: list[tuple[str, str]]) -> list[set[str]]:
    """For each acknowledgement, the files that had been written or renamed and not yet synced."""
    waiting: set[str] = set()
    found = []
    for name, path in calls:
        if path.startswith("pipe:"):
            found.append(set(waiting))
        elif path.endswith(("-shm", "/lock")):
            continue  # neither is read after a crash
        elif name in SYNCS or name.startswith("unlink"):
            waiting.discard(path)
        elif name.startswith("rename"):
            waiting.add(str(Path(path).parent))
        else:
            waiting.add(path)
    return found


def test_nothing_is_acknowledged_before_it_is_on_disk(tmp_path: Path) -> None:
    """Each commit, and the seal, is acknowledged only when every file that was written has been synced since."""
    calls = run_work("calls", tmp_path)

    assert calls.pop() == ["exit", f"0 after {ACKNOWLEDGEMENTS} acknowledgements"]
    assert unsynced_at_acknowledgements(calls) == [set()] * ACKNOWLEDGEMENTS


def test_a_new_folder_is_on_disk_before_anything_is_acknowledged(tmp_path: Path) -> None:
    """The names of a run's folder, and of those made above it, are on disk first: else a run could be lost whole."""
    calls = run_work("calls", tmp_path / "runs" / "run")

    before = calls[: next(at for at, (_, path) in enumerate(calls) if path.startswith("pipe:"))]
    assert ["fsync", str(tmp_path)] in before
    assert ["fsync", str(tmp_path / "runs")] in before


def test_a_new_journal_is_on_disk_before_it_takes_its_name(tmp_path: Path) -> None:
    """A new journal is written to one file, without a log beside it, and synced once; then it takes its name."""
    calls = run_work("calls", tmp_path)

    named = next(
        at for at, (name, path) in enumerate(calls) if name.startswith("rename") and path.endswith("run.sqlite")
    )
    made = [(name, path) for name, path in calls[:named] if "run.sqlite" in path and not name.startswith("unlink")]
    assert {path for _, path in made} == {str(tmp_path / "run.sqlite.new")}
    assert made[-1][0] == "fsync"
    assert [name for name, _ in made if name in SYNCS] == ["fsync"]


def test_without_syncs_it_would_be_noticed(tmp_path: Path) -> None:
    """A run that need not outlive the system does not sync its commits, and the same look at it shows that."""
    calls = run_work("calls", tmp_path, "fast")

    assert calls.pop() == ["exit", f"0 after {ACKNOWLEDGEMENTS} acknowledgements"]
    log = str(tmp_path / "run.sqlite-wal")
    assert [log in unsynced for unsynced in unsynced_at_acknowledgements(calls)].count(True) == ACKNOWLEDGEMENTS - 2


def test_a_seal_is_gone_from_the_disk_before_anything_is_written(tmp_path: Path) -> None:
    """When a closed run is opened, its seal is removed, and that synced, before the first write to the journal."""
    calls = run_work("calls", tmp_path)

    removed = calls.index(
        ["unlink" if ["unlink", str(tmp_path / "seal")] in calls else "unlinkat", str(tmp_path / "seal")]
    )
    assert calls[removed + 1] == ["fsync", str(tmp_path)]
    closed = max(at for at in range(removed) if calls[at][1].startswith("pipe:"))
    assert not any("run.sqlite" in path for _, path in calls[closed:removed])
