"""Batches through Ray, from the list of tasks to the results."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from dfz_ray import DfzError, InvalidInput, TasksFailed, domain, run
from dfz_ray.driver.manager_client import BLOCK_BYTES
from dfz_ray.journal.reader import JournalReader
from dfz_ray.journal.record import Record
from dfz_ray.specs.states import STATES

pytestmark = pytest.mark.usefixtures("cluster")

MAPS = Path(__file__).parents[2].parent / "shared/data/maps"


@domain("coin")
def coin(flips: int = 10, *, seed: int) -> dict[str, Any]:
    """Flip a coin."""
    return {"heads": int(np.random.default_rng(seed).integers(0, 2, flips).sum())}


@domain("spin")
def spin(ms: float = 1.0) -> None:
    """Keep a core busy."""
    end = time.perf_counter() + ms / 1000
    while time.perf_counter() < end:
        pass


@domain("trouble")
def trouble(how: str = "none") -> Any:
    """Fail in one way or another."""
    if how == "raise":
        raise KeyError("two", "arguments")
    if how == "unserializable":
        return {"value": lambda: 1}
    if how == "exit":
        os._exit(3)
    if how == "segfault":
        os.kill(os.getpid(), signal.SIGSEGV)
    if how == "sys.exit":
        sys.exit("enough")
    return how


@domain("threads", cpus=2)
def count_threads(*, threads: int) -> dict[str, Any]:
    """Tell the budgets that the task was given."""
    from threadpoolctl import threadpool_info

    return {"threads": threads, "pools": [pool["num_threads"] for pool in threadpool_info()]}


@domain("clocked", volatile=["at"])
def clocked() -> dict[str, Any]:
    """Return the time beside something that does not change."""
    return {"at": time.time(), "fixed": 1}


def overlap(records: list[Record]) -> int:
    """How many of the records' executions were under way at one time, at most."""
    edges = sorted(edge for record in records for edge in ((record.start_time or 0.0, 1), (record.end_time or 0.0, -1)))
    level, most = 0, 0
    for _, step in edges:
        level += step
        most = max(most, level)
    return most


def test_results_come_in_the_order_of_submission_and_by_id() -> None:
    """Results iterate in the order of submission, and are found by task id; an unknown id is a KeyError."""
    results = run([{**coin.task(flips=n), "id": f"n{n}"} for n in (5, 3, 9, 1)])
    assert [record.task_id for record in results] == ["n5", "n3", "n9", "n1"]
    assert results["n9"].result == {"heads": coin(flips=9, seed=_seed("n9"))["heads"]}
    assert results.counts == {**dict.fromkeys(STATES, 0), "completed": 4}
    assert len(results) == 4
    assert results.values() == [record.result for record in results]
    with pytest.raises(KeyError):
        results["n2"]


def _seed(task_id: str) -> int:
    from dfz_ray.specs.task import derive_seed

    return derive_seed(0, task_id)


@pytest.mark.parametrize("slots", [1, 2])
def test_never_more_than_max_workers_execute_at_once(slots: int) -> None:
    """On a Ray of four logical CPUs the workers' own time stamps never show more tasks at once than max_workers."""
    results = run([spin.task(ms=2) for _ in range(200)] + [coin.task() for _ in range(100)], max_workers=slots)
    assert overlap(list(results)) == slots
    assert results.metrics["max_concurrency"] == slots


def test_the_answers_do_not_depend_on_workers_or_chunks() -> None:
    """The same batch has the same digest with one worker, with four, and with chunks of another size."""
    tasks = [coin.task(flips=50) for _ in range(300)]
    digests = {
        run(tasks, max_workers=1).digest,
        run(tasks, max_workers=4).digest,
        run(tasks, max_workers=2, config={"chunking": {"target_s": 0.001}}).digest,
    }
    assert len(digests) == 1
    assert run([coin.task(flips=51) for _ in range(300)]).digest not in digests


