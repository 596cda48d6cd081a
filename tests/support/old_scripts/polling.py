# ruff: noqa
"""A batch that goes on in the background, while its status is asked for."""

import asyncio
import time

from dfz_ray import ConcurrentDFZAdapter


async def main():
    adapter = ConcurrentDFZAdapter(config={"config_path": None}, max_workers=2)
    await adapter.initialize()
    tasks = [
        {
            "id": f"task_{i}",
            "domain": "maze",
            "description": f"Task {i}",
            "parameters": {"size_x": 20, "size_y": 20, "complexity": 0.5},
        }
        for i in range(10)
    ]
    for attempt in range(2):  # the same ids again
        started = time.time()
        batch = await adapter.execute_tasks_batch(tasks, wait=False)
        assert "results" not in batch
        pending = set(batch["futures"])
        completed = {}
        while pending and time.time() - started < 60:
            for task_id, record in adapter.collect_completed_tasks().items():
                completed[task_id] = record
                pending.discard(task_id)
            for task_id in pending:
                status = adapter.get_task_status(task_id)["status"]
                assert status in ("pending", "running", "completed"), status
            await asyncio.sleep(0.05)
        fresh = all(record["start_time"] > started - 1 for record in completed.values())
        print(attempt, len(completed), len(pending), fresh, {record["status"] for record in completed.values()})
    await adapter.shutdown()


asyncio.run(main())
