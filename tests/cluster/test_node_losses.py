"""What happens to a run when nodes of its cluster die, come, or are far from its manager."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from support.attempt_rows import assert_sound, charged_tasks, read_attempts, workers_lost
from support.driver import completed, wait_until
from support.local_cluster import BIN, LocalCluster

from dfz_ray.journal.reader import JournalReader
from dfz_ray.journal.record import Record

WORK = """
import contextlib, ctypes, os, time
from pathlib import Path
import ray
from dfz_ray import domain

@domain("job", volatile=["node"])
def job(s: float = 0.0, how: str = "", note: str = "", *, seed: int):
    if note:
        Path(note).touch()
    if how:
        {"wait_for": wait_for, "crash": crash, "hang": hang, "sleep": sleep, "be_stubborn": be_stubborn}[how](note)
    time.sleep(s)
    return {"seed": seed, "node": ray.get_runtime_context().get_node_id()}

def wait_for(note):
    while not Path(note + ".open").exists():
        time.sleep(0.01)

def crash(note):
    os._exit(3)

def hang(note):
    mutex, library = ctypes.create_string_buffer(64), ctypes.PyDLL(None)
    library.pthread_mutex_lock(mutex)
    library.pthread_mutex_lock(mutex)

def sleep(note):
    try:
        time.sleep(100)
    finally:
        Path(note + ".cleaned").touch()

def be_stubborn(note):
    while True:
        with contextlib.suppress(BaseException):
            time.sleep(100)
"""
AWAY = {"cpus": 1, "custom": {"side": 1}}
"""Nodes that have this are others than the manager's."""


class Program:
    """`dfz run`, or another command, on a cluster."""

    def __init__(self, folder: Path, cluster: LocalCluster, *arguments: object) -> None:
        self._folder = folder
        self._cluster = cluster
        self.process = subprocess.Popen(
            self._command(*arguments), cwd=folder, env=cluster.environment, stdout=-1, stderr=-1, text=True
        )

    def _command(self, *arguments: object) -> list[str]:
        options = ["--import", "work.py", "--address", self._cluster.address, "--config", "config.json"]
        return [str(BIN / "dfz"), *map(str, arguments), *options]

    def end(self, timeout_s: float = 90) -> str:
        """Wait for its end; returns what it said on stderr."""
        _, stderr = self.process.communicate(timeout=timeout_s)
        assert "Traceback" not in stderr
        return stderr

    def wait_until(self, condition: Callable[[], object], what: str) -> None:
        """Wait for a condition, for as long as the program goes on."""
        wait_until(lambda: condition() or self.process.poll() is not None, what)
        assert condition(), self.process.communicate()

    def __enter__(self) -> Program:
        return self

    def __exit__(self, *exception: object) -> None:
        self.process.kill()
        self.process.wait()


def write_batch(folder: Path, faults: Mapping[str, Any], *tasks: Mapping[str, Any]) -> None:
    """A batch, and what it needs, for commands that are called in a folder."""
    (folder / "work.py").write_text(WORK)
    (folder / "config.json").write_text(json.dumps({"faults": faults}))
    (folder / "batch.json").write_text(json.dumps({"tasks": [{"domain": "job", **task} for task in tasks]}))


