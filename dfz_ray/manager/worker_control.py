"""Reaching the process of a worker on its node: to interrupt it, to kill it, to see what it has left."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Sequence
from typing import Any

import psutil
import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from dfz_ray.protocol.reports import Place
from dfz_ray.worker.crash_marker import CrashMarker, CrashReport
from dfz_ray.worker.deadlines import LOOK

REMOTE_S = 10.0
"""How long a node may take to answer, in seconds."""


async def interrupt(place: Place, numbers: Sequence[int]) -> None:
    """Ask a worker to let go of tasks."""
    await _on_node(place, _interrupt, place, tuple(numbers))


async def kill(place: Place) -> None:
    """Kill a worker's process, whatever it does, or whatever stops it."""
    await _on_node(place, _kill, place)


async def read_remains(place: Place, grace_s: float) -> CrashReport | None:
    """What a dead worker has left, whose tasks had so long to let go; None where its node can't be reached."""
    remains: CrashReport | None = await _on_node(place, _read_remains, place, grace_s)
    return remains


async def _on_node(place: Place, function: Any, *arguments: Any) -> Any:
    """Call a function on the node of a worker; None where that can't be reached."""
    if place.node_id == ray.get_runtime_context().get_node_id():
        return function(*arguments)
    there = NodeAffinitySchedulingStrategy(place.node_id, soft=False)
    options = {"num_cpus": 0, "max_retries": 0, "name": "reach a worker"}
    call = ray.remote(function).options(scheduling_strategy=there, **options).remote(*arguments)
    with contextlib.suppress(RayError, TimeoutError):
        return await asyncio.wait_for(call, REMOTE_S)
    return None


def _interrupt(place: Place, numbers: Sequence[int]) -> None:
    if _find(place) is not None:
        with contextlib.suppress(OSError):
            CrashMarker(place.marker).revoke(numbers)
            os.kill(place.process, LOOK)


def _kill(place: Place) -> None:
    if _find(place) is not None:
        with contextlib.suppress(OSError):
            os.kill(place.process, signal.SIGKILL)


def _read_remains(place: Place, grace_s: float) -> CrashReport:
    return CrashMarker(place.marker).read_remains(grace_s)


def _find(place: Place) -> psutil.Process | None:
    """The worker's process, if it lives: another one may have its number."""
    with contextlib.suppress(psutil.NoSuchProcess):
        process = psutil.Process(place.process)
        return process if abs(process.create_time() - place.started_at) < 1 else None
    return None
