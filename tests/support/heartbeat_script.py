"""A program that does everything an adapter can do, beside a heartbeat; it prints the longest gap of each part."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Awaitable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from dfz_ray import ConcurrentDFZAdapter
from support.heart import Heart


async def listen(part: str, work: Awaitable[Any]) -> Any:
    async with Heart() as heart:
        result = await work
    print(part, heart.longest_s, heart.beside_s, heart.beats, flush=True)
    return result


async def block() -> None:
    time.sleep(1.5)


async def submit_one(adapter: ConcurrentDFZAdapter, task: dict[str, Any]) -> Any:
    return await (await adapter.execute_task_concurrent(task))


async def main() -> None:
    await listen("blocked", block())
    adapter = ConcurrentDFZAdapter(config={"config_path": None}, max_workers=2)
    tasks = [
        {"id": f"m{n}", "domain": "maze", "parameters": {"size_x": 40, "size_y": 40, "complexity": 0.5}}
        for n in range(300)
    ]
    circuit = {"id": "q", "domain": "quantum", "parameters": {"algorithm": "vqe", "num_qubits": 4}}
    images = {"id": "i", "domain": "image_classification", "parameters": {"epochs": 1}}
    await listen("initialize", adapter.initialize())
    await listen("batch", adapter.execute_tasks_batch([*tasks, circuit, images]))
    await listen("timeout", adapter.execute_tasks_batch(tasks, timeout=0.2))
    await listen("background", adapter.execute_tasks_batch(tasks, wait=False))
    await listen("concurrent", submit_one(adapter, circuit))
    for task in (tasks[0], circuit, images):
        await listen(f"foreground_{task['id']}", adapter.execute_task(task))
    await listen("generate", adapter.generate_tasks("quantum", 200))
    await listen("shutdown", adapter.shutdown())


asyncio.run(main())
