"""Tasks for adapters, and their domains. The workers need not have this module."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from dfz_ray import ConcurrentDFZAdapter, domain
from dfz_ray.driver.domain_shipping import ship_by_value

ship_by_value(sys.modules[__name__])


@domain("held_while_file_exists")
def hold(path: str, most_s: float = 60.0) -> dict[str, Any]:
    until = time.monotonic() + most_s
    while Path(path).exists() and time.monotonic() < until:
        time.sleep(0.01)
    return {"held": path}


@domain("tagged")
def tag(value: int, busy_s: float = 0.0) -> dict[str, Any]:
    until = time.monotonic() + busy_s
    while time.monotonic() < until:
        pass
    return {"value": value, "pid": os.getpid()}


@domain("fails_at_first")
def fail_at_first(path: str) -> dict[str, Any]:
    if Path(path).exists():
        Path(path).unlink()
        raise RuntimeError("not yet")
    return {}


def held_task(door: Path, task_id: str = "held") -> dict[str, Any]:
    return {"id": task_id, "domain": "held_while_file_exists", "parameters": {"path": str(door)}}


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


async def status_becomes(adapter: ConcurrentDFZAdapter, task_id: str, status: str) -> dict[str, Any]:
    until = time.monotonic() + 60
    while (record := adapter.get_task_status(task_id))["status"] != status:
        assert time.monotonic() < until, record
        await asyncio.sleep(0.01)
    return record
