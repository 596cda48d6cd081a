"""Control of a worker's process on its node: interrupt it, kill it, read its crash report."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil
import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from dfz_ray.protocol.reports import Place
from dfz_ray.worker.crash_marker import CrashMarker, CrashReport
from dfz_ray.worker.deadlines import LOOK
from dfz_ray.worker.process_start import read_start

REMOTE_S = 60.0
"""Seconds that a node may take to answer."""


async def interrupt(place: Place, numbers: Sequence[int]) -> float:
    """Ask a worker to end these tasks; returns `read_waited` of that moment."""
    return await _on_node(place, _send, LOOK, tuple(numbers)) or 0.0


async def read_waited(place: Place) -> float:
    """The seconds for which a worker has waited for a processor so far; 0 if that can't be known."""
    return await _on_node(place, _read_waited) or 0.0


async def read_executing(place: Place) -> Sequence[int]:
    """The tasks that a worker executes; empty if it executes none, or that can't be known."""
    return await _on_node(place, _read_executing) or ()


async def kill(place: Place) -> None:
    """Kill a worker's process, even if it is stopped."""
    await _on_node(place, _send, signal.SIGKILL)


async def kill_at(ip: str, process: int) -> None:
    """Kill a worker's process on the node of that address."""
    nodes = [node["NodeID"] for node in ray.nodes() if node["Alive"] and node["NodeManagerAddress"] == ip]
    if nodes:
        await _on_node(Place(ip, nodes[0], process, 0.0, ""), _kill_ray_worker)


async def read_crash_report(place: Place, grace_s: float) -> CrashReport | None:
    """The crash report of a dead worker, whose tasks had so long to end; None if its node can't be reached."""
    crash_report: CrashReport | None = await _on_node(place, _read_crash_report, grace_s)
    return crash_report


async def _on_node(place: Place, function: Any, *arguments: Any) -> Any:
    """Call a function with a worker's place, on its node; None if the node can't be reached."""
    if place.node_id == ray.get_runtime_context().get_node_id():
        return function(place, *arguments)
    there = NodeAffinitySchedulingStrategy(place.node_id, soft=False)
    options = {"num_cpus": 0, "max_retries": 0, "name": "dfz control a worker"}
    call = ray.remote(function).options(scheduling_strategy=there, **options).remote(place, *arguments)
    with contextlib.suppress(RayError, TimeoutError):
        return await asyncio.wait_for(call, REMOTE_S)
    return None


def _send(place: Place, number: int, revoked: Sequence[int] = ()) -> float:
    """Send a signal to a worker, if it lives; before that, write down the tasks that it has to end."""
    if _is_alive(place):
        with contextlib.suppress(OSError):
            if revoked:
                CrashMarker(place.marker).revoke(revoked)
            os.kill(place.process, number)
    return _read_waited(place)


def _read_waited(place: Place) -> float:
    """The wait of the main thread, by the scheduler's statistics of Linux."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        return int(Path(f"/proc/{place.process}/schedstat").read_text().split()[1]) / 1e9
    return 0.0


def _read_executing(place: Place) -> tuple[int, ...]:
    return CrashMarker(place.marker).read_executing()


def _read_crash_report(place: Place, grace_s: float) -> CrashReport:
    return CrashMarker(place.marker).read_crash_report(grace_s)


def _kill_ray_worker(place: Place) -> None:
    with contextlib.suppress(psutil.Error):
        process = psutil.Process(place.process)
        if process.cmdline()[:1] and process.cmdline()[0].startswith("ray::"):  # else another one has got its number
            process.kill()


def _is_alive(place: Place) -> bool:
    """True if the worker's process lives: another process may have got its number."""
    try:
        return read_start(place.process) == place.start
    except psutil.NoSuchProcess:
        return False
