"""submit(): a batch in the background, its tasks as they end, and its results."""

from __future__ import annotations

import asyncio
import logging
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import ray
from support.driver import wait_until

from dfz_ray import InfrastructureLost, InvalidInput, Results, domain, run, submit
from dfz_ray.driver.domain_shipping import ship_by_value
from dfz_ray.driver.manager_actor import get_manager
from dfz_ray.journal.reader import JournalReader, count_ended

ship_by_value(sys.modules[__name__])


@domain("wait_for_file")
def wait_for_file(path: str = "", fail: bool = False, large: bool = False) -> dict[str, object]:
    """A task that ends when a file is there, which lets a test say in which order tasks end."""
    while path and not os.path.exists(path):
        time.sleep(0.005)
    if fail:
        raise ValueError("as it was asked to")
    return {"path": path, "filling": "x" * 300_000 if large else ""}


pytestmark = pytest.mark.usefixtures("cluster")


def tasks_of(folder: Path, count: int) -> list[dict[str, object]]:
    """Tasks t0, t1, ... each of which ends when the file of its number is there."""
    return [{"id": f"t{number}", **wait_for_file.task(path=str(folder / str(number)))} for number in range(count)]


def test_submit_returns_before_anything_has_ended(tmp_path: Path) -> None:
    """A handle is there at once; it counts tasks, waits as long as it is asked to, and has results in the end."""
    handle = submit(tasks_of(tmp_path, 2), max_workers=2)
    assert not handle.done
    assert sum(handle.counts.values()) == 2
    assert not handle.wait(timeout=0.01)
    with pytest.raises(TimeoutError, match="has not ended"):
        handle.results(timeout=0.01)
    (tmp_path / "0").touch()
    (tmp_path / "1").touch()
    results = handle.results(timeout=300)
    assert isinstance(results, Results)
    assert [record.task_id for record in results] == ["t0", "t1"]
    assert handle.done
    assert handle.counts["completed"] == 2
    assert repr(handle) == f"<BatchHandle: {results!r}>"


def test_tasks_come_in_the_order_in_which_they_end(tmp_path: Path) -> None:
    """as_completed yields each record as soon as its task has ended, also one whose result is large or that failed."""
    tasks = tasks_of(tmp_path, 3)
    tasks[0]["parameters"] |= {"fail": True}  # type: ignore[operator]
    tasks[2]["parameters"] |= {"large": True}  # type: ignore[operator]
    handle = submit(tasks, max_workers=3)
    ended = handle.as_completed(timeout=300)
    for number in (1, 2, 0):
        (tmp_path / str(number)).touch()
        assert next(ended).task_id == f"t{number}"
    assert next(ended, None) is None
    again = {record.task_id: record for record in handle.as_completed()}
    assert {task_id: record.status for task_id, record in again.items()} == {
        "t0": "failed",
        "t1": "completed",
        "t2": "completed",
    }
    assert len(again["t2"].result["filling"]) == 300_000
    assert str(again["t0"].error) == "exception: ValueError: as it was asked to"
    for record in handle.results():
        told = again[record.task_id]
        assert (told.attempts, told.start_time, told.end_time, told.node) == (
            record.attempts,
            record.start_time,
            record.end_time,
            record.node,
        )


def test_iterating_gives_up_in_time(tmp_path: Path) -> None:
    """With a timeout as_completed raises when it is over, and the run goes on."""
    handle = submit(tasks_of(tmp_path, 1), max_workers=1)
    with pytest.raises(TimeoutError):
        next(handle.as_completed(timeout=0.05))
    (tmp_path / "0").touch()
    assert [record.status for record in handle.as_completed(timeout=300)] == ["completed"]


def test_async_iteration_leaves_the_loop_free(tmp_path: Path) -> None:
    """`async for` waits without holding up the loop, in which others go on."""

    async def use() -> tuple[list[str], int]:
        handle = submit(tasks_of(tmp_path, 3), max_workers=3)
        beats, order = 0, []

        async def release() -> None:
            nonlocal beats
            for number in (2, 0, 1):
                (tmp_path / str(number)).touch()
                while len(order) < 3 and f"t{number}" not in order:
                    beats += 1
                    await asyncio.sleep(0.001)

        releasing = asyncio.create_task(release())
        async for record in handle.as_completed(timeout=300):
            order.append(record.task_id)
        await releasing
        return order, beats

    order, beats = asyncio.run(use())
    assert order == ["t2", "t0", "t1"]
    assert beats > 3


def test_one_task_is_cancelled_or_all(tmp_path: Path) -> None:
    """cancel() lets go of single tasks by id, also running ones, or of all that are left."""
    handle = submit(tasks_of(tmp_path, 5), max_workers=2)
    handle.cancel(["t0", "t4"])
    ended = handle.as_completed(timeout=300)
    assert {next(ended).task_id, next(ended).task_id} == {"t0", "t4"}
    (tmp_path / "1").touch()
    assert next(ended).task_id == "t1"
    handle.cancel()
    results = handle.results(timeout=300)
    assert results.counts["cancelled"] == 4
    assert [record.task_id for record in results.select(state="completed")] == ["t1"]


def test_a_lost_manager_costs_nothing(tmp_path: Path) -> None:
    """If the manager is killed, another one goes on, and every task is yielded once."""
    handle = submit(tasks_of(tmp_path, 6), max_workers=2)
    ended = handle.as_completed(timeout=300)
    (tmp_path / "0").touch()
    seen = [next(ended).task_id]
    ray.kill(get_manager())
    for number in range(1, 6):
        (tmp_path / str(number)).touch()
    seen.extend(record.task_id for record in ended)
    assert sorted(seen) == [f"t{number}" for number in range(6)]
    assert handle.results().counts["completed"] == 6


