# ruff: noqa
"""The same tasks one by one, and then as batches of adapters with other numbers of workers; with a plot."""

import asyncio
import os
import sys
import time

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

from dfz_ray import ConcurrentDFZAdapter


def generate_tasks(count):
    return [
        {
            "id": f"maze_{i}",
            "domain": "maze",
            "description": f"Maze {i}",
            "parameters": {
                "size_x": np.random.randint(10, 21),
                "size_y": np.random.randint(10, 21),
                "complexity": np.random.uniform(0.1, 0.9),
                "visual_patterns": bool(np.random.choice([True, False])),
            },
        }
        for i in range(count)
    ]


async def run_sequential(adapter, tasks):
    start = time.time()
    results = []
    for task in tasks:
        result = await adapter.execute_task(task)
        result["mode"] = "sequential"
        results.append(result)
    return results, time.time() - start


async def run_concurrent(tasks, workers):
    adapter = ConcurrentDFZAdapter(config={"config_path": None}, max_workers=workers)
    await adapter.initialize()
    start = time.time()
    batch = await adapter.execute_tasks_batch(tasks, wait=True)
    duration = time.time() - start
    results = []
    for task_id, record in batch["results"].items():
        record.update(record["result"])
        record["mode"] = f"concurrent_{workers}"
        results.append(record)
    return results, duration  # without a shutdown


async def main(output):
    tasks = generate_tasks(20)
    adapter = ConcurrentDFZAdapter(config={"config_path": None}, max_workers=1)
    await adapter.initialize()
    sequential, base = await run_sequential(adapter, tasks)
    scores = {result["task_id"]: result["result"]["main_score"] for result in sequential}
    workers, speedups = [1, 2, 4], []
    for count in workers:
        results, duration = await run_concurrent(tasks, count)
        success = sum(1 for result in results if result["status"] == "success")
        same = {result["task_id"]: result["result"]["main_score"] for result in results} == scores
        speedups.append(base / duration)
        print(f"{count} workers: {success} of {len(tasks)}, same scores: {same}")

    plt.figure(figsize=(8, 5))
    plt.plot(workers, speedups, marker="o")
    plt.xlabel("Workers")
    plt.ylabel("Speedup")
    plt.savefig(os.path.join(output, "speedup.png"))
    print("plotted", os.path.getsize(os.path.join(output, "speedup.png")) > 1000)


asyncio.run(main(sys.argv[1]))
