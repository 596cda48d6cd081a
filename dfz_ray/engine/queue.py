"""The tasks that wait, by lane and kind, and the order in which they are due.

A kind includes the policy, because the engine decides by kind. Thousands of different policies in one batch cost it
time. Unknown kinds go first, one task each, then long kinds (longest processing time first).
"""

from __future__ import annotations

import heapq
import math
from collections import Counter, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from dfz_ray.engine.chunking import (
    EVEN_SLACK,
    LEAST_S,
    TASKS_LIMIT,
    HeldWork,
    Pace,
    RunTimes,
    chunk_size,
    overrun_budget_s,
)
from dfz_ray.engine.ranking import Rank, Ranking
from dfz_ray.engine.waiting import Waiting

if TYPE_CHECKING:
    from dfz_ray.specs.policy import Policy


@dataclass(slots=True)
class Kind:
    """Tasks that cost about the same."""

    number: int
    name: str
    lane: int
    policy: Policy
    waiting: Waiting = field(default_factory=Waiting)
    waiting_since: float = 0.0
    """The time at which the first of the waiting tasks came."""
    granted: list[float] = field(default_factory=list)
    """The times at which slots were taken from others for it; slots that it has used are not listed."""
    times: RunTimes = field(default_factory=RunTimes)
    last_size: int = 1
    probing: int = 0
    """Chunks of it that leases hold while its run times are unknown."""

    @property
    def rank(self) -> Rank:
        """Lower is due earlier: higher priorities; one task of each unknown kind, long kinds, other unknown ones."""
        first = -self.policy.priority
        if not self.times.known:
            return (first, 2 if self.probing else 0, 0.0)
        return (first, 1, -self.times.mean_s)


class Suspects(NamedTuple):
    """Tasks of one priority in whose chunk a worker died: they are run by themselves."""

    kind: Kind
    """The kind of the first of them."""
    numbers: list[int]


@dataclass(slots=True)
class Lane:
    """The waiting tasks of one domain and one shape: a lease takes from one lane."""

    number: int
    ranking: Ranking = field(default_factory=Ranking)
    """The kinds that have waiting tasks."""
    waiting: int = 0
    left_s: float = 0.0
    """The run time of the waiting tasks, as far as it is known, in seconds."""
    suspects: deque[Suspects] = field(default_factory=deque)
    """Higher priorities first, and then in the order in which they came."""
    capacity: float = math.inf
    """The number of leases of its shape that the cluster can run at once."""
    shares_known: Mapping[str, float] = field(default_factory=dict)
    """The share of each of the cluster's resources that one lease takes; empty if that is not known."""
    seen: bool = False
    """True if the cluster could ever run one."""
    exclusive: bool = False
    """True if its tasks must not share a process."""
    leases: int = 0
    unplaced: dict[int, None] = field(default_factory=dict)
    """Leases that have not asked for work yet, in the order of their start."""
    starting_slots: int = 0
    """The slots of these leases."""
    has_begun: bool = False
    """True once a lease has asked for work: there is a node that can execute its tasks."""
    deaths_before_start: int = 0
    """Deaths in a row of leases that had not asked for work yet."""
    replaced_from: int = 0
    """The first lease that was started after the last death before the start."""
    room_since: float | None = None
    """The time from which there is room for a lease that Ray has not placed, and for which there was none; infinite
    while there is none.
    """
    is_given_up: bool = False
    """True if Ray has not placed a lease although there seemed to be room for long: no room is made for it any more."""

    @property
    def starting(self) -> int:
        """The number of leases that have not asked for work yet."""
        return len(self.unplaced)

    @property
    def shares(self) -> Mapping[str, float]:
        """The share of each of the cluster's resources that one lease takes, as far as that is known."""
        return self.shares_known or ({"places": 1 / self.capacity} if self.capacity else {})

    @property
    def has_room(self) -> bool:
        """True if room is kept for a lease that Ray has not placed, and there is enough of it."""
        return self.room_since is not None and self.room_since < math.inf and not self.is_given_up

    def forget_room(self) -> None:
        """Look anew whether there is room for its leases: one was placed, or the cluster has changed."""
        self.room_since, self.is_given_up = None, False