def test_volatile_keys_do_not_change_the_digest() -> None:
    """Keys that a domain calls volatile are in the results, but not in the digest."""
    first, second = (run([clocked.task()]) for _ in range(2))
    assert first[0].result["at"] != second[0].result["at"]
    assert first.digest == second.digest


def test_a_task_that_fails_fails_alone(capfd: pytest.CaptureFixture[str]) -> None:
    """Tasks that raise, return something unserializable or exit fail with their error as text; the others complete."""
    hows = ["none", "raise", "unserializable", "exit", "sys.exit", "segfault"]
    tasks = [{"id": f"{how}-{n}", **trouble.task(how=how)} for n in range(12) for how in hows[:3]]
    tasks += [{"id": f"{how}-{n}", **trouble.task(how=how)} for n in range(2) for how in hows[3:]]
    results = run(tasks, max_workers=2)
    assert results.counts["completed"] == 12
    assert {record.status for record in results if record.task_id.startswith("none")} == {"completed"}
    reasons = {record.task_id.split("-")[0]: record.error.reason for record in results if record.error}
    assert reasons == {
        "raise": "exception",
        "unserializable": "unserializable",
        "exit": "worker_crashed",
        "sys.exit": "exception",
        "segfault": "worker_crashed",
    }
    error = results["raise-0"].error
    assert error is not None
    assert error.message == "KeyError: ('two', 'arguments')"
    assert 'raise KeyError("two", "arguments")' in (error.traceback or "")
    with pytest.raises(TasksFailed, match="30 of 42 tasks did not complete"):
        results.values()
    assert results.run_dir is not None
    assert results.run_dir in capfd.readouterr().err


@pytest.mark.long
def test_only_tasks_that_crash_alone_are_charged() -> None:
    """In a chunk of many tasks a crash fails the guilty one, however many innocent ones were in its chunk."""
    tasks = [{"id": str(n), **trouble.task(how="exit" if n in (40, 41, 77) else "none")} for n in range(100)]
    results = run(tasks, max_workers=2)
    assert {record.task_id for record in results if record.status == "failed"} == {"40", "41", "77"}


def test_a_temporary_run_folder_goes_when_all_completed(tmp_path: Path) -> None:
    """A run without a folder leaves none behind if every task completed; with one it stays, and can be read again."""
    assert run([coin.task()]).run_dir is None
    results = run([coin.task() for _ in range(10)], run_dir=tmp_path / "kept")
    assert results.run_dir == str(tmp_path / "kept")
    with JournalReader(tmp_path / "kept") as journal:
        assert journal.digest() == results.digest
        assert [record.result for record in journal.records()] == results.values()
    assert (tmp_path / "kept").stat().st_mode & 0o777 == 0o700


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    """A folder that holds something else is not written to."""
    (tmp_path / "precious").touch()
    with pytest.raises(DfzError, match="neither empty nor a run"):
        run([coin.task()], run_dir=tmp_path)


def test_a_shape_that_no_node_holds_fails_at_once_and_says_what_is_lacking() -> None:
    """Tasks that can never run here fail as infeasible, with the nearest node's amounts; the others run."""
    results = run([coin.task(), {**coin.task(), "resources": {"gpus": 3}}, {**coin.task(), "resources": {"cpus": 64}}])
    assert [record.status for record in results] == ["completed", "failed", "failed"]
    errors = [record.error for record in results if record.error]
    assert [error.reason for error in errors] == ["infeasible", "infeasible"]
    assert "0 GPU of 3 GPU" in errors[0].message
    assert "4 CPU of 64 CPU" in errors[1].message


def test_tasks_get_the_threads_that_they_declare() -> None:
    """A task that declares two CPUs is passed two threads, and native thread pools are held to them."""
    (record,) = run([count_threads.task()])
    assert record.result["threads"] == 2
    assert set(record.result["pools"]) <= {1, 2}


