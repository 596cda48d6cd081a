"""The order of the lanes: finds the one that is due next, and the leases that end to make room for another lane."""

from __future__ import annotations

import math
from collections.abc import Iterable

from dfz_ray.engine.lease import Lease
from dfz_ray.engine.queue import Kind, Lane, Queue
from dfz_ray.engine.ranking import Rank, Ranking


class Urgency:
    """Compares the lanes; it ranks only those again that the queue notes as changed."""

    def __init__(self, queue: Queue) -> None:
        self._queue = queue
        self._wanting = Ranking()
        """The lanes with more waiting tasks than leases that have not asked for work yet."""
        self._priorities: dict[int, int] = {}
        """By lane: the priority of its due task."""
        self._due: dict[int, set[int]] = {}
        """The lanes with a due task, by its priority."""
        self._untried: dict[int, set[int]] = {}
        """Those whose task is of a kind with unknown run times, and which have room for a lease and none yet."""

    def find_kind(self) -> Kind | None:
        """The kind for which a lease is started next, if any."""
        lanes = self._queue.lanes
        if len(lanes) == 1:
            return self._queue.find_due(lanes[0]) if self._wants_lease(lanes[0]) else None
        self._update()
        first = self._wanting.find_first()
        return None if first is None else self._queue.find_due(lanes[first])

    def must_make_room(self, lease: Lease, is_full: bool, leaving: int) -> bool:
        """True if a lease gets no further chunk, because a higher priority or an untried kind waits in another lane.

        `is_full` is true if all slots are in use; `leaving` is the number of leases that end already.
        """
        queue = self._queue
        if len(queue.lanes) == 1 or not (is_full or len(queue.priorities) > 1):
            return False
        lane = queue.lanes[lease.lane]
        mine = queue.find_due(lane)
        if mine is None:
            return False
        self._update()
        priority, wanted = mine.policy.priority, 0
        if is_full and _rank(queue, lane, mine)[1] != 0:
            wanted = len(self._untried.get(priority, ()))
        if wanted > leaving:
            return True
        for other in self._lanes_above(priority):
            # For a lane whose leases are on their way already, only a lease that has served makes room: else leases
            # would come and go for one that Ray can't place. Where room is kept, none comes; if there is enough of it,
            # none has to go.
            makes_room = lease.served > 0 or priority < queue.kept_for
            wanted += (is_full and self._wants_lease(other)) or (
                makes_room and other.starting > 0 and not other.has_room
            )
            if wanted > leaving:
                return True
        return False

    def is_awaited(self, lane: Lane, starting: int) -> bool:
        """True if another lane waits for a place: with leases that Ray has not placed, or as the next one in turn.

        `starting` is the number of leases that Ray has not placed. Lanes of lower priorities wait until this one is
        through.
        """
        kind, mine = self.find_kind(), self._queue.find_due(lane)
        least = -math.inf if mine is None else mine.policy.priority
        if kind is not None and kind.lane != lane.number and kind.policy.priority >= least:
            return True
        return starting > lane.starting and any(
            number != lane.number and self._queue.lanes[number].starting
            for priority, due in self._due.items()
            if priority >= least
            for number in due
        )

    def find_displaced(self, wanted: int) -> int | None:
        """The first lease that Ray has not placed yet and whose lane has only tasks of a lower priority than wanted."""
        found = (
            next(iter(lane.unplaced))
            for lane in self._queue.lanes
            if lane.unplaced and ((kind := self._queue.find_due(lane)) is None or kind.policy.priority < wanted)
        )
        return min(found, default=None)

    def _wants_lease(self, lane: Lane) -> bool:
        is_open = lane.leases < lane.capacity and lane.number not in self._queue.paused
        return is_open and lane.waiting + len(lane.suspects) > lane.starting_slots

    def _lanes_above(self, priority: int) -> Iterable[Lane]:
        lanes = self._queue.lanes
        return (lanes[number] for above, due in self._due.items() if above > priority for number in due)

    def _update(self) -> None:
        """Rank the lanes again that have changed."""
        queue = self._queue
        for number in queue.changed:
            lane = queue.lanes[number]
            kind = queue.find_due(lane)
            if kind is not None and self._wants_lease(lane):
                self._wanting.put(number, _rank(queue, lane, kind))
            else:
                self._wanting.remove(number)
            self._note(lane, kind)
        queue.changed.clear()

    def _note(self, lane: Lane, kind: Kind | None) -> None:
        before, number = self._priorities.pop(lane.number, None), lane.number
        if before is not None:
            self._due[before].discard(number)
            self._untried[before].discard(number)
        if kind is not None:
            priority = self._priorities[number] = kind.policy.priority
            self._due.setdefault(priority, set()).add(number)
            untried = self._untried.setdefault(priority, set())
            if not lane.leases and lane.capacity > 0 and kind.rank[1] == 0:
                untried.add(number)


def _rank(queue: Queue, lane: Lane, kind: Kind) -> Rank:
    first, order, seconds = kind.rank
    if lane.suspects and queue.find_suspects(lane) is not None:
        return (first, 0, float(lane.leases))
    if seconds == 0.0:  # among the unknown, the lane with the fewest leases: so every pace is known early
        return (first, order, float(lane.leases))
    # A lane with much to do for each of its leases is as urgent as one with a long task.
    return (first, order, min(seconds, -lane.left_s / (lane.leases + 1)))
