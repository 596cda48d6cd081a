# ruff: noqa
"""Functions of the script's own, handed to the task manager; and the plugin's method as a task function."""

import logging
import os
import time

import numpy as np

from dfz_ray import ConcurrentTaskManager, create_concurrent_dfz_plugin

logging.basicConfig(level=logging.WARNING)
SCALE = 10


def process_task(task, context=None):
    """A task function of an older script."""
    if task["value"] == 3:
        raise ValueError(f"{task['id']} is not wanted")
    time.sleep(0.01)
    return {"status": "success", "result": {"value": task["value"] * SCALE + context["offset"]}, "pid": os.getpid()}


plugin = create_concurrent_dfz_plugin(max_workers=2)
manager = ConcurrentTaskManager(max_workers=2, use_processes=True)
futures = [
    manager.submit_task(process_task, {"id": f"t{i}", "value": np.int64(i)}, {"offset": np.random.randint(1, 2)})
    for i in range(5)
]
manager.wait_all(timeout=60)
completed = manager.collect_completed_tasks()
for task_id, record in completed.items():
    if record["status"] == "completed":
        assert record["result"]["pid"] != os.getpid()
        print(task_id, record["result"]["result"]["value"], record["result"]["duration"] >= 0.01)
    else:
        print(task_id, record["status"], record["error"])
try:
    futures[3].result()
except ValueError as error:
    print("raised", error)

maze = {"id": "maze", "domain": "maze", "description": "", "parameters": {"size_x": 8, "size_y": 8}}
there = manager.submit_task(plugin.execute_task, maze, {}).result()
here = plugin.execute_task(maze)
print("plugin", there["status"], there["result"]["path"] == here["result"]["path"])
metrics = manager.get_metrics()
print(metrics["total_tasks"], f"{metrics['success_rate']:.2f}")
manager.shutdown()
