# ruff: noqa
"""One task, in the foreground and then as a future."""

import asyncio

import numpy as np

from dfz_ray import ConcurrentDFZAdapter


async def main():
    adapter = ConcurrentDFZAdapter(config={"config_path": None}, max_workers=2)
    await adapter.initialize()
    task = {
        "id": "one",
        "domain": "quantum",
        "description": "A single task",
        "parameters": {
            "algorithm": np.random.choice(["vqe", "grover", "qft"]),
            "num_qubits": np.random.randint(3, 5),
            "noise_level": np.random.uniform(0.0, 0.05),
            "circuit_depth": np.random.randint(1, 3),
        },
    }
    result = await adapter.execute_task(task)
    result["execution_mode"] = "sequential"
    score = result["result"]["main_score"]
    print("foreground", result["status"], 0 <= score <= 1, result["duration"] > 0)

    future = await adapter.execute_task_concurrent(task)
    while not future.done():
        status = adapter.get_task_status("one")
        assert status["status"] in ("pending", "running", "completed"), status
        if status["status"] == "running":
            assert status["elapsed"] >= 0
        await asyncio.sleep(0.05)
    result = future.result()
    print("future", result["status"], result["result"]["main_score"] == score)
    print("unknown", adapter.get_task_status("another")["status"])
    await adapter.shutdown()


asyncio.run(main())