def dfz(folder: Path, *arguments: str) -> str:
    """What a command that must succeed says."""
    done = subprocess.run([BIN / "dfz", *arguments], cwd=folder, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def records_of(folder: Path) -> dict[str, Record]:
    with JournalReader(folder) as journal:
        return {record.task_id: record for record in journal.records()}


@pytest.mark.long
def test_a_node_that_dies_under_load_costs_no_task_an_attempt_and_a_new_one_is_used(
    local_cluster: LocalCluster, tmp_path: Path
) -> None:
    """Every task completes; what ran on the lost node is lost uncharged; a node that comes later takes its share.

    Two tasks need what no node has: they wait for the node that brings it, and `dfz status` says so.
    """
    victim = local_cluster.start_node()
    gate = str(tmp_path / "gate")
    short = {"resources": AWAY, "parameters": {"s": 0.15}}
    later = {"resources": AWAY, "parameters": {"s": 0.3, "how": "wait_for", "note": gate}}
    patient = {"resources": {"custom": {"late": 1}}}
    write_batch(tmp_path, {"node_wait_s": 100}, *[short] * 80, *[later] * 40, *[patient] * 2)
    run = tmp_path / "run"
    with Program(tmp_path, local_cluster, "run", "batch.json", "--run-dir", "run") as program:
        program.wait_until(lambda: completed(run) > 10, "results are committed")
        victim.kill()
        assert "needs 1 CPU, 1 late; no node has that" in dfz(tmp_path, "status", "run")
        local_cluster.start_node(late=1)
        Path(gate + ".open").touch()
        program.end()
    assert program.process.returncode == 0
    rows = read_attempts(run)
    assert charged_tasks(run) == []
    assert {row.reason for row in rows if row.outcome == "lost"} == {"node_lost"}
    records = records_of(run)
    assert {record.attempts for record in records.values()} <= {1, 2}
    nodes = {record.result["node"] for record in records.values()}
    late = {records[f"task-{number}"].result["node"] for number in (120, 121)}
    assert len(nodes) == 3
    assert len(late) == 1
    assert sum(record.result["node"] in late for record in records.values()) > 2
    assert_sound(run)


@pytest.mark.long
def test_tasks_on_other_nodes_are_blamed_interrupted_and_killed(local_cluster: LocalCluster, tmp_path: Path) -> None:
    """Far from the manager too, a crash and a deadline are charged to the one task, and cancelling reaches workers."""
    notes = {name: str(tmp_path / name) for name in ("asleep", "stubborn")}
    mates: list[dict[str, Any]] = [{"policy": {"timeout_s": 8.0, "max_attempts": 1}} for _ in range(300)]
    mates[100] |= {"id": "crash", "parameters": {"how": "crash"}}
    mates[140] |= {"id": "hang", "parameters": {"how": "hang"}}
    held = [
        {"id": "asleep", "parameters": {"how": "sleep", "note": notes["asleep"]}},
        {"id": "stubborn", "parameters": {"how": "be_stubborn", "note": notes["stubborn"]}},
    ]
    write_batch(tmp_path, {"grace_s": 0.5}, *[{**task, "resources": AWAY} for task in [*held, *mates]])
    run = tmp_path / "run"
    with Program(tmp_path, local_cluster, "run", "batch.json", "--run-dir", "run") as program:
        program.wait_until(lambda: all(Path(note).exists() for note in notes.values()), "both tasks run")
        assert dfz(tmp_path, "cancel", "run", *notes) == "2 tasks cancelled\n"
        assert "4 tasks did not complete" in program.end()
    assert program.process.returncode == 1
    records = records_of(run)
    assert [name for name, record in records.items() if record.status != "completed"] == [
        "asleep",
        "stubborn",
        "crash",
        "hang",
    ]
    assert records["asleep"].status == records["stubborn"].status == "cancelled"
    assert Path(notes["asleep"] + ".cleaned").exists()
    assert records["crash"].error.reason == "worker_crashed"
    assert records["hang"].error.reason == "timeout"
    assert "in hang" in records["hang"].error.traceback
    assert charged_tasks(run) == ["crash", "hang"]
    assert workers_lost(run) <= 3
    assert_sound(run)


@pytest.mark.long
def test_a_run_goes_on_after_its_cluster_was_lost(local_cluster: LocalCluster, tmp_path: Path) -> None:
    """When head and nodes die, the driver ends and says how to go on; on another cluster `dfz resume` completes it."""
    write_batch(tmp_path, {}, *[{"parameters": {"s": 0.03}, "resources": AWAY} for _ in range(200)])
    run = tmp_path / "run"
    with Program(tmp_path, local_cluster, "run", "batch.json", "--run-dir", "run") as program:
        program.wait_until(lambda: completed(run) > 20, "results are committed")
        local_cluster.kill()
        stderr = program.end()
    assert program.process.returncode == 1
    assert "what was committed is in run, and goes on with: dfz resume run" in stderr
    before = completed(run)
    assert 20 < before < 200
    local_cluster.start_head(cpus=2, side=8)
    for arguments in (("resume", "run"), ("run", "batch.json", "--run-dir", "undisturbed")):
        with Program(tmp_path, local_cluster, *arguments) as program:
            assert (program.end(), program.process.returncode) == ("", 0)
    with JournalReader(run) as journal, JournalReader(tmp_path / "undisturbed") as other:
        assert journal.counts()["completed"] == 200
        assert journal.digest() == other.digest()
    assert sorted(row.task for row in read_attempts(run) if row.outcome == "completed") == sorted(records_of(run))
    assert_sound(run)
