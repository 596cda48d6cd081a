"""The relays of a manager: one on each node with many leases, for all its runs."""

from __future__ import annotations

import asyncio
import logging
import uuid
from typing import Any

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from dfz_ray.worker.relay import Relay

logger = logging.getLogger("dfz_ray")

AGAIN_S = 5.0
"""Seconds after which a relay that was lost is replaced."""


class Relays:
    """Starts relays, and replaces those that die. They die with the manager."""

    def __init__(self) -> None:
        self._ready: dict[str, Any] = {}
        """The relays that answer, by node."""
        self._keepers: dict[str, asyncio.Task[None]] = {}

    def find(self, node_id: str, leases: int, least: int | None) -> Any:
        """The relay of a node; None if there is none. A node with `least` leases gets one."""
        if least is not None and leases >= least and node_id not in self._keepers:
            self._keepers[node_id] = asyncio.create_task(self._keep(node_id))
        return self._ready.get(node_id)

    async def _keep(self, node_id: str) -> None:
        """Start a relay, and wait until it is lost; then another one may be started after a while."""
        there = NodeAffinitySchedulingStrategy(node_id, soft=False)
        actor = ray.remote(num_cpus=0, max_restarts=0, max_concurrency=100_000)(Relay)
        options: dict[str, Any] = {"scheduling_strategy": there, "enable_task_events": False}
        options["name"] = f"dfz relay {uuid.uuid4().hex[:8]}"  # for the dashboard
        relay = actor.options(**options).remote(ray.get_runtime_context().current_actor)
        try:
            await relay.identify.remote()
            self._ready[node_id] = relay
            await relay.outlive.remote()
        except RayError as error:
            logger.warning("the relay of a node is lost: %s", str(error).splitlines()[0])
        self._ready.pop(node_id, None)
        await asyncio.sleep(AGAIN_S)
        del self._keepers[node_id]