def test_large_results_come_back_whole(tmp_path: Path) -> None:
    """A result of megabytes becomes a file beside the journal, and is read as if it were in it."""

    @domain("large")
    def large(count: int) -> dict[str, Any]:
        return {"text": "x" * count}

    results = run([large.task(count=3_000_000), large.task(count=10)], run_dir=tmp_path / "run")
    assert len(results[0].result["text"]) == 3_000_000
    assert len(list((tmp_path / "run" / "results").iterdir())) == 1


@pytest.mark.long
def test_large_parameters_travel_in_smaller_blocks(tmp_path: Path) -> None:
    """Tasks whose parameters are too much for one message, and for one value of SQLite, are sent in several."""

    @domain("long")
    def long(text: str) -> int:
        return len(text)

    results = run([long.task(text="x" * 200_000) for _ in range(500)], run_dir=tmp_path / "run")
    assert results.values() == [200_000] * 500
    with sqlite3.connect(tmp_path / "run/run.sqlite") as connection:
        sizes = [size for (size,) in connection.execute("SELECT length(works) FROM blocks")]
    assert len(sizes) == 2
    assert max(sizes) <= 1.01 * BLOCK_BYTES


def test_values_of_all_plain_types_survive() -> None:
    """NumPy scalars as parameters, and NaN, infinities, bytes and huge integers as results, arrive as they were."""

    @domain("echo")
    def echo(value: Any) -> Any:
        return {"value": value, "more": [float("nan"), float("inf"), b"\x00", 10**40, np.float32(0.5), np.arange(3)]}

    (record,) = run([echo.task(value=np.int64(7))])
    assert record.result["value"] == 7
    nan, *others = record.result["more"]
    assert nan != nan  # noqa: PLR0124 - that is what makes it NaN
    assert others == [float("inf"), b"\x00", 10**40, 0.5, [0, 1, 2]]
    json.dumps(record.to_dict(), allow_nan=False)


