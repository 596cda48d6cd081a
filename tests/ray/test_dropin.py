"""The DFZ adapter: batches, single tasks, records, metrics, and an event loop that is never blocked."""

from __future__ import annotations

import asyncio
import logging
import signal
import threading
import time
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray
import threadpoolctl
from support.adapters import held_task, mixed_tasks, status_becomes

from dfz_ray import ConcurrentDFZAdapter, create_concurrent_dfz_plugin, domain
from dfz_ray.driver.manager_actor import get_manager

RECORD_KEYS = {"task_id", "status", "start_time", "end_time", "duration", "result"}
ANSWER_KEYS = {"task_id", "status", "start_time", "end_time", "duration", "result"}


@pytest.mark.long
def test_a_batch_mixes_the_three_domains(adapter: ConcurrentDFZAdapter) -> None:
    """One batch holds tasks of all domains, with NumPy scalars as parameters; each has a record and a future."""
    answer = asyncio.run(adapter.execute_tasks_batch(mixed_tasks()))
    assert list(answer["results"]) == list(answer["futures"]) == ["q", "m", "i"]
    for task_id, record in answer["results"].items():
        assert (record["status"], set(record)) == ("completed", RECORD_KEYS)
        assert (record["result"]["status"], set(record["result"])) == ("success", ANSWER_KEYS)
        assert 0 <= record["result"]["result"]["main_score"] <= 1
        assert record["duration"] == pytest.approx(record["end_time"] - record["start_time"])
        assert isinstance(answer["futures"][task_id], Future)
        assert answer["futures"][task_id].result() == record["result"]
    assert answer["metrics"]["successful_tasks"] == 3


def test_foreground_and_batch_give_the_same_answer(adapter: ConcurrentDFZAdapter) -> None:
    """The same task has the same result one by one, in a batch, and again; callers may add keys of their own."""
    task = {"id": "same", "domain": "quantum", "parameters": {"algorithm": "grover", "num_qubits": 4}}
    alone = asyncio.run(adapter.execute_task(task))
    records = [asyncio.run(adapter.execute_tasks_batch([task]))["results"]["same"] for _ in range(2)]
    assert (alone["status"], set(alone)) == ("success", ANSWER_KEYS)
    assert alone["result"] == records[0]["result"]["result"] == records[1]["result"]["result"]
    assert records[0]["start_time"] < records[1]["start_time"]  # the work is done anew
    records[0].update(records[0]["result"])
    alone["mode"] = "sequential"
    assert records[0]["status"] == "success"


def test_a_task_that_cannot_be_fails_alone(adapter: ConcurrentDFZAdapter) -> None:
    """An unknown domain or a value out of range fails that task with a clear text, and the others run."""
    tasks = [
        {"id": "ok", "domain": "maze", "parameters": {"size_x": 5, "size_y": 5}},
        {"id": "unknown", "domain": "mase", "parameters": {}},
        {"id": "range", "domain": "quantum", "parameters": {"algorithm": "ghz", "num_qubits": 999}},
    ]
    answer = asyncio.run(adapter.execute_tasks_batch(tasks))
    results = answer["results"]
    assert [results[task_id]["status"] for task_id in ("ok", "unknown", "range")] == ["completed", "failed", "failed"]
    assert "did you mean 'maze'?" in results["unknown"]["error"]
    assert "num_qubits: found 999" in results["range"]["error"]
    assert answer["futures"]["range"].result()["status"] == "error"
    assert (answer["metrics"]["failed_tasks"], answer["metrics"]["success_rate"]) == (2, pytest.approx(1 / 3))
    assert asyncio.run(adapter.execute_task(tasks[1]))["status"] == "error"


def test_unknown_parameters_of_old_scripts_are_left_out_with_a_warning(adapter: ConcurrentDFZAdapter) -> None:
    """Parameters that the old system ignored do not fail a task; one warning names them, and the script's line."""
    task = {"domain": "maze", "parameters": {"size_x": 5, "size_y": 5, "colour": "red", "seed": 3}}

    async def main() -> dict[str, Any]:
        return await adapter.execute_tasks_batch([task, task])

    with pytest.warns(UserWarning, match="maze: colour") as told:
        answer = asyncio.run(main())
    assert [record["status"] for record in answer["results"].values()] == ["completed", "completed"]
    assert [one.filename for one in told] == [__file__]


