"""Watches whether others wait in the cluster for places, while leases hold some that they may give up.

Ray knows of every request that it has not placed. Those of the run itself do not count, nor do requests that no node
can ever hold. What is wanted in two looks, one after the other, is wanted: Ray's news are up to a second old.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from dfz_ray.engine.messages import PlacesWanted
from dfz_ray.manager.nodes import capacity, live_nodes, request_of
from dfz_ray.specs.resources import Resources

logger = logging.getLogger("dfz_ray")

LOOK_S = 0.5
"""Seconds between two looks."""
LOOKS_SHARE = 0.02
"""Looks take no larger share of a core: on a large cluster each takes a while. A wait for Ray's answer does not count:
on a busy machine a single look can take some 0.2 s, and cost a millisecond.
"""
Request = frozenset[tuple[str, float]]
"""Resources by the names that Ray uses, and their amounts."""


class PlaceWatch:
    """Looks for requests of others while leases of an engine may give up their places, and informs it.

    `may_make_room` says whether they may, given the time; `lanes` has the shape of every lane, and grows;
    `count_unplaced` counts by lane the leases whose requests Ray has.
    """

    def __init__(
        self,
        may_make_room: Callable[[float], bool],
        lanes: Sequence[Resources],
        count_unplaced: Callable[[], Mapping[int, int]],
        handle: Callable[[PlacesWanted], object],
    ) -> None:
        self._may_make_room, self._count_unplaced = may_make_room, count_unplaced
        self._lanes, self._handle = lanes, handle
        self._before: Counter[Request] = Counter()
        """The requests of others at the last look."""
        self._reported = 0
        self._watcher = asyncio.create_task(self._watch())

    def close(self) -> None:
        """Look no more."""
        self._watcher.cancel()

    async def _watch(self) -> None:
        pause_s = LOOK_S
        while True:
            await asyncio.sleep(pause_s)
            if not self._may_make_room(time.monotonic()):
                self._before.clear()
                if self._reported:  # there is nothing left to give: a lease that lingers later is not wanted yet
                    self._reported = 0
                    self._handle(PlacesWanted(0))
                continue
            own = Counter(self._count_unplaced())
            try:
                wanted, cpu_s = await asyncio.to_thread(_look)
            except Exception:  # Ray's interface for its autoscaler may change, and a head may be lost
                logger.debug("requests of others can't be seen", exc_info=True)
                continue
            pause_s = max(LOOK_S, cpu_s / LOOKS_SHARE)
            # Ray may have placed some of its own meanwhile, and has counted them all the same.
            self._report(wanted, own | Counter(self._count_unplaced()))

    def _report(self, wanted: Counter[Request], own: Mapping[int, int]) -> None:
        for lane, leases in own.items():
            wanted[_key(request_of(self._lanes[lane]))] -= leases
        others = +wanted
        places = sum(count * _count_places(request) for request, count in (others & self._before).items())
        self._before = others
        if places or self._reported:
            self._reported = places
            self._handle(PlacesWanted(places))


def _look() -> tuple[Counter[Request], float]:
    """The requests that `read_requests` finds, and the CPU seconds that finding them took."""
    begun = time.thread_time()
    return read_requests(), time.thread_time() - begun


def read_requests() -> Counter[Request]:
    """The requests that Ray has not placed, with their counts, but for those that no node could ever hold."""
    from ray._private.worker import global_worker
    from ray.autoscaler.v2.sdk import get_cluster_resource_state

    state = get_cluster_resource_state(global_worker.gcs_client)
    found: Counter[Request] = Counter()
    for one in state.pending_resource_requests:
        bundle = dict(one.request.resources_bundle)
        found[_key(bundle)] += one.count
    for gang in state.pending_gang_resource_requests:
        for one in gang.requests:
            found[_key(dict(one.resources_bundle))] += 1
    if not found:
        return found
    nodes = live_nodes()
    return Counter({request: count for request, count in found.items() if capacity(dict(request), nodes)})


def _count_places(request: Request) -> int:
    """The leases that have to end for a request, if each has one CPU."""
    return max(1, math.ceil(dict(request).get("CPU", 0.0)))


def _key(bundle: dict[str, float]) -> Request:
    return frozenset((name, amount) for name, amount in bundle.items() if amount > 0)
