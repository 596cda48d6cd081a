"""Which lane is due next, and which lease has to make room for it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping

from dfz_ray.engine.lease import Lease
from dfz_ray.engine.queue import Kind, Lane, Queue, Rank

GRANT_S = 60.0
"""A slot that was taken from others for a kind, and not used by it for so long, was used by someone else."""


def find_kind(queue: Queue) -> Kind | None:
    """The kind that is due next, of the lanes with more work than leases that are still to ask for it."""
    best, best_rank = None, None
    for lane in queue.lanes:
        if not _wants_lease(lane):
            continue
        kind = queue.find_due(lane)
        if kind is None:
            continue
        rank = _rank(queue, lane, kind)
        if best_rank is None or rank < best_rank:
            best, best_rank = kind, rank
    return best


def _wants_lease(lane: Lane) -> bool:
    return lane.leases < lane.capacity and lane.waiting + len(lane.suspects) > lane.starting


def _rank(queue: Queue, lane: Lane, kind: Kind) -> Rank:
    first, order, seconds = kind.rank
    if lane.suspects and queue.find_suspects(lane) is not None:
        return (first, 0, float(lane.leases))
    if seconds == 0.0:  # among the unknown, the lane with the fewest leases: so every pace is known early
        return (first, order, float(lane.leases))
    # A lane with much to do for each of its leases is as urgent as one with a long task.
    return (first, order, min(seconds, -lane.left_s / (lane.leases + 1)))


def must_make_room(queue: Queue, leases: Mapping[int, Lease], lease: Lease, slots: int) -> bool:
    """Whether a lease gets no further chunk: elsewhere waits a higher priority, or a kind that nobody has tried."""
    is_full, may_differ = len(leases) >= slots, len(queue.priorities) > 1
    if len(queue.lanes) == 1 or not (is_full or may_differ):
        return False
    mine = queue.find_due(queue.lanes[lease.lane])
    if mine is None:
        return False
    mine_is_first = _rank(queue, queue.lanes[lease.lane], mine)[1] == 0
    wanted = 0
    for lane in queue.lanes:
        if (lane.leases and not may_differ) or not (is_full or lane.starting) or lane.number == lease.lane:
            continue
        kind = queue.find_due(lane)
        if kind is None:
            continue
        if kind.policy.priority > mine.policy.priority:
            # Where leases are on their way already it must have done something before: else leases would come and go
            # for one that Ray can't place.
            wanted += (is_full and _wants_lease(lane)) or (lane.starting > 0 and lease.served > 0)
        elif kind.policy.priority == mine.policy.priority and not mine_is_first:
            wanted += is_full and kind.rank[1] == 0 and not lane.leases and lane.capacity > 0
    return wanted > 0 and wanted > sum(bool(other.ending or other.killed) for other in leases.values())


def find_displaced(queue: Queue, leases: Mapping[int, Lease], wanted: int) -> int | None:
    """A lease that Ray has not placed yet, and whose lane has only work of a lower priority than is wanted."""
    for lease_id, lease in leases.items():
        if lease.asked_at is None:
            kind = queue.find_due(queue.lanes[lease.lane])
            if kind is None or kind.policy.priority < wanted:
                return lease_id
    return None


def find_victims(
    queue: Queue, leases: Mapping[int, Lease], kind_of: Callable[[int], Kind], after_s: float, now: float
) -> list[int]:
    """The leases that are to give way to tasks of a higher priority which have waited for too long.

    Args:
        queue: all that waits.
        leases: those that are out, by number.
        kind_of: the kind of a task, by its number.
        after_s: how long a task may wait behind preemptible ones of a lower priority.
        now: the time.
    """
    late = [kind for kind in _firsts(queue) if now - kind.waiting_since >= after_s]
    victims: list[int] = []
    for kind in sorted(late, key=lambda kind: -kind.policy.priority):
        lane = queue.lanes[kind.lane]
        kind.granted = [since for since in kind.granted if now - since < GRANT_S]
        coming = len(kind.granted) + (0 if _is_crowded(queue, lane) else lane.starting)
        found = sorted(
            (lease.lane != kind.lane, priority, -begun_at, lease_id)
            for lease_id, lease in leases.items()
            if lease_id not in victims and not lease.killed
            for priority, begun_at in _preemptible(lease, kind_of)
            if priority < kind.policy.priority
        )
        own = sum(not is_other for is_other, *_ in found)
        room = lane.capacity - lane.leases + lane.starting - coming  # for leases in the place of other lanes' ones
        wanted = min(_slots_needed(kind, after_s) - coming, own + max(0.0, room))
        chosen = [lease_id for *_, lease_id in found[: max(0, int(wanted))]]
        kind.granted.extend(now for _ in chosen)
        victims.extend(chosen)
    return victims


def _is_crowded(queue: Queue, lane: Lane) -> bool:
    """Whether the leases that Ray has placed leave no room for one more of a lane: then others keep it waiting."""
    shares = ((one.leases - one.starting) / one.capacity for one in queue.lanes if one.capacity)
    return bool(lane.capacity) and sum(shares) + 1 / lane.capacity > 1


def _firsts(queue: Queue) -> Iterable[Kind]:
    return (kind for lane in queue.lanes if lane.capacity and (kind := queue.find_first(lane)) is not None)


def _slots_needed(kind: Kind, after_s: float) -> int:
    """How many slots keep the waiting tasks of a kind from waiting for as long once more."""
    if not kind.times.known:
        return 1
    return min(len(kind.waiting), math.ceil(len(kind.waiting) * kind.times.mean_s / max(after_s, 1e-9)))


def _preemptible(lease: Lease, kind_of: Callable[[int], Kind]) -> Iterable[tuple[int, float]]:
    """The highest priority in a lease's hands and when it began, where all of that may be preempted."""
    begun = list(lease.begun())
    if not begun:
        return
    policies = [kind_of(number).policy for held in begun for number in held.chunk.numbers]
    if all(policy.preemptible for policy in policies):
        yield max(policy.priority for policy in policies), max(held.begun_at or 0.0 for held in begun)