def test_a_run_that_is_gone_on_with_tells_of_all_its_tasks(tmp_path: Path) -> None:
    """Submitting to the folder of a run yields what had ended before, and what ends now."""
    folder = tmp_path / "run"
    (tmp_path / "0").touch()
    run(tasks_of(tmp_path, 1), run_dir=folder, max_workers=1)
    (tmp_path / "1").touch()
    handle = submit(tasks_of(tmp_path, 2), run_dir=folder, max_workers=1)
    assert [record.task_id for record in handle.as_completed(timeout=300)] == ["t0", "t1"]
    assert handle.results().counts["completed"] == 2


def test_bad_input_is_refused_at_once() -> None:
    """A batch that is wrong is refused by submit itself."""
    with pytest.raises(InvalidInput, match="no_such_domain"):
        submit([{"domain": "no_such_domain"}])


def test_results_are_selected_and_say_what_happened(tmp_path: Path) -> None:
    """Results can be filtered by state, domain and kind, made a table, and tell in one line what came of the run."""
    results = run([wait_for_file.task(), wait_for_file.task(fail=True), {"domain": "maze"}], max_workers=2)
    assert [record.task_id for record in results.select(domain="maze")] == ["task-2"]
    assert results.select(state="failed", kind="wait_for_file").counts["failed"] == 1
    assert results.select(state="failed")["task-1"].status == "failed"
    assert list(results.select(domain="wait_for_file").to_pandas()["status"]) == ["completed", "failed"]
    assert "\n" not in repr(results)
    assert "2 completed, 1 failed in" in repr(results)
    assert "first failed: task-1: exception: ValueError: as it was asked to" in repr(results)
    with pytest.raises(InvalidInput, match="expected one of pending, running"):
        results.select(state="done")


def test_debug_tells_the_life_of_each_task(caplog: pytest.LogCaptureFixture) -> None:
    """At level DEBUG each task is a line of the logger dfz_ray; without a listener nothing is written anywhere."""
    with caplog.at_level(logging.DEBUG, "dfz_ray"):
        run([wait_for_file.task(), wait_for_file.task(fail=True)], max_workers=2)
    lives = sorted(record.getMessage() for record in caplog.records if record.getMessage().startswith("task task-"))
    assert lives[0].startswith("task task-0 (wait_for_file): completed after ")
    assert "task task-1 (wait_for_file): failed" in lives[1]
    assert "exception: ValueError: as it was asked to" in lives[1]
    assert any(isinstance(one, logging.NullHandler) for one in logging.getLogger("dfz_ray").handlers)


@domain("filling")
def filling(number: int) -> str:
    """A result that is just too small for a file of its own."""
    return f"{number} {'x' * 200_000}"


@pytest.mark.long
def test_a_program_that_does_not_listen_gets_all_results_when_it_does(tmp_path: Path) -> None:
    """A callback that blocks until the run is at its end keeps no result from the handle, however many there are."""

    def block(counts: dict[str, int]) -> None:
        wait_until(lambda: count_ended(tmp_path / "run") == 500, "all tasks have ended")

    tasks = [{"id": f"t{number}", **filling.task(number=number)} for number in range(500)]
    handle = submit(tasks, run_dir=tmp_path / "run", max_workers=2, progress=block)
    found = {record.task_id: record.result for record in handle.as_completed(300)}
    assert found == {f"t{number}": filling(number) for number in range(500)}


SCRIPT = """
import sys, time
from dfz_ray import domain, submit

@domain("snooze")
def snooze(s: float = 0.0):
    time.sleep(s)

handle = submit([snooze.task(), snooze.task(s=600.0)], max_workers=2, run_dir=sys.argv[1], address="local")
next(handle.as_completed())
print("one has ended", flush=True)
"""


@pytest.mark.long
def test_a_process_that_ends_before_its_run_leaves_it_to_be_gone_on_with(tmp_path: Path) -> None:
    """A script that forgets its handle ends within seconds, and what had ended is in the run folder."""
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    folder = tmp_path / "run"
    environment = {key: value for key, value in os.environ.items() if key != "RAY_ADDRESS"}
    done = subprocess.run(
        [sys.executable, script, folder], capture_output=True, text=True, timeout=300, env=environment
    )
    assert done.returncode == 0, done.stderr
    assert "one has ended" in done.stdout
    assert "Traceback" not in done.stderr
    with JournalReader(folder) as journal:
        assert journal.counts()["completed"] == 1


def test_a_folder_that_is_moved_while_the_run_goes_on(tmp_path: Path) -> None:
    """If somebody moves the run folder, the run ends in its new place, and the error says that it was moved."""
    handle = submit(tasks_of(tmp_path, 2), max_workers=2, run_dir=tmp_path / "run")
    (tmp_path / "0").touch()
    assert next(handle.as_completed(timeout=300)).task_id == "t0"

    (tmp_path / "run").rename(tmp_path / "elsewhere")
    (tmp_path / "1").touch()

    with pytest.raises(InfrastructureLost, match=r"run is no run folder any more: it was moved or removed"):
        handle.results(timeout=300)
    assert count_ended(tmp_path / "elsewhere") == 2