def test_bad_input_starts_nothing(tmp_path: Path) -> None:
    """A batch with a problem is refused before a run folder is made."""
    with pytest.raises(InvalidInput, match="num_qubits"):
        run([{"domain": "quantum", "parameters": {"algorithm": "ghz", "num_qubits": 0}}], run_dir=tmp_path / "run")
    with pytest.raises(InvalidInput, match="max_workers"):
        run([coin.task()], max_workers=0, run_dir=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_progress_is_told(tmp_path: Path) -> None:
    """A callable gets the counts by state until all tasks are done."""
    told: list[dict[str, int]] = []
    run([spin.task(ms=20) for _ in range(40)], max_workers=2, progress=told.append)
    assert told[-1]["completed"] == 40
    assert all(sum(counts.values()) == 40 for counts in told)


def test_metrics_tell_what_was_measured() -> None:
    """The metrics are fractions, seconds and tasks per second that agree with each other."""
    results = run([spin.task(ms=5) for _ in range(60)], max_workers=2)
    metrics = results.metrics
    assert metrics["total_tasks"] == metrics["successful_tasks"] == 60
    assert metrics["success_rate"] == 1
    assert metrics["min_duration"] >= 0.005
    assert metrics["avg_concurrency"] <= metrics["max_concurrency"] <= 2
    assert metrics["utilization"] == pytest.approx(metrics["avg_concurrency"] / 2)
    assert metrics["throughput"] == pytest.approx(60 / metrics["total_duration"])


def test_results_become_a_table() -> None:
    """With pandas the results become a table with a column for each key of a result."""
    pandas = pytest.importorskip("pandas")
    table = run([coin.task(flips=n) for n in (1, 2, 3)]).to_pandas()
    assert isinstance(table, pandas.DataFrame)
    assert list(table["status"]) == ["completed"] * 3
    assert table["result.heads"].between(0, 3).all()


@pytest.mark.long
@pytest.mark.skipif(not MAPS.is_dir(), reason="the maps are not beside this checkout")
def test_all_published_paths_are_found_through_ray() -> None:
    """Every row of the published scenarios, 1,333 tasks that name two map files, is solved at its published length."""
    tasks, lengths = [], []
    for scenario in sorted(MAPS.glob("*.scen")):
        for row in scenario.read_text().splitlines()[1:]:
            _, name, _, _, x, y, goal_x, goal_y, length = row.split("\t")
            place = {"start": [int(x), int(y)], "goal": [int(goal_x), int(goal_y)]}
            parameters = {"map_file": str(MAPS / name), "moves": 8, "algorithm": "astar", **place}
            tasks.append({"domain": "maze", "parameters": parameters})
            lengths.append(float(length))
    results = run(tasks)
    found = [result["path_length"] for result in results.values()]
    assert len(found) == 1333
    assert np.allclose(found, lengths, rtol=0, atol=1e-6)


def test_the_three_domains_run_together() -> None:
    """One batch mixes circuits, mazes and classifiers; each returns what it measured."""
    results = run(
        [
            {"domain": "quantum", "parameters": {"algorithm": "bernstein_vazirani", "num_qubits": 5}},
            {"domain": "maze", "parameters": {"size_x": 10, "size_y": 10, "visual_patterns": True}},
            {"domain": "image_classification", "parameters": {"epochs": 1}},
        ],
        max_workers=2,
    )
    quantum, maze, images = results.values()
    assert quantum["success_probability"] == 1
    assert maze["main_score"] == 1
    assert images["main_score"] > 0.5


def test_threads_that_run_at_once_share_one_ray() -> None:
    """Two runs at the same time in one process, from two threads, both get their own results."""
    with ThreadPoolExecutor(2) as threads:
        batches = [[coin.task(flips=n) for n in range(1, 60)], [spin.task(ms=1) for _ in range(60)]]
        first, second = threads.map(lambda tasks: run(tasks, max_workers=2), batches)
    assert (len(first), len(second)) == (59, 60)
    assert first.counts["completed"] + second.counts["completed"] == 119


def test_an_address_that_is_not_the_connected_one_is_refused() -> None:
    """A process that is connected to one Ray does not silently use it in place of another that was asked for."""
    with pytest.raises(DfzError, match="this process is connected to the Ray at"):
        run([coin.task()], address="127.0.0.1:1")


def test_a_domain_that_cannot_travel_is_told_before_anything_starts(tmp_path: Path) -> None:
    """A function that holds a lock can't be sent to the workers: one clear error, and no run folder."""
    lock = threading.Lock()

    @domain("locked")
    def locked() -> bool:
        return lock.locked()

    with pytest.raises(DfzError, match="domain 'locked' can't be sent to the workers"):
        run([locked.task()], run_dir=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_the_manager_has_its_turn_before_the_workers() -> None:
    """Where the system allows it, all threads of the manager are as nice as the driver; workers stay nicer."""
    run([{"domain": "coin"}], max_workers=1)
    found = psutil.process_iter(["cmdline", "nice"])
    own = [process for process in found if psutil.Process() in process.parents()]
    names = [(process, "".join(process.info["cmdline"] or ())) for process in own]
    niceness: list[int] = []
    for process, name in names:
        for thread in process.threads() if name == "ray::TaskManager" else ():
            with contextlib.suppress(ProcessLookupError):  # it has just ended
                niceness.append(os.getpriority(os.PRIO_PROCESS, thread.id))
    raise_own = "import os; before = os.nice(1); os.setpriority(os.PRIO_PROCESS, 0, before - 1)"
    is_allowed = not subprocess.run([sys.executable, "-c", raise_own], stderr=subprocess.DEVNULL).returncode

    assert set(niceness) == {os.nice(0)} or not is_allowed
    idle = [process.info["nice"] for process, name in names if name == "ray::IDLE"]
    assert idle
    assert min(idle) > os.nice(0)


def test_a_record_shows_itself_in_a_line() -> None:
    """Printing a record of a large result does not print its bytes; an id can be looked for in the results."""
    results = run([{"id": "a", **coin.task()}])
    assert "heads" not in repr(results["a"])
    assert "a" in results
    assert "b" not in results
    assert results[0] in results
