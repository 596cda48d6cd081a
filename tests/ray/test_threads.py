"""Tasks that share a process, on threads: the cap counts tasks; deadlines, cancellations and crashes as everywhere."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from support.attempt_rows import assert_sound, charged_tasks, read_attempts, workers_lost
from support.careless_tasks import fork, hold_the_gil
from support.driver import BIN, wait_until
from support.manager import open_run, wait_for_end

from dfz_ray import domain, run
from dfz_ray.domains.registry import REGISTRY
from dfz_ray.driver.domain_shipping import ship_by_value
from dfz_ray.driver.slot_plan import THREADS, SlotPlan, share_slots
from dfz_ray.results import Results, read_results
from dfz_ray.specs.batch_checks import read_batch
from dfz_ray.specs.resources import Resources
from dfz_ray.specs.settings import read_settings

pytestmark = pytest.mark.usefixtures("cluster")
ship_by_value(sys.modules[__name__])  # the domains call functions of this module

SLOTS = 24
TIMEOUT_S = 0.6
FAR_S = 100.0
"""Far more than anything here takes on a busy machine, and far less than a task that nobody ends."""
SWIFT = {"faults": {"grace_s": 0.4}}
"""For tasks that do not end when they are interrupted."""
PATIENT = {"faults": {"grace_s": FAR_S}}
"""For tasks that do: a busy machine may keep their worker from running for a second."""


@domain("wait")
def wait(s: float = 0.02, what: str = "", note: str = "", *, seed: int) -> dict[str, Any]:
    """Sleep, or do as asked."""
    if what:
        _deeds()[what](note)
    time.sleep(s)
    return {"seed": seed, "thread": threading.get_ident()}


@domain("where", volatile=["process"])
def where(*, seed: int) -> dict[str, Any]:
    """Sleep, and tell in which process."""
    time.sleep(0.02)
    return {"seed": seed, "process": os.getpid()}


def _deeds() -> dict[str, Any]:
    return {
        "loop": _loop,
        "sleep": lambda _: time.sleep(3600),
        "hold the GIL": hold_the_gil,
        "raise while it cleans up": _raise_while_cleaning,
        "segfault": lambda _: ctypes.string_at(0),
        "exit": lambda _: os._exit(3),
        "leave": lambda _: sys.exit("enough"),
        "raise": _raise,
        "fork": fork,
    }


def _loop(note: str) -> None:
    if note:
        Path(note).touch()
    while True:
        sum(range(100))


def _raise_while_cleaning(note: str) -> None:
    try:
        _loop(note)
    finally:
        raise RuntimeError("the connection is gone already")


def _raise(note: str) -> None:
    raise ValueError("bad")


def run_among_mates(
    folder: Path, policy: dict[str, Any], *whats: str, mates: int = 300, config: dict[str, Any] = PATIENT
) -> Results:
    """Run tasks in the middle of many that wait, on threads."""
    tasks: list[dict[str, Any]] = [{**wait.task(), "policy": policy} for _ in range(mates)]
    for position, what in enumerate(whats):
        tasks[mates // 3 + 10 * position] = {**wait.task(what=what), "id": what, "policy": policy}
    return run(tasks, run_dir=folder, max_workers=SLOTS, use_threads=True, config=config)


def assert_mates_completed(results: Results, folder: Path, *guilty: str) -> None:
    """All others have completed, once and uncharged."""
    assert [record.task_id for record in results if record.status != "completed"] == list(guilty)
    rows = read_attempts(folder)
    assert {row.task for row in rows if row.charged} <= set(guilty)
    completed = sorted(row.task for row in rows if row.outcome == "completed")
    assert completed == sorted(record.task_id for record in results if record.task_id not in guilty)
    assert_sound(folder)


def most_at_once(spans: Sequence[tuple[float, float]]) -> int:
    """The most tasks that executed at one time."""
    most = busy = 0
    for _, step in sorted([(began, 1) for began, _ in spans] + [(ended, -1) for _, ended in spans]):
        busy += step
        most = max(most, busy)
    return most


# --- the cap ----------------------------------------------------------------------------------------------------------


@pytest.mark.long
def test_the_cap_counts_tasks(tmp_path: Path) -> None:
    """As many tasks execute at once as max_workers says, never more, in as many processes as the cluster holds."""
    results = run([where.task() for _ in range(5_000)], run_dir=tmp_path / "run", max_workers=SLOTS, use_threads=True)

    assert most_at_once([(record.start_time, record.end_time) for record in results]) == SLOTS
    assert len({value["process"] for value in results.values()}) <= 4
    assert {record.attempts for record in results} == {1}
    assert_sound(tmp_path / "run")


@pytest.mark.long
def test_results_are_those_of_processes(tmp_path: Path) -> None:
    """Threads and processes give the same results, of all domains, and the same digest."""
    batch = {
        "seed": 5,
        "generate": [
            {"domain": "quantum", "count": 12, "parameters": {"noise_level": 0.01}},
            {"domain": "maze", "count": 20},
            {"domain": "where", "count": 50},
        ],
    }
    shared = run(batch, max_workers=8, use_threads=True, run_dir=tmp_path / "threads")
    alone = run(batch, max_workers=4, run_dir=tmp_path / "processes")

    assert shared.digest == alone.digest
    assert shared.counts == alone.counts
    assert shared.counts["completed"] == 82


def test_the_width_follows_from_the_slots_and_the_cluster() -> None:
    """Slots are shared by as many processes as the cluster holds; where nobody names them, each gets 16 threads."""
    one = [Resources()]
    assert share_slots(64, one, 10_000) == (64, 16)
    assert share_slots(3, one, 10_000) == (3, 1)
    assert share_slots(10, one, 10_000) == (10, 3)
    assert share_slots(None, one, 10_000) == (4 * THREADS, THREADS)
    assert share_slots(None, one, 5) == (5, 2)
    assert share_slots(8, one, 10_000, most=2) == (8, 4)


@pytest.mark.long
def test_dfz_run_takes_the_flag(tmp_path: Path) -> None:
    """`dfz run --use-threads` runs the tasks of a batch on threads."""
    (tmp_path / "batch.yaml").write_text("generate: [{domain: maze, count: 30}]")
    command = [str(BIN / "dfz"), "run", "batch.yaml", "--use-threads", "--max-workers", "6", "--address", "local"]

    done = subprocess.run([*command, "--json"], cwd=tmp_path, capture_output=True, text=True, timeout=300)

    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["counts"]["completed"] == 30


# --- deadlines --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["loop", "raise while it cleans up"])
def test_python_code_ends_at_its_deadline_and_costs_no_worker(what: str, tmp_path: Path) -> None:
    """A task that computes in Python ends at its deadline, with its own line; tasks beside it go on."""
    results = run_among_mates(tmp_path / "run", {"timeout_s": TIMEOUT_S}, what)

    record = results[what]
    assert record.error.reason == "timeout"
    assert record.error.message == f"it ran longer than its deadline of {TIMEOUT_S} s"
    assert re.search(r"test_threads.py\", line \d+, in _loop", record.error.traceback)
    assert "thread_" not in record.error.traceback
    assert record.duration >= TIMEOUT_S
    assert workers_lost(tmp_path / "run") == 0
    assert_mates_completed(results, tmp_path / "run", what)


@pytest.mark.parametrize(("what", "line"), [("sleep", "in <lambda>"), ("hold the GIL", "hold_the_gil")])
def test_what_does_not_let_go_costs_its_process_and_is_charged_alone(what: str, line: str, tmp_path: Path) -> None:
    """A long sleep or native code costs one process after the grace; all others in it run again, uncharged."""
    results = run_among_mates(tmp_path / "run", {"timeout_s": TIMEOUT_S}, what, config=SWIFT)

    error = results[what].error
    assert error.reason == "timeout"
    assert error.message == "it ran longer than its deadline, and did not end when interrupted: its worker was killed"
    assert line in error.traceback
    assert charged_tasks(tmp_path / "run") == [what]
    assert_mates_completed(results, tmp_path / "run", what)


def test_short_deadlines_end_no_other_task(tmp_path: Path) -> None:
    """If many tasks end just at their deadline, each interruption hits the task that it is meant for, or none."""
    policy = {"timeout_s": 0.02}
    tasks = [{**wait.task(s=0.0195), "policy": policy} for _ in range(300)]
    tasks += [wait.task(s=0.001) for _ in range(600)]

    results = run(tasks, run_dir=tmp_path / "run", max_workers=SLOTS, use_threads=True, config=PATIENT)

    reasons = [record.error.reason if record.error else "" for record in results]
    assert set(reasons[:300]) <= {"", "timeout"}
    assert set(reasons[300:]) == {""}
    assert workers_lost(tmp_path / "run") == 0
    assert_sound(tmp_path / "run")


# --- crashes ----------------------------------------------------------------------------------------------------------


def test_a_crash_charges_the_guilty_one_alone(tmp_path: Path) -> None:
    """Of the tasks that a process executed when it died, only the one that also kills it alone is charged."""
    guilty = ("segfault", "exit")
    results = run_among_mates(tmp_path / "run", {"max_attempts": 1}, *guilty)

    assert {results[what].error.reason for what in guilty} == {"worker_crashed"}
    assert charged_tasks(tmp_path / "run") == list(guilty)
    assert_mates_completed(results, tmp_path / "run", *guilty)


def test_failures_are_those_of_the_task(tmp_path: Path) -> None:
    """Exceptions, SystemExit and children of a task stay in its thread."""
    results = run_among_mates(tmp_path / "run", {"max_attempts": 1}, "raise", "leave", "fork")

    assert results["raise"].error.message == "ValueError: bad"
    assert results["leave"].error.message == "SystemExit: enough"
    assert results["fork"].status == "completed"
    assert workers_lost(tmp_path / "run") == 0
    assert_mates_completed(results, tmp_path / "run", "raise", "leave")


# --- cancellation -----------------------------------------------------------------------------------------------------


def test_cancelled_tasks_leave_their_threads(tmp_path: Path) -> None:
    """Cancelled tasks end, at work or waiting, and tasks beside them in the process go on."""
    settings = read_settings(PATIENT)
    notes = [tmp_path / f"began {number}" for number in range(3)]
    loops = [{**wait.task(what="loop", note=str(note)), "id": note.name} for note in notes]
    batch = read_batch({"tasks": [*loops, *[wait.task() for _ in range(100)]]}, REGISTRY)
    handle = open_run(tmp_path / "run", settings, SlotPlan(8, width=4), batch)
    with contextlib.ExitStack() as stack:
        stack.callback(handle.close)
        wait_until(lambda: all(note.exists() for note in notes), "all loops are at work")

        handle.cancel({0, 1, 2}, "3 tasks")

        wait_for_end(handle)
    results = read_results(tmp_path / "run")
    assert [record.status for record in results][:3] == ["cancelled"] * 3
    assert results.counts["completed"] == 100
    assert workers_lost(tmp_path / "run") == 0
    assert_sound(tmp_path / "run")
