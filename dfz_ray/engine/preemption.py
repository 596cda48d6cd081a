"""Preemption: some leases are killed for tasks of a higher priority that have waited for too long."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from dfz_ray.engine.lease import Lease
from dfz_ray.engine.queue import Kind, Queue

GRANT_S = 60.0
"""Seconds after which a slot that was taken from others for a kind counts as used by yet another kind."""


def find_victims(
    queue: Queue, leases: Mapping[int, Lease], lowest: float, after_s: float, now: float, width: int = 1
) -> list[int]:
    """Find the leases that are killed for tasks of a higher priority which have waited for `after_s` or longer.

    `lowest` is the lowest priority of the chunks that leases hold, `width` the number of slots that a lease has.
    """
    firsts = (queue.find_first(lane) for lane in queue.lanes if lane.capacity)
    late = [kind for kind in firsts if kind is not None and now - kind.waiting_since >= after_s]
    for kind in late:
        kind.granted = [since for since in kind.granted if now - since < GRANT_S]
    late = [kind for kind in late if kind.policy.priority > lowest]
    if not late:
        return []
    # The share of the cluster that placed leases take; if it is all, lanes wait for one another.
    share = sum((lane.leases - lane.starting) / lane.capacity for lane in queue.lanes if lane.capacity)
    candidates = [
        (priority, -begun_at, lease_id, lease.lane)
        for lease_id, lease in leases.items()
        if not lease.killed
        for priority, begun_at in _preemptible(lease)
    ]
    victims: list[int] = []
    for kind in sorted(late, key=lambda kind: -kind.policy.priority):
        lane = queue.lanes[kind.lane]
        is_crowded = bool(lane.capacity) and share + 1 / lane.capacity > 1
        coming = len(kind.granted) + (0 if is_crowded else lane.starting)
        needed = math.ceil(_slots_needed(kind, after_s) / width) - coming
        if needed <= 0:
            continue
        found = sorted(
            (other != kind.lane, priority, since, lease_id)
            for priority, since, lease_id, other in candidates
            if priority < kind.policy.priority and lease_id not in victims
        )
        own = sum(not is_other for is_other, *_ in found)
        room = lane.capacity - lane.leases + lane.starting - coming  # for leases in the place of other lanes' ones
        wanted = min(needed, own + max(0.0, room))
        chosen = [lease_id for *_, lease_id in found[: int(wanted)]]
        kind.granted.extend(now for _ in chosen)
        victims.extend(chosen)
    return victims


def _slots_needed(kind: Kind, after_s: float) -> int:
    """The number of slots that keep the waiting tasks of a kind from waiting for as long once more."""
    if not kind.times.known:
        return 1
    return min(kind.waiting.count, math.ceil(kind.waiting.count * kind.times.mean_s / max(after_s, 1e-9)))


def _preemptible(lease: Lease) -> Iterable[tuple[int, float]]:
    """The highest priority that a lease executes and the latest begin, if all of its tasks may be preempted."""
    begun = list(lease.begun())
    if begun and all(held.taken.is_preemptible for held in begun):
        yield max(held.taken.priority for held in begun), max(held.begun_at or 0.0 for held in begun)