@pytest.mark.long
@pytest.mark.filterwarnings("error::UserWarning")
def test_parameters_of_older_image_and_sorting_tasks_are_real(adapter: ConcurrentDFZAdapter) -> None:
    """Size, categories, augmentation and model of images, and the algorithm of a sort, are used and not left out."""
    image = {"image_size": np.int64(32), "num_categories": np.int64(2), "augmentation": np.bool_(True)}
    sort = {"list_length": np.int64(50), "value_range": [1, 9], "list_type": "almost_sorted"}
    tasks = [
        {"id": "i", "domain": "image_classification", "parameters": {**image, "model_type": np.str_("cnn")}},
        {"id": "s", "domain": "sorting", "parameters": {**sort, "algorithm": np.str_("heapsort")}},
    ]
    results = asyncio.run(adapter.execute_tasks_batch(tasks))["results"]
    images, sorting = (results[name]["result"]["result"] for name in "is")
    assert images["model_details"]["image_size"] == [1, 32, 32]
    assert images["classes"] == ["0", "1"]
    assert (sorting["algorithm"], sorting["is_sorted"]) == ("heapsort", True)


def test_a_repeated_id_is_told_apart(adapter: ConcurrentDFZAdapter) -> None:
    """Two tasks of one batch with the same id both run, on the same seed; the second is id#2."""
    task = {"id": "twin", "domain": "maze", "parameters": {"size_x": 6, "size_y": 6}}
    results = asyncio.run(adapter.execute_tasks_batch([task, task]))["results"]
    assert list(results) == ["twin", "twin#2"]
    assert results["twin"]["result"]["result"]["path"] == results["twin#2"]["result"]["result"]["path"]


def test_a_batch_goes_on_in_the_background(adapter: ConcurrentDFZAdapter, door: Path) -> None:
    """With `wait=False` a batch returns at once, without results; polling returns each task once, as it ends."""

    async def main() -> dict[str, dict[str, Any]]:
        free = [{"id": f"m{n}", "domain": "maze", "parameters": {"size_x": 5, "size_y": 5}} for n in range(3)]
        answer = await adapter.execute_tasks_batch([held_task(door), *free], wait=False)
        assert "results" not in answer
        assert list(answer["futures"]) == ["held", "m0", "m1", "m2"]
        running = await status_becomes(adapter, "held", "running")
        assert running["elapsed"] >= 0
        collected: dict[str, dict[str, Any]] = {}
        while len(collected) < 4:
            if len(collected) == 3:
                assert "held" not in collected
                door.unlink(missing_ok=True)
            new = adapter.collect_completed_tasks()
            assert not set(new) & set(collected)
            collected |= new
            await asyncio.sleep(0.01)
        return collected

    collected = asyncio.run(main())
    assert {record["status"] for record in collected.values()} == {"completed"}
    assert adapter.collect_completed_tasks() == {}
    assert adapter.get_task_status("never")["status"] == "unknown"


@pytest.mark.long
def test_after_a_timeout_the_rest_goes_on(adapter: ConcurrentDFZAdapter, door: Path) -> None:
    """A batch whose time is up returns what has ended; the rest goes on, and its futures end later."""

    async def main() -> None:
        free = {"id": "free", "domain": "maze", "parameters": {"size_x": 5, "size_y": 5}}
        await adapter.execute_tasks_batch([free])
        answer = await adapter.execute_tasks_batch([held_task(door), free], timeout=15)
        assert list(answer["results"]) == ["free"]
        assert answer["metrics"]["total_tasks"] == 2
        assert not answer["futures"]["held"].done()
        door.unlink()
        held = await asyncio.to_thread(answer["futures"]["held"].result, 60)
        assert held["result"] == {"held": str(door)}

    asyncio.run(main())


def test_one_task_is_submitted_and_awaited(adapter: ConcurrentDFZAdapter, door: Path) -> None:
    """A task that is submitted alone gives a future to be awaited; cancelled before it begins, it never runs."""

    async def main() -> None:
        holding = [await adapter.execute_task_concurrent(held_task(door, name)) for name in ("a", "b")]
        await status_becomes(adapter, "a", "running")
        await status_becomes(adapter, "b", "running")
        waits = await adapter.execute_task_concurrent({"id": "w", "domain": "maze", "parameters": {"size_x": 5}})
        assert adapter.get_task_status("w")["status"] == "pending"
        waits.cancel()
        await status_becomes(adapter, "w", "cancelled")
        door.unlink()
        assert {(await future)["status"] for future in holding} == {"success"}

    asyncio.run(main())


def test_max_workers_caps_all_batches_together(cluster: None) -> None:
    """Batches that run at the same time share the workers of their adapter: with one, no two tasks overlap."""
    adapter = ConcurrentDFZAdapter(max_workers=1)
    assert adapter.plugin.task_manager.max_workers == 1

    async def main() -> None:
        tasks = [{"domain": "tagged", "parameters": {"value": n, "busy_s": 0.05}} for n in range(5)]
        await asyncio.gather(*(adapter.execute_tasks_batch(tasks) for _ in range(3)))

    asyncio.run(main())
    metrics = adapter.get_performance_metrics()["concurrent"]
    assert (metrics["total_tasks"], metrics["max_concurrency"]) == (15, 1)


