"""Cancelled tasks end, whatever they are doing, and no other task does."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
from support.attempt_rows import assert_sound, read_attempts, workers_lost
from support.careless_tasks import hold_the_gil
from support.driver import BIN, wait_until
from support.manager import open_run, wait_for_end

from dfz_ray import domain
from dfz_ray.domains.registry import REGISTRY
from dfz_ray.driver.domain_shipping import ship_by_value
from dfz_ray.driver.manager_client import ManagerClient
from dfz_ray.driver.slot_plan import SlotPlan
from dfz_ray.journal.reader import JournalReader
from dfz_ray.results import Results, read_results
from dfz_ray.specs.batch_checks import read_batch
from dfz_ray.specs.settings import read_settings

pytestmark = pytest.mark.usefixtures("cluster")
ship_by_value(sys.modules[__name__])  # the domains call functions of this module

SETTINGS = read_settings({"faults": {"grace_s": 1.5}})
FOREVER_S = 600.0
"""Tasks sleep for so long."""
LONG_S = 300.0
"""Whatever ends in that time has not waited for them, however slow the machine is."""


@domain("job")
def job(how: str = "", note: str = "", n: int = 0) -> int:
    """Do nothing; or note that it began, and go on until it is cancelled."""
    if how:
        time.sleep(0.5)  # by now the manager knows that the chunk has begun
        Path(note).touch()
        {
            "sleep": _sleep,
            "clean up for long": _clean_up_for_long,
            "be stubborn": _be_stubborn,
            "hold the GIL": hold_the_gil,
        }[how](note)
    return n


def _sleep(note: str) -> None:
    try:
        time.sleep(FOREVER_S)
    finally:
        Path(f"{note}.cleaned").touch()


def _clean_up_for_long(note: str) -> None:
    try:
        time.sleep(FOREVER_S)
    finally:
        time.sleep(SETTINGS.faults.grace_s / 3)
        Path(f"{note}.cleaned").touch()


def _be_stubborn(note: str) -> None:
    while True:
        with contextlib.suppress(BaseException):
            time.sleep(FOREVER_S)


HOW = {
    "sleep": _sleep,
    "clean up for long": _clean_up_for_long,
    "be stubborn": _be_stubborn,
    "hold the GIL": hold_the_gil,
}


@contextlib.contextmanager
def opened(folder: Path, *batches: list[dict[str, Any]], slots: int = 2) -> Iterator[ManagerClient]:
    """A run of batches (named b0, b1, ...), waited for to its end when the block is left."""
    read = [
        read_batch({"name": f"b{number}", "tasks": tasks}, REGISTRY, SETTINGS.resources, SETTINGS.policy)
        for number, tasks in enumerate(batches)
    ]
    handle = open_run(folder, SETTINGS, SlotPlan(slots), *read)
    try:
        yield handle
        finished = threading.Timer(LONG_S / 2, lambda: handle.cancel(None, "run"))
        finished.start()
        wait_for_end(handle)
        finished.cancel()
    finally:
        handle.close()


def results_of(folder: Path) -> Results:
    """The results of a run, whose journal is sound."""
    assert_sound(folder)
    return read_results(folder)


def dfz(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([BIN / "dfz", *map(str, arguments)], capture_output=True, text=True, timeout=LONG_S)


def test_tasks_that_wait_are_cancelled_at_once(tmp_path: Path) -> None:
    """When `cancel` returns, waiting tasks are cancelled on disk, while others run on."""
    run, blocker = tmp_path / "run", tmp_path / "blocker"
    with opened(
        run, [job.task(how="sleep", note=str(blocker)), *[job.task(n=n) for n in range(500)]], slots=1
    ) as handle:
        wait_until(blocker.exists, "the first task runs")
        handle.cancel(set(range(100, 501)), "the last ones")
        with JournalReader(run) as journal:
            assert journal.counts()["cancelled"] == 401
        handle.cancel({0}, "the first one")
    results = results_of(run)
    assert [record.status for record in results] == ["cancelled"] + ["completed"] * 99 + ["cancelled"] * 401
    assert results[200].error.reason == "cancelled"
    assert results[200].error.message == "it was cancelled (cancellation of: the last ones)"
    assert results[200].attempts == 0


def test_a_running_task_cleans_up_and_its_mates_complete(tmp_path: Path) -> None:
    """Python code that runs is interrupted: its `finally` blocks run, its worker lives, its mates are not charged."""
    run, note = tmp_path / "run", tmp_path / "note"
    tasks = [job.task(n=n) for n in range(300)]
    tasks[100] = job.task(how="sleep", note=str(note))
    begun = time.monotonic()
    with opened(run, tasks) as handle:
        wait_until(note.exists, "the task runs")
        handle.cancel({100}, "1 task")
    assert time.monotonic() - begun < LONG_S
    assert Path(f"{note}.cleaned").exists()
    results = results_of(run)
    assert [n for n, record in enumerate(results) if record.status != "completed"] == [100]
    assert results[100].status == "cancelled"
    assert workers_lost(run) == 0
    assert not any(row.charged for row in read_attempts(run))


def test_the_last_task_of_a_run_has_its_grace_too(tmp_path: Path) -> None:
    """A task that was cancelled may clean up for as long as its settings say, even if the run is closed meanwhile."""
    run, note = tmp_path / "run", tmp_path / "note"
    batch = {"tasks": [job.task(how="clean up for long", note=str(note))]}
    handle = open_run(run, SETTINGS, SlotPlan(1), read_batch(batch, REGISTRY, SETTINGS.resources, SETTINGS.policy))
    wait_until(note.exists, "the task runs")
    handle.cancel(None, "run")
    wait_for_end(handle)
    handle.close(0.0)
    assert Path(f"{note}.cleaned").exists()
    assert [record.status for record in results_of(run)] == ["cancelled"]
    assert workers_lost(run) == 0


@pytest.mark.parametrize("how", ["be stubborn", "hold the GIL"])
def test_a_task_that_does_not_let_go_is_killed_after_the_grace(how: str, tmp_path: Path) -> None:
    """One that swallows the interruption, or never sees it, loses its worker; its mates complete, uncharged."""
    run, note = tmp_path / "run", tmp_path / "note"
    tasks = [job.task(n=n) for n in range(300)]
    tasks[100] = job.task(how=how, note=str(note))
    with opened(run, tasks) as handle:
        wait_until(note.exists, "the task runs")
        handle.cancel({100}, "1 task")
        with JournalReader(run) as journal:
            assert journal.counts()["cancelled"] == 1
    results = results_of(run)
    assert [n for n, record in enumerate(results) if record.status != "completed"] == [100]
    assert results[100].status == "cancelled"
    assert workers_lost(run) <= 1
    assert not any(row.charged for row in read_attempts(run))


def test_another_process_cancels_tasks_and_batches(tmp_path: Path) -> None:
    """`dfz cancel` reaches a run that a process works on: tasks by id, a batch by name; unknown names are named."""
    run, notes = tmp_path / "run", [tmp_path / "a", tmp_path / "b"]
    first = [{**job.task(how="sleep", note=str(note)), "id": note.name} for note in notes]
    with opened(run, first, [job.task(n=n) for n in range(50)]):
        wait_until(lambda: all(note.exists() for note in notes), "both tasks run")
        unknown = dfz("cancel", run, "a", "nobody")
        assert unknown.returncode == 2
        assert "'nobody'" in unknown.stderr
        named = dfz("cancel", run, "--batch", "b1")
        assert (named.returncode, named.stdout) == (0, "50 tasks cancelled\n"), named.stderr
        some = dfz("cancel", run, "a", "b", "task-0")
        assert some.returncode == 0
        assert some.stdout == "2 tasks cancelled; 1 had ended already, and stay as they are\n"
    results = results_of(run)
    assert results.counts["cancelled"] == 52
    assert all(Path(f"{note}.cleaned").exists() for note in notes)
    assert results["a"].error.message == "it was cancelled (cancellation of: 3 tasks)"


@pytest.mark.long
def test_a_whole_run_is_cancelled_from_another_process(tmp_path: Path) -> None:
    """`dfz cancel --all` ends a `dfz run` within seconds, with exit code 1; what had completed stays."""
    (tmp_path / "naps.py").write_text(
        "import time\nfrom dfz_ray import domain\n\n@domain('nap')\ndef nap(s: float = 0.0):\n    time.sleep(s)\n"
    )
    (tmp_path / "batch.yaml").write_text(
        "tasks: [{domain: nap, parameters: {s: 600}}]\ngenerate: [{domain: nap, count: 300, parameters: {s: 0.1}}]"
    )
    address = ray.get_runtime_context().gcs_address
    command = [BIN / "dfz", "run", "batch.yaml", "--import", "naps.py", "--address", address, "--run-dir", "run"]
    process = subprocess.Popen(
        [*command, "--max-workers", "2"], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    run = tmp_path / "run"
    wait_until(lambda: _count(run, "completed") > 5, "tasks have completed")
    begun = time.monotonic()
    told = dfz("cancel", run, "--all")
    assert told.returncode == 0, told.stderr
    _, stderr = process.communicate(timeout=LONG_S)
    assert time.monotonic() - begun < LONG_S
    assert process.returncode == 1
    assert "cancelled" in stderr
    assert "Traceback" not in stderr
    counts = results_of(run).counts
    assert counts["completed"] > 5
    assert counts["cancelled"] > 100
    assert counts["completed"] + counts["cancelled"] == 301
    assert dfz("audit", run).returncode == 0


def _count(run: Path, state: str) -> int:
    with contextlib.suppress(Exception), JournalReader(run) as journal:
        return journal.counts()[state]
    return 0
