"""Room for leases in the cluster, as far as its resources are known: which lanes lack it, and for which it is kept."""

from __future__ import annotations

import math
from collections import defaultdict

from dfz_ray.engine.queue import Lane, Queue

KEPT_S = 60.0
"""Seconds for which room is kept for a lease. If Ray has not placed it there by then, it never may."""
ROUNDING = 1e-9


class Room:
    """The shares of the cluster's resources that leases take: at first those that Ray has placed."""

    def __init__(self, lanes: list[Lane]) -> None:
        self._used: defaultdict[str, float] = defaultdict(float)
        for lane in lanes:
            self.add(lane, lane.leases - lane.starting)

    def add(self, lane: Lane, leases: int) -> None:
        """Count so many more leases of a lane."""
        for name, share in lane.shares.items() if leases else ():
            self._used[name] += leases * share

    def find_lacking(self, lane: Lane) -> dict[str, float]:
        """The shares that are too few for one more lease of a lane."""
        lacking = {name: self._used[name] + share - 1 for name, share in lane.shares.items()}
        return {name: share for name, share in lacking.items() if share > ROUNDING}


def keep_room(queue: Queue, now: float) -> float:
    """Find the priority below which no lease starts, so that Ray can place one of that priority; -inf if there is none.

    Otherwise a lease that needs the places of several others would wait for ever: each that becomes free would be used.
    """
    room, kept_for = Room(queue.lanes), -math.inf
    for lane in queue.lanes:
        if not lane.starting and lane.room_since is None:
            continue
        kind = queue.find_due(lane)
        is_coming = lane.starting or (lane.room_since == math.inf and lane.number not in queue.paused)
        if kind is None or not is_coming:
            lane.forget_room()
            continue
        if lane.starting and room.find_lacking(lane):
            lane.room_since = math.inf
        elif lane.starting and lane.room_since is not None:  # else its places still have to become free
            lane.room_since = min(lane.room_since, now)
            lane.is_given_up = lane.is_given_up or now - lane.room_since >= KEPT_S
        if lane.room_since is not None and not lane.is_given_up:
            kept_for = max(kept_for, kind.policy.priority)
    return kept_for