def test_the_number_of_workers_comes_from_the_configuration_where_it_is_left_open() -> None:
    """An argument wins over the configuration, also the default of four; None takes what the configuration says."""
    config = {"max_workers": 3}
    assert ConcurrentDFZAdapter(config=config).max_workers == 4
    assert ConcurrentDFZAdapter(config=config, max_workers=None).max_workers == 3
    assert ConcurrentDFZAdapter(max_workers=None).max_workers >= 1


def test_foreground_tasks_leave_the_process_its_threads(adapter: ConcurrentDFZAdapter) -> None:
    """Foreground tasks at the same time give back the thread pools of the process as they were."""

    def threads() -> list[int]:
        return [pool["num_threads"] for pool in threadpoolctl.threadpool_info()]

    async def main() -> None:
        with threadpoolctl.threadpool_limits(limits=3):
            before = threads()
            tasks = [{"domain": "tagged", "parameters": {"value": n, "busy_s": 0.05}} for n in range(4)]
            answers = await asyncio.gather(*map(adapter.execute_task, tasks))
            assert [one["status"] for one in answers] == ["success"] * 4
            assert threads() == before

    asyncio.run(main())


def test_ctrl_c_ends_a_script_and_not_its_foreground_task_alone() -> None:
    """An interrupt while the plugin runs a task in the foreground is raised: a loop over tasks does not go on."""

    @domain("interrupted")
    def interrupted() -> None:
        signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        create_concurrent_dfz_plugin().execute_task({"domain": interrupted.domain.name})


@pytest.mark.long
def test_the_number_of_workers_may_follow_what_pays(cluster: None) -> None:
    """With `auto` a manager's workers are as many as pay; tasks and metrics are as ever."""
    adapter = ConcurrentDFZAdapter(max_workers="auto", use_processes=False)
    assert adapter.plugin.task_manager.max_workers == "auto"
    tasks = [{"domain": "tagged", "parameters": {"value": n, "busy_s": 0.01}} for n in range(60)]
    answer = asyncio.run(adapter.execute_tasks_batch(tasks))
    assert [record["status"] for record in answer["results"].values()] == ["completed"] * 60
    assert answer["metrics"]["success_rate"] == 1.0
    assert "utilization" not in answer["metrics"]  # of a number that changes


def test_tasks_may_say_how_they_are_treated(cluster: None, door: Path) -> None:
    """A task of the adapter may have a priority, a deadline, retries and resources, as those of batch files."""
    adapter = ConcurrentDFZAdapter(max_workers=1)

    def treated(task_id: str, **more: Any) -> dict[str, Any]:
        return {"id": task_id, "domain": "tagged", "parameters": {"value": 1}, **more}

    async def main() -> dict[str, Any]:
        late = {**held_task(door, "late"), "policy": {"timeout_s": 0.5}}
        await adapter.execute_tasks_batch([late], wait=False)
        await status_becomes(adapter, "late", "running")
        tasks = [
            *(treated(f"low{n}") for n in range(3)),
            treated("high", policy={"priority": 5}),
            treated("huge", resources={"cpus": 1000}),
            {"id": "flaky", "domain": "fails_at_first", "parameters": {"path": str(door)}}
            | {"policy": {"max_attempts": 2, "retry_on": ["exception"], "backoff": {"first_s": 0.01}}},
        ]
        return {**(await adapter.execute_tasks_batch(tasks))["results"], "late": adapter.get_task_status("late")}

    results = asyncio.run(main())
    assert (results["late"]["status"], results["late"]["error"].partition(":")[0]) == ("failed", "timeout")
    assert (results["huge"]["status"], results["huge"]["error"].partition(":")[0]) == ("failed", "infeasible")
    assert results["flaky"]["status"] == "completed"
    assert results["high"]["start_time"] < min(results[f"low{n}"]["start_time"] for n in range(3))


def test_debug_logging_tells_of_each_task(adapter: ConcurrentDFZAdapter, caplog: pytest.LogCaptureFixture) -> None:
    """At level DEBUG the logger dfz_ray has a line for each task of an adapter that ends."""
    tasks = [{"id": "fine", "domain": "tagged", "parameters": {"value": 1}}, {"id": "bad", "domain": "mase"}]
    with caplog.at_level(logging.DEBUG, "dfz_ray"):
        asyncio.run(adapter.execute_tasks_batch(tasks))
    told = [record.getMessage() for record in caplog.records]
    assert any(line.startswith("task fine: completed after") for line in told)
    assert any(line.startswith("task bad: failed: ") and "did you mean 'maze'?" in line for line in told)


