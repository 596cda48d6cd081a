"""Workers that are lost by what a task does to its process: the guilty task is charged, and the run goes on."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from support.attempt_rows import assert_sound, charged_tasks, read_attempts

from dfz_ray import domain, run
from dfz_ray.driver.domain_shipping import ship_by_value
from dfz_ray.execution import chunk_clock
from dfz_ray.protocol import worker_side
from dfz_ray.results import Results
from dfz_ray.worker import manager_route

pytestmark = pytest.mark.usefixtures("cluster")
ship_by_value(sys.modules[__name__])  # the domain calls functions of this module

ONCE = {"max_attempts": 1}


@domain("mischief")
def mischief(what: str = "", s: float = 0.0, note: str = "") -> int:
    """Do nothing, or harm the process: only once, if there is a note that it has done so."""
    if what and not (note and Path(note).exists()):
        if note:
            Path(note).touch()
        {
            "break the clock": _break_the_clock,
            "break the reports": _break_the_reports,
            "patch modules": _patch_modules,
            "forbid files": lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0)),
            "truncate marks": _truncate_marks,
            "stop when a chunk begins": lambda: _stop_when_a_chunk_begins(note),
        }[what]()
    time.sleep(s)
    return 1


def _fail(*arguments: Any, **named: Any) -> Any:
    raise RuntimeError("it was spoiled by a task")


def _break_the_clock() -> None:
    chunk_clock.ChunkClock.lap = _fail  # type: ignore[method-assign]


def _break_the_reports() -> None:
    manager_route.pack_report = _fail


def _patch_modules() -> None:
    for module, name in ((signal, "setitimer"), (signal, "signal"), (os, "pwrite"), (os, "fstat"), (time, "monotonic")):
        setattr(module, name, _fail)


def _truncate_marks() -> None:
    for path in Path(tempfile.gettempdir(), f"dfz_ray-{os.getuid()}").glob("*/*"):
        with contextlib.suppress(OSError):
            os.truncate(path, 0)


def _stop_when_a_chunk_begins(note: str) -> None:
    find_report = worker_side.WorkerSide.find_report

    def find_or_stop(side: worker_side.WorkerSide, now: float) -> Any:
        if side._began and not side._ended:
            Path(note).with_suffix(".stopped").touch()
            os.kill(os.getpid(), signal.SIGSTOP)
        return find_report(side, now)

    worker_side.WorkerSide.find_report = find_or_stop  # type: ignore[method-assign]


def run_among_mates(folder: Path, policy: dict[str, Any], whats: Sequence[str], mates: int = 80) -> Results:
    """Run tasks in the middle of others, on two workers."""
    tasks: list[dict[str, Any]] = [{**mischief.task(), "policy": policy} for _ in range(mates)]
    for position, what in enumerate(whats):
        tasks[mates // 3 + 10 * position] = {**mischief.task(what=what), "id": what, "policy": policy}
    return run(tasks, run_dir=folder, max_workers=2)


def test_an_error_that_ends_a_lease_charges_its_task_alone(tmp_path: Path) -> None:
    """A task that breaks its worker's code fails with the error that followed; all others complete, uncharged."""
    results = run_among_mates(tmp_path / "run", ONCE, ["break the clock"])

    assert [record.task_id for record in results if record.status != "completed"] == ["break the clock"]
    error = results["break the clock"].error
    assert error.reason == "worker_crashed"
    assert error.message == "an error ended the worker: RuntimeError: it was spoiled by a task"
    assert "in execute_chunk" in error.traceback
    assert charged_tasks(tmp_path / "run") == ["break the clock"]
    assert_sound(tmp_path / "run")


@pytest.mark.long
def test_errors_between_tasks_do_not_go_on_for_ever(tmp_path: Path) -> None:
    """A task that breaks the reports of its worker is found: some such losses are free, then its chunk is halved."""
    results = run_among_mates(tmp_path / "run", ONCE, ["break the reports"], mates=20)

    assert [record.task_id for record in results if record.status != "completed"] == ["break the reports"]
    assert results["break the reports"].error.reason == "worker_crashed"
    assert "it was spoiled by a task" in results["break the reports"].error.message
    assert charged_tasks(tmp_path / "run") == ["break the reports"]
    assert_sound(tmp_path / "run")


@pytest.mark.long
def test_a_worker_that_was_stopped_before_it_began_costs_no_attempt(tmp_path: Path) -> None:
    """A chunk whose worker is stopped before its report has left it runs elsewhere, uncharged, after its deadlines.

    Tasks are so long that no chunk is handed out ahead: a report says that one has begun, and nothing else.
    """
    note = tmp_path / "done"
    task = {**mischief.task(s=1.2), "policy": {"timeout_s": 2.0}}
    first = {**mischief.task(what="stop when a chunk begins", s=1.2, note=str(note)), "policy": {"timeout_s": 2.0}}

    results = run([first, task, task], run_dir=tmp_path / "run", max_workers=1)

    assert [record.error for record in results if record.error] == []
    assert note.with_suffix(".stopped").exists()
    assert [row for row in read_attempts(tmp_path / "run") if row.charged] == []
    assert_sound(tmp_path / "run")


def test_marks_lie_in_a_folder_of_their_run_which_goes_with_it(tmp_path: Path) -> None:
    """The folder of a run's marks is gone when the run has ended."""
    root = Path(tempfile.gettempdir()) / f"dfz_ray-{os.getuid()}"
    before = set(root.iterdir()) if root.exists() else set()
    run([mischief.task() for _ in range(20)], run_dir=tmp_path / "run", max_workers=2)
    end = time.monotonic() + 20
    while set(root.iterdir()) - before:
        assert time.monotonic() < end


def test_what_a_task_does_to_modules_and_files_reaches_no_other_task(tmp_path: Path) -> None:
    """Patched modules, a limit on files and truncated marks end no run, and cost no other task an attempt."""
    whats = ["patch modules", "forbid files", "truncate marks"]
    results = run_among_mates(tmp_path / "run", {"timeout_s": 30.0}, whats)

    assert results.counts["completed"] + sum(results[what].status == "failed" for what in whats) == len(results)
    assert set(charged_tasks(tmp_path / "run")) <= set(whats)
    assert_sound(tmp_path / "run")
    # Nor a later run: a process in which Ray itself fails serves no other lease.
    assert (
        run([mischief.task() for _ in range(40)], run_dir=tmp_path / "later", max_workers=4).counts["completed"] == 40
    )
