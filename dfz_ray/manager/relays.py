"""The relays of a manager, for all its runs: one on each node with many leases, one for some nodes with few.

So also a cluster of many small nodes costs the manager few calls. Fewer leases than one relay is for talk to the
manager directly: there are few of them on a laptop, or on a cluster of a few small nodes.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter
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
"""Leases use their relay until so small a share of those is left for which it was started."""
NODES_TOGETHER = 8
"""So many nodes share a relay, those of them that have too few leases for one of their own. At 200 reports a second it
takes half a core (benchmarks/RESULTS.md).
"""


class _Area:
    """The nodes that a relay is for: one with many leases, or several with few."""

    def __init__(self, nodes: list[str]) -> None:
        self.nodes = nodes
        self.crowded: set[int] = set()
        """Each `least` that the number of leases reached and did not fall far below since."""
        self.relay: Any = None
        """It answers; None: there is none, or it was lost."""
        self.keeper: asyncio.Task[None] | None = None
        """Starts a relay, and looks after it; None: nobody has asked for one, or it is lost."""


class Relays:
    """Starts relays, and replaces those that die or fall silent. They call the manager, and die with it."""

    def __init__(self, manager: Any) -> None:
        self._manager = manager
        self._leases: Counter[str] = Counter()
        """The number of placed leases by node, of all runs."""
        self._own: dict[str, _Area] = {}
        """By node: the area that is this node alone."""
        self._shared: dict[str, _Area] = {}
        """By node with leases: the area that it shares with others."""
        self._areas: list[_Area] = []
        """All shared ones. Nodes come and go, and an area without any keeps its relay for others."""

    def add_lease(self, node_id: str) -> None:
        """A lease was placed on a node."""
        self._leases[node_id] += 1
        if node_id not in self._own:
            self._own[node_id] = _Area([node_id])
        if node_id not in self._shared:
            area = next((area for area in self._areas if len(area.nodes) < NODES_TOGETHER), None)
            if area is None:
                area = _Area([])
                self._areas.append(area)
            area.nodes.append(node_id)
            self._shared[node_id] = area

    def remove_lease(self, node_id: str) -> None:
        """A lease of a node is over."""
        self._leases[node_id] -= 1
        for area in (self._own[node_id], self._shared[node_id]):
            area.crowded -= {least for least in area.crowded if self._count(area, least) < KEPT_SHARE * least}
        if not self._leases[node_id]:
            self._shared.pop(node_id).nodes.remove(node_id)

    def find(self, node_id: str, least: int | None) -> Any:
        """The relay for the leases of a node in a run that uses one from `least` leases on; None if there is none.

        `least` is None for a run that uses none anywhere. A node with so many leases has its own; others that have so
        many together share one. A few leases less do not end its use: else, while their number sways around the limit,
        some leases of a run would use it and others not.
        """
        if least is None or node_id not in self._shared:
            return None
        area = self._own[node_id]
        if not self._is_crowded(area, least):
            area = self._shared[node_id]
            if not self._is_crowded(area, least):
                return None
        if area.keeper is None:
            area.keeper = asyncio.create_task(self._keep(area, least))
        return area.relay

    def _is_crowded(self, area: _Area, least: int) -> bool:
        if least not in area.crowded and self._count(area, least) >= least:
            area.crowded.add(least)
        return least in area.crowded

    def _count(self, area: _Area, least: int) -> int:
        """The leases that a relay of this area would serve: nodes with their own relay need no shared one."""
        if area.nodes and area is self._own[area.nodes[0]]:
            return self._leases[area.nodes[0]]
        return sum(self._leases[node] for node in area.nodes if least not in self._own[node].crowded)

    async def _keep(self, area: _Area, least: int) -> None:
        """Start a relay, and look after it until it is lost; then another one may be started after a while."""
        relay: Any = None
        try:
            if area in self._areas:  # while leases are being placed, every node has few at first
                await asyncio.sleep(LOOK_S)
                if self._count(area, least) < least:
                    area.crowded.clear()
                    area.keeper = None
                    return
            node_id = max(area.nodes, key=self._leases.__getitem__)
            there = NodeAffinitySchedulingStrategy(node_id, soft=False)
            actor = ray.remote(num_cpus=0, max_restarts=0, max_concurrency=100_000)(Relay)
            options: dict[str, Any] = {"scheduling_strategy": there, "enable_task_events": False}
            relay = actor.options(**options).remote(self._manager)
            await asyncio.wait_for(relay.identify.remote(), START_S)
            area.relay = relay
            while True:
                await asyncio.sleep(LOOK_S)
                await asyncio.wait_for(relay.identify.remote(), SILENT_S)
        except Exception as error:
            why = "it does not answer" if isinstance(error, TimeoutError) else str(error).partition("\n")[0]
            logger.warning("a relay is lost: %s", why)
        area.relay = None
        with contextlib.suppress(Exception):
            ray.kill(relay)
        await asyncio.sleep(AGAIN_S)
        area.keeper = None