@pytest.mark.long
def test_ten_adapters_do_not_disturb_each_other(cluster: None) -> None:
    """Ten adapters with a batch each, at once and with the same task ids: every result is its own."""

    async def run_one(number: int) -> list[int]:
        adapter = ConcurrentDFZAdapter(config={"config_path": None}, max_workers=np.int64(2))
        await adapter.initialize()
        tasks = [{"id": f"task_{n}", "domain": "tagged", "parameters": {"value": 100 * number + n}} for n in range(20)]
        results = (await adapter.execute_tasks_batch(tasks))["results"]
        await adapter.shutdown()
        return [results[f"task_{n}"]["result"]["result"]["value"] for n in range(20)]

    async def main() -> list[list[int]]:
        return await asyncio.gather(*(run_one(number) for number in range(10)))

    assert asyncio.run(main()) == [[100 * number + n for n in range(20)] for number in range(10)]


@pytest.mark.long
def test_a_lost_manager_costs_nothing(adapter: ConcurrentDFZAdapter) -> None:
    """If the manager of a batch is killed, another one goes on with it: every task has its own result."""

    async def main() -> dict[str, Any]:
        tasks = [{"id": f"t{n}", "domain": "tagged", "parameters": {"value": n, "busy_s": 0.02}} for n in range(100)]
        batch = asyncio.create_task(adapter.execute_tasks_batch(tasks))
        until = time.monotonic() + 60
        while not adapter.collect_completed_tasks():
            assert time.monotonic() < until
            await asyncio.sleep(0.01)
        ray.kill(get_manager())
        return (await batch)["results"]

    results = asyncio.run(main())
    assert [results[f"t{n}"]["result"]["result"]["value"] for n in range(100)] == list(range(100))


def test_metrics_add_up_over_batches(adapter: ConcurrentDFZAdapter) -> None:
    """The performance metrics count every batch of the adapter, with the keys that scripts read."""
    for _ in range(2):
        asyncio.run(adapter.execute_tasks_batch(mixed_tasks()[:2]))
    metrics = adapter.get_performance_metrics()["concurrent"]
    assert set(metrics) == {
        *("total_tasks", "successful_tasks", "failed_tasks", "success_rate", "failure_rate"),
        *("avg_duration", "min_duration", "max_duration", "avg_concurrency", "max_concurrency"),
        *("task_durations", "concurrent_executions", "total_duration", "throughput", "utilization"),
    }
    assert metrics["total_tasks"] == metrics["successful_tasks"] == 4
    assert (metrics["success_rate"], metrics["failure_rate"]) == (1.0, 0.0)
    assert metrics["max_concurrency"] <= 2
    assert len(metrics["task_durations"]) == 4


def test_an_adapter_is_an_async_context_manager(cluster: None) -> None:
    """`async with` initializes an adapter, and waits for its tasks in the end; it keeps the records."""

    async def main() -> ConcurrentDFZAdapter:
        async with ConcurrentDFZAdapter(max_workers=1) as adapter:
            await adapter.execute_tasks_batch(
                [{"id": "t", "domain": "tagged", "parameters": {"value": 1, "busy_s": 0.3}}], wait=False
            )
        assert adapter.get_task_status("t")["status"] == "completed"
        with pytest.raises(RuntimeError, match="shutdown"):
            await adapter.execute_tasks_batch([{"id": "u", "domain": "maze"}])
        return adapter

    adapter = asyncio.run(main())
    assert adapter.get_performance_metrics()["concurrent"]["total_tasks"] == 1


def test_a_large_result_arrives(adapter: ConcurrentDFZAdapter) -> None:
    """A result that is too large for the journal is read from its file."""
    task = {"id": "m", "domain": "maze", "parameters": {"size_x": 199, "size_y": 199, "visual_patterns": True}}
    record = asyncio.run(adapter.execute_tasks_batch([task]))["results"]["m"]
    assert record["status"] == "completed"
    assert record["result"]["result"]["solved"]


def test_a_batch_waits_without_a_thread_of_the_loop(adapter: ConcurrentDFZAdapter, door: Path) -> None:
    """However many batches wait, the event loop's own threads stay free for others."""

    async def main() -> None:
        batches = [asyncio.create_task(adapter.execute_tasks_batch([held_task(door, f"h{n}")])) for n in range(40)]
        await status_becomes(adapter, "h39", "pending")
        before = threading.active_count()
        assert (await adapter.execute_task({"domain": "maze", "parameters": {"size_x": 5}}))["status"] == "success"
        assert threading.active_count() <= before + 1
        door.unlink()
        answers = await asyncio.gather(*batches)
        assert all(len(answer["results"]) == 1 for answer in answers)

    asyncio.run(main())
