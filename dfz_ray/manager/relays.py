"""The relays of a manager: one on each node with many leases, for all its runs."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter, defaultdict
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from dfz_ray.worker.relay import Relay

logger = logging.getLogger("dfz_ray")

START_S = 60.0
"""A relay that does not answer for so long after its start is ended, and replaced."""
AGAIN_S = 5.0
"""Seconds after which a relay that was lost is replaced."""
LOOK_S = 2.0
"""Seconds between two looks whether a relay is there."""
SILENT_S = 10.0
"""A relay that does not answer for so long is ended, and replaced: it may be frozen."""
KEPT_SHARE = 0.5
"""Leases use the relay of their node until so small a share of those is left for which it was started."""


class Relays:
    """Starts relays, and replaces those that die or fall silent. They call the manager, and die with it."""

    def __init__(self, manager: Any) -> None:
        self._manager = manager
        self._ready: dict[str, Any] = {}
        """The relays that answer, by node."""
        self._keepers: dict[str, asyncio.Task[None]] = {}
        self._leases: Counter[str] = Counter()
        """The number of placed leases by node, of all runs."""
        self._crowded: defaultdict[str, set[int]] = defaultdict(set)
        """By node, each `least` that it reached and did not fall far below since."""

    def add_lease(self, node_id: str) -> None:
        """A lease was placed on a node."""
        self._leases[node_id] += 1

    def remove_lease(self, node_id: str) -> None:
        """A lease of a node is over."""
        self._leases[node_id] -= 1
        crowded = self._crowded[node_id]
        crowded -= {least for least in crowded if self._leases[node_id] < KEPT_SHARE * least}

    def find(self, node_id: str, least: int | None) -> Any:
        """The relay of a node for a run that uses one from `least` leases on, None: nowhere; None if there is none.

        A node with so many leases gets one. A few leases less do not end its use: else, while their number sways around
        the limit, some leases of a run would use it and others not.
        """
        if least is None:
            return None
        crowded = self._crowded[node_id]
        if self._leases[node_id] >= least:
            crowded.add(least)
        if least not in crowded:
            return None
        if node_id not in self._keepers:
            self._keepers[node_id] = asyncio.create_task(self._keep(node_id))
        return self._ready.get(node_id)

    async def _keep(self, node_id: str) -> None:
        """Start a relay, and look after it until it is lost; then another one may be started after a while."""
        relay: Any = None
        try:
            there = NodeAffinitySchedulingStrategy(node_id, soft=False)
            actor = ray.remote(num_cpus=0, max_restarts=0, max_concurrency=100_000)(Relay)
            options: dict[str, Any] = {"scheduling_strategy": there, "enable_task_events": False}
            relay = actor.options(**options).remote(self._manager)
            await asyncio.wait_for(relay.identify.remote(), START_S)
            self._ready[node_id] = relay
            while True:
                await asyncio.sleep(LOOK_S)
                await asyncio.wait_for(relay.identify.remote(), SILENT_S)
        except Exception as error:
            why = "it does not answer" if isinstance(error, TimeoutError) else str(error).partition("\n")[0]
            logger.warning("the relay of a node is lost: %s", why)
        self._ready.pop(node_id, None)
        with contextlib.suppress(Exception):
            ray.kill(relay)
        await asyncio.sleep(AGAIN_S)
        del self._keepers[node_id]
