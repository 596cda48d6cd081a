"""Watches the number of leases of each lane that the cluster can run, as nodes come and go.

A lane is no larger than the cluster, so that leases that can't be placed take no slots. Where a lane has no place at
all, its tasks fail at once, unless an autoscaler may bring a node.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence

from dfz_ray.engine.messages import LaneSized
from dfz_ray.manager.autoscaler_request import Demand
from dfz_ray.manager.nodes import capacity, count_held, find_shares, has_autoscaler, live_nodes, request_of, why_none
from dfz_ray.specs.resources import Resources

logger = logging.getLogger("dfz_ray")

LOOK_S = 5.0
"""Seconds between two looks for nodes that came or went."""
LOOK_WAITING_S = 1.0
"""Seconds between two looks while tasks wait for a node."""
FRESH_S = 0.1
"""Seconds for which a look is not repeated: it takes 1 ms, and the first tasks come soon after a run was opened."""
AUTOSCALER_WAIT_S = 600.0
"""Seconds that tasks wait for a node that the autoscaler may bring, unless the settings say otherwise."""


class NodeWatch:
    """Looks at the nodes of the cluster, and informs the engine.

    `lanes` has the shape of every lane, and grows. `on_held` receives the number of tasks of the smallest shape that
    all nodes hold; `needs` returns the leases that each lane could use. Tasks that no node can hold wait for `wait_s`;
    if it is None, that depends on the autoscaler. What a call on this node holds that waits for the run, it never gets.
    """

    def __init__(
        self,
        lanes: Sequence[Resources],
        handle: Callable[[LaneSized], object],
        on_held: Callable[[float], None],
        needs: Callable[[], Mapping[int, int]],
        wait_s: float | None,
        held: Mapping[str, float],
    ) -> None:
        self._lanes = lanes
        self._handle = handle
        self._on_held = on_held
        self._wait_s, self._held = wait_s, held
        self._seen: set[int] = set()
        self._missing_since: dict[int, float] = {}
        self._demand = Demand(lanes, needs)
        self.notices: dict[int, str] = {}
        """By lane: the node that its tasks wait for."""
        self._nodes: list[dict[str, float]] = []
        self._looked_at = -math.inf
        self._ahead: asyncio.Task[None] | None = None
        self._watcher = asyncio.create_task(self._watch())

    def size(self, numbers: Iterable[int]) -> None:
        """Inform the engine of the number of leases of each of these lanes that the cluster can run at once."""
        now = time.monotonic()
        if now > self._looked_at + FRESH_S:
            self._nodes, self._looked_at = live_nodes(self._held), now
        self._inform(numbers)

    def _inform(self, numbers: Iterable[int]) -> None:
        nodes, now = self._nodes, time.monotonic()
        for number in numbers:
            shape = self._lanes[number]
            request = request_of(shape)
            holds = capacity(request, nodes)
            if holds:
                self._seen.add(number)
                self._missing_since.pop(number, None)
                self.notices.pop(number, None)
                self._handle(LaneSized(number, holds, shares=find_shares(request, nodes)))
                continue
            since = self._missing_since.setdefault(number, now)
            why, wait_s = why_none(shape, nodes, self._held), self._wait()
            waits = number in self._seen or now - since < wait_s
            if waits and number not in self.notices:
                self.notices[number] = f"waits for a node: {why}"
                logger.warning("tasks wait for a node: %s", why)
            if not waits:
                self.notices.pop(number, None)
                why += f"; waited {wait_s:g} s for one" if wait_s else ""
            self._handle(LaneSized(number, 0, "" if waits else why))
        self._on_held(count_held(self._lanes, nodes))
        self._demand.update(sorted(self.notices))

    def close(self) -> None:
        """Stop looking, and withdraw all requests for nodes."""
        self._watcher.cancel()
        self.notices.clear()
        self._demand.withdraw()

    def _wait(self) -> float:
        if self._wait_s is not None:
            return self._wait_s
        return AUTOSCALER_WAIT_S if has_autoscaler() else 0.0

    def look_ahead(self) -> None:
        """Look at the nodes in another thread, for tasks that come soon."""
        self._ahead = asyncio.create_task(self._look_ahead())

    async def _look_ahead(self) -> None:
        with contextlib.suppress(Exception):  # whoever needs the nodes looks again, and meets it
            await self._look()

    async def _look(self) -> None:
        """Look at the nodes in another thread, for a head that is silent would keep this one for long."""
        now = time.monotonic()
        nodes = await asyncio.to_thread(live_nodes, self._held)
        if now > self._looked_at:  # else `size` has looked since
            self._nodes, self._looked_at = nodes, now

    async def _watch(self) -> None:
        idle_s = 0.0
        while True:
            await asyncio.sleep(LOOK_WAITING_S)
            idle_s += LOOK_WAITING_S
            if not self.notices and idle_s < LOOK_S:
                continue
            idle_s = 0.0
            try:
                await self._look()
                self._inform(range(len(self._lanes)))
            except Exception:
                logger.warning("the nodes of the cluster can't be seen; looking again", exc_info=True)
