"""The DFZ interface: scripts written for the old module run with their import line changed."""

from __future__ import annotations

import asyncio
import logging
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dfz_ray import ConcurrentDFZAdapter, InvalidInput

ROOT = Path(__file__).parents[2]

BASIC_USAGE = """
import asyncio
from dfz_ray import ConcurrentDFZAdapter

async def main():
    # Create a concurrent DFZ adapter with 4 workers
    adapter = ConcurrentDFZAdapter(
        config={"config_path": "configs/default.yaml"},
        max_workers=4
    )

    # Initialize the adapter
    await adapter.initialize()

    # Define a batch of tasks
    tasks = [
        {
            "id": "task_1",
            "domain": "quantum",
            "description": "Quantum task 1",
            "parameters": {
                "algorithm": "vqe",
                "num_qubits": 5,
                "noise_level": 0.01,
                "circuit_depth": 4
            }
        },
        {
            "id": "task_2",
            "domain": "quantum",
            "description": "Quantum task 2",
            "parameters": {
                "algorithm": "grover",
                "num_qubits": 6,
                "noise_level": 0.02,
                "circuit_depth": 3
            }
        }
    ]

    # Execute tasks concurrently
    result = await adapter.execute_tasks_batch(tasks, wait=True)

    # Process results
    for task_id, task_result in result["results"].items():
        print(f"Task {task_id}: {task_result['status']}")

asyncio.run(main())
"""


def test_basic_usage_runs_as_written() -> None:
    """The seed document's first example runs with only its import line changed, and says nothing on stderr."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", BASIC_USAGE],
        cwd=ROOT,
        env={**os.environ, "RAY_ADDRESS": "local"},  # whatever Ray may have been left on this machine
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.stdout == "Task task_1: completed\nTask task_2: completed\n"
    assert done.stderr == ""
    assert done.returncode == 0


@pytest.fixture
def adapter(cluster: None) -> ConcurrentDFZAdapter:
    return ConcurrentDFZAdapter(config={"config_path": None}, max_workers=2)


def mixed_tasks() -> list[dict[str, Any]]:
    return [
        {
            "id": "q",
            "domain": "quantum",
            "parameters": {"algorithm": np.random.choice(["ghz"]), "num_qubits": np.int64(4)},
        },
        {"id": "m", "domain": "maze", "parameters": {"size_x": 10, "size_y": 10, "complexity": np.float64(0.5)}},
        {"id": "i", "domain": "image_classification", "parameters": {"difficulty": "easy", "epochs": 1}},
    ]


def test_a_batch_mixes_the_three_domains(adapter: ConcurrentDFZAdapter) -> None:
    """One batch holds tasks of all domains, with NumPy scalars as parameters; each has a record and a future."""
    answer = asyncio.run(adapter.execute_tasks_batch(mixed_tasks()))
    assert list(answer["results"]) == ["q", "m", "i"]
    for task_id, record in answer["results"].items():
        assert record["status"] == "completed"
        assert record["result"]["status"] == "success"
        assert 0 <= record["result"]["result"]["main_score"] <= 1
        assert record["duration"] == pytest.approx(record["end_time"] - record["start_time"])
        assert answer["futures"][task_id].result() is record
    assert answer["metrics"]["successful_tasks"] == 3


def test_foreground_and_batch_give_the_same_answer(adapter: ConcurrentDFZAdapter) -> None:
    """The same task has the same result one by one and in a batch; callers may add keys of their own."""
    task = {"id": "same", "domain": "quantum", "parameters": {"algorithm": "grover", "num_qubits": 4}}
    alone = asyncio.run(adapter.execute_task(task))
    record = asyncio.run(adapter.execute_tasks_batch([task]))["results"]["same"]
    assert alone["status"] == "success"
    assert alone["result"] == record["result"]["result"]
    record.update(record["result"])
    alone["mode"] = "sequential"
    assert record["status"] == "success"


def test_a_task_that_cannot_be_fails_alone(adapter: ConcurrentDFZAdapter) -> None:
    """An unknown domain or a value out of range fails that task with a clear text, and the others run."""
    tasks = [
        {"id": "ok", "domain": "maze", "parameters": {"size_x": 5, "size_y": 5}},
        {"id": "unknown", "domain": "mase", "parameters": {}},
        {"id": "range", "domain": "quantum", "parameters": {"algorithm": "ghz", "num_qubits": 99}},
    ]
    results = asyncio.run(adapter.execute_tasks_batch(tasks))["results"]
    assert [results[task_id]["status"] for task_id in ("ok", "unknown", "range")] == ["completed", "failed", "failed"]
    assert "did you mean 'maze'?" in results["unknown"]["error"]
    assert "num_qubits: found 99" in results["range"]["error"]
    assert asyncio.run(adapter.execute_task(tasks[1]))["status"] == "error"


def test_unknown_parameters_of_old_scripts_are_left_out_with_a_warning(
    adapter: ConcurrentDFZAdapter, caplog: pytest.LogCaptureFixture
) -> None:
    """Parameters that the old system ignored do not fail a task; one warning names them."""
    task = {"domain": "maze", "parameters": {"size_x": 5, "size_y": 5, "colour": "red", "seed": 3}}
    with caplog.at_level(logging.WARNING, logger="dfz_ray"):
        answer = asyncio.run(adapter.execute_task(task))
    assert answer["status"] == "success"
    assert [record.message for record in caplog.records] == ["left out, for domain maze does not know them: colour"]


def test_parameters_of_older_image_and_sorting_tasks_are_real(
    adapter: ConcurrentDFZAdapter, caplog: pytest.LogCaptureFixture
) -> None:
    """Size, categories, augmentation and model of images, and the algorithm of a sort, are used and not left out."""
    image = {"image_size": np.int64(32), "num_categories": np.int64(2), "augmentation": np.bool_(True)}
    sort = {"list_length": np.int64(50), "value_range": [1, 9], "list_type": "almost_sorted"}
    tasks = [
        {"id": "i", "domain": "image_classification", "parameters": {**image, "model_type": np.str_("cnn")}},
        {"id": "s", "domain": "sorting", "parameters": {**sort, "algorithm": np.str_("heapsort")}},
    ]
    with caplog.at_level(logging.WARNING, logger="dfz_ray"):
        results = asyncio.run(adapter.execute_tasks_batch(tasks))["results"]
    assert not caplog.records
    images, sorting = (results[name]["result"]["result"] for name in "is")
    assert images["model_details"]["image_size"] == [1, 32, 32]
    assert images["classes"] == ["0", "1"]
    assert (sorting["algorithm"], sorting["is_sorted"]) == ("heapsort", True)


def test_a_repeated_id_is_told_apart(adapter: ConcurrentDFZAdapter) -> None:
    """Two tasks of one batch with the same id both run, on the same seed; the second is stored as id#2."""
    task = {"id": "twin", "domain": "maze", "parameters": {"size_x": 6, "size_y": 6}}
    results = asyncio.run(adapter.execute_tasks_batch([task, task]))["results"]
    assert list(results) == ["twin", "twin#2"]
    assert results["twin"]["result"]["result"]["path"] == results["twin#2"]["result"]["result"]["path"]