class Taken(NamedTuple):
    """Tasks taken from a lane, for one chunk."""

    numbers: list[int]
    budget_s: float
    limit_s: float = math.inf
    """The longest time that a worker takes which keeps their deadlines."""
    priority: int = 0
    is_preemptible: bool = True
    """True if each of them may be preempted."""
    kind: int | None = None
    """The number of their kind, if they are known to be of one."""
    likely_s: float = math.inf
    """Their expected run time, one after the other, plus one standard deviation."""


class Queue:
    """All tasks that wait."""

    def __init__(self) -> None:
        self.kinds: list[Kind] = []
        self.lanes: list[Lane] = []
        self.is_timed = False
        """True if any kind has a deadline."""
        self.priorities: set[int] = set()
        self.changed: set[int] = set()
        """Lanes that have changed; `Urgency` ranks them again, and clears this."""
        self.kept_for: float = -math.inf
        """The priority for which room is kept in the cluster: leases of lower ones do not start."""
        self.paused: dict[int, float] = {}
        """Lanes for which no lease starts for now, each with the time until which."""
        self.delayed: dict[int, tuple[float, int]] = {}
        """Tasks that are tried again later, each with the time and its kind."""
        self.delayed_of: Counter[int] = Counter()
        """The number of delayed tasks of each kind."""
        self._delays: list[tuple[float, int]] = []

    def add_kind(self, name: str, lane: int, policy: Policy, exclusive: bool = False) -> None:
        """Add a kind; it gets the next number, and its lane exists from now on."""
        self.get_lane(lane).exclusive = exclusive
        self.kinds.append(Kind(len(self.kinds), name, lane, policy))
        self.priorities.add(policy.priority)
        self.is_timed = self.is_timed or policy.timeout_s is not None

    def get_lane(self, number: int) -> Lane:
        """The lane of that number, which is made if need be."""
        while number >= len(self.lanes):
            self.lanes.append(Lane(len(self.lanes)))
        return self.lanes[number]

    def pause(self, lane: Lane, until: float) -> None:
        """Start no further lease for a lane before some time."""
        self.paused[lane.number] = until
        self.changed.add(lane.number)

    def resume(self, lane: Lane) -> None:
        """Start leases for a lane again."""
        if self.paused.pop(lane.number, None) is not None:
            self.changed.add(lane.number)

    def resume_due(self, now: float) -> None:
        """Start leases again for the lanes whose pause is over."""
        for number in [number for number, until in self.paused.items() if until <= now]:
            self.resume(self.lanes[number])

    def put(self, kind_number: int, numbers: Sequence[int], now: float) -> None:
        """Add tasks of one kind behind the others of that kind."""
        kind = self.kinds[kind_number]
        kind.waiting.append(numbers)
        self._note_more(kind, len(numbers), now)

    def put_back(self, kind_number: int, numbers: Sequence[int], now: float) -> None:
        """Add tasks that had been taken before the others of their kind."""
        kind = self.kinds[kind_number]
        kind.waiting.appendleft(numbers)
        self._note_more(kind, len(numbers), now)

    def delay(self, kind_number: int, number: int, due: float) -> None:
        """Let a task wait again from a time on."""
        self.delayed_of[kind_number] += number not in self.delayed
        self.delayed[number] = (due, kind_number)
        heapq.heappush(self._delays, (due, number))

    @property
    def next_due(self) -> float | None:
        """The time at which the first of the delayed tasks is due."""
        while self._delays:
            due, number = self._delays[0]
            if self.delayed.get(number, (None, 0))[0] == due:
                return due
            heapq.heappop(self._delays)  # it was removed
        return None

    def put_due(self, now: float) -> set[int]:
        """Add the delayed tasks whose time has come; returns the numbers of their lanes."""
        lanes = set()
        while (due := self.next_due) is not None and due <= now:
            number = heapq.heappop(self._delays)[1]
            _, kind_number = self.delayed.pop(number)
            self.delayed_of[kind_number] -= 1
            self.put_back(kind_number, [number], now)
            lanes.add(self.kinds[kind_number].lane)
        return lanes

    def remove(self, numbers: set[int]) -> list[int]:
        """Take out those of these tasks that wait; returns the tasks that it found."""
        removed = [number for number in numbers if number in self.delayed]
        for number in removed:
            self.delayed_of[self.delayed.pop(number)[1]] -= 1
        for kind in self.kinds:
            gone = kind.waiting.remove(numbers)
            if gone:
                lane = self.lanes[kind.lane]
                lane.waiting -= len(gone)
                lane.left_s = max(0.0, lane.left_s - len(gone) * kind.times.mean_s) if lane.waiting else 0.0
                self._rank(kind)
                removed.extend(gone)
        for lane in self.lanes:
            for group in lane.suspects:
                removed.extend(number for number in group.numbers if number in numbers)
                group.numbers[:] = [number for number in group.numbers if number not in numbers]
            lane.suspects = deque(group for group in lane.suspects if group.numbers)
            self.changed.add(lane.number)
        return removed

    def _note_more(self, kind: Kind, added: int, now: float) -> None:
        lane = self.lanes[kind.lane]
        lane.waiting += added
        lane.left_s += added * kind.times.mean_s
        self.changed.add(kind.lane)
        if added and kind.waiting.count == added:
            kind.waiting_since = now
            self._rank(kind)

    def learn(self, kind_number: int, count: int, total_s: float, total_squares: float) -> None:
        """Take in the run times of tasks of one kind."""
        kind = self.kinds[kind_number]
        before = kind.times.mean_s
        kind.times.learn(count, total_s, total_squares)
        self.lanes[kind.lane].left_s += kind.waiting.count * (kind.times.mean_s - before)
        kind.probing = 0
        self._rank(kind)

    def probe_ended(self, kind_number: int) -> None:
        """A chunk of an unknown kind ended without a run time: another chunk may try."""
        kind = self.kinds[kind_number]
        if kind.probing:
            kind.probing = 0
            self._rank(kind)

    def _rank(self, kind: Kind) -> None:
        ranking = self.lanes[kind.lane].ranking
        self.changed.add(kind.lane)
        if kind.waiting.count:
            ranking.put(kind.number, kind.rank)
        else:
            ranking.remove(kind.number)

    def add_suspects(self, kind_number: int, groups: Iterable[list[int]]) -> None:
        """Add groups of tasks of one priority; each group has to run by itself."""
        kind = self.kinds[kind_number]
        lane = self.lanes[kind.lane]
        waiting = list(lane.suspects)
        before = sum(group.kind.policy.priority >= kind.policy.priority for group in waiting)
        lane.suspects = deque([*waiting[:before], *[Suspects(kind, group) for group in groups], *waiting[before:]])
        self.changed.add(kind.lane)

    def find_suspects(self, lane: Lane) -> Suspects | None:
        """The first suspects of a lane, if they are due before all other tasks there."""
        if not lane.suspects:
            return None
        kind, first = self.find_first(lane), lane.suspects[0]
        return first if kind is None or first.kind.policy.priority >= kind.policy.priority else None

    def find_due(self, lane: Lane) -> Kind | None:
        """The kind of the first due task of a lane, suspects included, if any waits."""
        suspects = self.find_suspects(lane)
        return suspects.kind if suspects is not None else self.find_first(lane)

    def find_first(self, lane: Lane) -> Kind | None:
        """The kind of a lane that is due first, if any waits."""
        number = lane.ranking.find_first()
        return None if number is None else self.kinds[number]

    def take(
        self,
        lane: Lane,
        pace: Pace,
        held_s: float = 0.0,
        width: int = 1,
        least: int = 1,
        held: HeldWork | None = None,
    ) -> Taken | None:
        """Take the tasks of a chunk from a lane, for a lease of `width` slots; None if no task waits.

        The lease holds work for `held_s` already, on each of its slots. If tasks are short, the chunk has at least
        `least`, one for each idle slot. If `held` is given, and run times are even, it may have more. A task that takes
        long, or may, goes alone, so that its result waits for no other task.
        """
        numbers: list[int] = []
        share_s, slack_s = pace.share_s(lane.left_s, held_s, width), pace.aim_s
        expected_s, spread_s, sum_s, longest_s, mean_s = 0.0, 0.0, 0.0, 0.0, 0.0
        priority, is_limited, is_preemptible = 0, False, True
        sole: int | None = None
        while len(numbers) < TASKS_LIMIT and (kind := self.find_first(lane)) is not None:
            times, policy = kind.times, kind.policy
            timeout_s = math.inf if policy.timeout_s is None else policy.timeout_s
            if numbers and (policy.priority, timeout_s < math.inf) != (priority, is_limited):
                break  # a task without a deadline would spoil the limit
            priority, is_limited = policy.priority, timeout_s < math.inf
            if not times.known or times.mean_s > pace.aim_s:
                if numbers:
                    break  # it would spoil the estimate
                share_s, least = 0.0, 1
            elif times.are_even and held is not None and not numbers:
                even_s = pace.even_share_s(lane.left_s, held, times.mean_s)
                if even_s > share_s:
                    share_s, slack_s = even_s, min(slack_s, max(times.mean_s, EVEN_SLACK * even_s, LEAST_S))
            rest_s, lacking = share_s - expected_s, max(least - len(numbers), 0)
            if numbers and not lacking and times.mean_s > rest_s:
                break
            rest_s = min(rest_s, timeout_s * width)  # a chunk takes no longer than a deadline
            size = chunk_size(times, kind.waiting.count, kind.last_size, rest_s, max(lacking, 1))
            size = min(size, TASKS_LIMIT - len(numbers))
            sole = None if numbers else kind.number
            numbers.extend(self._take_from(lane, kind, size))
            is_preemptible = is_preemptible and policy.preemptible
            sum_s, longest_s = sum_s + size * timeout_s, max(longest_s, timeout_s)
            expected_s += size * times.mean_s
            spread_s = max(spread_s, times.spread_s)
            mean_s = max(mean_s, times.mean_s)
            if (not times.known or kind.waiting.count) and len(numbers) >= least:
                break
        if not numbers:
            return None
        likely_s = expected_s + spread_s * math.sqrt(len(numbers))
        if width == 1:
            budget_s = overrun_budget_s(expected_s, len(numbers), spread_s, slack_s)
            return Taken(numbers, budget_s, min(sum_s, budget_s + longest_s), priority, is_preemptible, sole, likely_s)
        # It begins with its first task, while the other threads still execute tasks of the chunk before it.
        budget_s = mean_s + overrun_budget_s(expected_s / width, len(numbers) / width, spread_s, pace.aim_s)
        return Taken(numbers, budget_s, budget_s + longest_s, priority, is_preemptible, sole, likely_s)

    def _take_from(self, lane: Lane, kind: Kind, size: int) -> list[int]:
        numbers = kind.waiting.take(size)
        self.changed.add(lane.number)
        lane.waiting -= size
        lane.left_s = lane.left_s - size * kind.times.mean_s if lane.waiting else 0.0
        kind.last_size = size
        if kind.granted:
            del kind.granted[0]
        if not kind.times.known:
            kind.probing += 1
        if not (kind.times.known and kind.waiting.count):
            self._rank(kind)
        return numbers

    def clear(self, lane: Lane) -> list[int]:
        """Take out everything that waits in a lane."""
        numbers = [number for group in lane.suspects for number in group.numbers]
        lane.suspects.clear()
        for kind in self.kinds:
            if kind.lane == lane.number:
                numbers.extend(kind.waiting)
                kind.waiting.clear()
        lane.ranking.clear()
        lane.waiting, lane.left_s = 0, 0.0
        self.changed.add(lane.number)
        return numbers
