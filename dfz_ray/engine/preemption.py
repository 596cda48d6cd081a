"""Preemption: some leases are killed for tasks of a higher priority that have waited for too long."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from dfz_ray.engine.lease import Lease
from dfz_ray.engine.queue import Kind, Lane, Queue
from dfz_ray.engine.room import ROUNDING, Room

GRANT_S = 60.0
"""Seconds after which a slot that was taken from others for a kind counts as used by yet another kind."""


class _Candidate(NamedTuple):
    """A lease that may be killed; the first ones have the lowest priority, and the least to lose."""

    priority: int
    since: float
    """Minus the time at which its task began."""
    lease: int
    lane: Lane
    node: str


def find_victims(
    queue: Queue, leases: Mapping[int, Lease], lowest: float, after_s: float, now: float, width: int = 1
) -> list[int]:
    """Find the leases that are killed for tasks of a higher priority which have waited for `after_s` or longer.

    `lowest` is the lowest priority of the chunks that leases hold, `width` the number of slots that a lease has.
    """
    firsts = (queue.find_first(lane) for lane in queue.lanes if lane.capacity and lane.number not in queue.paused)
    late = [kind for kind in firsts if kind is not None and now - kind.waiting_since >= after_s]
    for kind in late:
        kind.granted = [since for since in kind.granted if now - since < GRANT_S]
    late = [kind for kind in late if kind.policy.priority > lowest]
    if not late:
        return []
    room, nodes = Room(queue.lanes), {lease.node for lease in leases.values() if lease.asked_at is not None}
    for lease in leases.values():
        if lease.killed and lease.asked_at is not None:
            room.add(queue.lanes[lease.lane], -1)
    is_crowded = {kind.number: bool(room.find_lacking(queue.lanes[kind.lane])) for kind in late}
    for kind in late:
        room.add(queue.lanes[kind.lane], len(kind.granted))
    candidates = [
        _Candidate(priority, -begun_at, lease_id, queue.lanes[lease.lane], lease.node)
        for lease_id, lease in leases.items()
        if not lease.killed
        for priority, begun_at in _preemptible(lease)
    ]
    victims: list[int] = []
    for kind in sorted(late, key=lambda kind: -kind.policy.priority):
        lane = queue.lanes[kind.lane]
        coming = len(kind.granted) + (0 if is_crowded[kind.number] else lane.starting)
        needed = math.ceil(_slots_needed(kind, after_s) / width) - coming
        if needed <= 0:
            continue
        found = sorted(one for one in candidates if one.priority < kind.policy.priority and one.lease not in victims)
        places = lane.capacity - lane.leases + lane.starting - coming  # for leases in the place of other lanes' ones
        for _ in range(needed):
            chosen = [one for one in found if one.lane is lane][:1]
            if not chosen and places >= 1 and not lane.is_given_up:
                places -= 1
                chosen = _find_cheapest(lane, found, room, len(nodes) <= 1)
                lane.room_since = math.inf if chosen else lane.room_since  # from now on, as they die one by one
            if not chosen:
                break
            kind.granted.append(now)
            room.add(lane, 1)
            for victim in chosen:
                room.add(victim.lane, -1)
                found.remove(victim)
                victims.append(victim.lease)
    return victims


def _find_cheapest(lane: Lane, found: Sequence[_Candidate], room: Room, is_one_node: bool) -> list[_Candidate]:
    """Find the leases that make room for one of a lane: of the lowest priorities, and as few of a node as will do.

    Of several nodes it is not known which one has room, so that the killed leases have to make all of it.
    """
    lacking = room.find_lacking(lane)
    if not lacking:
        return list(found[:1])  # it needs a slot
    if not is_one_node:
        lacking = {name: lane.shares[name] for name in lacking}
    by_node = [
        _find_enough([one for one in found if one.node == node], lacking) for node in {one.node for one in found}
    ]
    return min(filter(None, by_node), key=lambda chosen: (chosen[-1].priority, len(chosen), chosen[-1]), default=[])


def _find_enough(found: Iterable[_Candidate], lacking: Mapping[str, float]) -> list[_Candidate]:
    """Find the first of these leases that together take what is lacking; none if even all of them take less."""
    chosen, missing = [], dict(lacking)
    for one in found:
        left = {name: share - one.lane.shares.get(name, 0.0) for name, share in missing.items()}
        if left != missing:
            chosen.append(one)
            missing = {name: share for name, share in left.items() if share > ROUNDING}
            if not missing:
                return chosen
    return []


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