def test_the_event_loop_goes_on_while_a_batch_runs(adapter: ConcurrentDFZAdapter) -> None:
    """Waiting for a batch does not block the event loop: a heartbeat beside it never misses half a second."""

    async def beat(gaps: list[float]) -> None:
        last = time.monotonic()
        while True:
            await asyncio.sleep(0.02)
            gaps.append(time.monotonic() - last)
            last = time.monotonic()

    async def main() -> list[float]:
        gaps: list[float] = []
        heart = asyncio.create_task(beat(gaps))
        tasks = [{"domain": "maze", "parameters": {"size_x": 100, "size_y": 100}} for _ in range(50)]
        await adapter.execute_tasks_batch(tasks)
        heart.cancel()
        return gaps

    gaps = asyncio.run(main())
    assert len(gaps) >= 3
    assert max(gaps) < 0.5


def test_metrics_add_up_over_batches(adapter: ConcurrentDFZAdapter) -> None:
    """The performance metrics count every batch of the adapter."""
    for _ in range(2):
        asyncio.run(adapter.execute_tasks_batch(mixed_tasks()[:2]))
    metrics = adapter.get_performance_metrics()["concurrent"]
    assert metrics["total_tasks"] == metrics["successful_tasks"] == 4
    assert metrics["max_concurrency"] <= 2
    assert len(metrics["task_durations"]) == 4


@pytest.mark.parametrize("config", [{"config_path": "nowhere.yaml"}, {"max_wrkers": 2}])
def test_a_wrong_configuration_is_told(config: dict[str, Any]) -> None:
    """A configuration file that is missing, or a setting that is misspelt, is refused at once."""
    with pytest.raises(InvalidInput):
        ConcurrentDFZAdapter(config=config)
