"""The number of a run's slots, if it follows the throughput: observations and the time in, decisions out.

The pool climbs. It looks at the run with the present number of slots, probes another number, and keeps it if the
throughput is better: more slots if they bring more, fewer if they bring as much. Otherwise it goes back. When neither
direction pays it rests, and probes again after pauses that become longer, or as soon as run times change.

It compares run times, not tasks per second: with twice the slots the throughput doubles if tasks of the same kinds take
as long as before, and stays if they take twice as long. So a change of the mix of kinds is no gain.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from dfz_ray.engine.ends import KindTimes
from dfz_ray.engine.level_stats import LevelStats, compare
from dfz_ray.engine.messages import NotePoolChanged

LOOK_S = 0.15
"""No look is shorter."""
LOOKS = 8
"""A probe is decided after so many looks, even if its result is not clear."""
CLEAR_ERRORS = 1.5
"""A result is clear if it is so many standard errors away from the threshold."""
MORE_PAYS = 1.06
"""More slots are kept if the throughput is at least so many times as high."""
FEWER_SUFFICE = 0.98
"""Fewer slots are kept if the throughput is at least so many times as high."""
UP = 2.0
"""A probe of more slots multiplies their number by that."""
LEAP = 16.0
"""It multiplies their number by that instead if even the tasks of so many slots would leave cores idle."""
DOWN = 0.75
"""A probe of fewer slots multiplies their number by that."""
TAKES_MOST = 0.15
"""The share of the remaining time that a look may take for a probe of more slots to be worth it."""
COSTS_MOST = 0.01
"""The share of the remaining time that a wrong probe may cost."""
PLACED = 0.9
"""A look begins when this share of the slots is in use: leases come and go."""
PATIENCE_S = 60.0
"""Seconds that another slot may take to be there: new processes have to start and to import."""
PAUSE_S, LONGEST_PAUSE_S = 5.0, 320.0
"""The first pause between probes that don't pay, and the longest; each is twice as long as the one before."""
CHANGED = 1.25
"""A pause ends when the run times of the same kinds have grown by this factor, or shrunk by it."""


class PoolLimits(NamedTuple):
    """The fewest and the most slots of a pool."""

    least: int = 1
    most: int = 1_000_000


class Pool:
    """Moves the number of slots between limits; `cores` is the number of tasks that can compute at once."""

    def __init__(self, slots: int, limits: PoolLimits, cores: float = 1.0) -> None:
        self.limits = _sound(limits)
        self.slots = self._bounded(slots)
        self.rests = False
        """True while no other number is known to pay, so that the pool waits before it probes again."""
        self.wants_more = True
        """False once more slots were seen to be of no use."""
        self._cores = cores
        self._level = LevelStats(self.slots)
        """The measures with the present number of slots."""
        self._base: LevelStats | None = None
        """The measures to compare with: in a probe those before it, at rest those before the rest."""
        self._may_grow = self._may_shrink = self._may_leap = True
        """False if this was seen to be of no use from the present number."""
        self._moved_at = 0.0
        self._active = 0
        self._pause_s, self._rests_until = PAUSE_S, 0.0
        self._finding = ""
        """The result of the last probe in words, until a change gives it as its reason."""

    def limit(self, limits: PoolLimits, now: float) -> NotePoolChanged | None:
        """Take other limits: nodes have come, or are gone."""
        before, self.limits = self.limits, _sound(limits)
        if self.limits.most > before.most:
            self._may_grow, self._pause_s, self._rests_until = True, PAUSE_S, now
        bounded = self._bounded(self.slots)
        if bounded == self.slots:
            return None
        word = "no more than" if bounded < self.slots else "at least"
        return self._settle(bounded, f"{word} {bounded} can be used now", now)

    def see(self, active: int, reachable: float, now: float) -> None:
        """Take in the slots in use, and those that could be, by the size of the cluster and by the waiting tasks."""
        if active > self._active:
            self._moved_at = now
        self._active = active
        is_there = active and PLACED * min(self.slots, reachable) <= active <= self.slots
        if self._level.look_began_at is None and is_there:
            self._level.look_began_at = now

    def on_chunk(
        self, times: Sequence[KindTimes], began_at: float, width: int, now: float, cpu_s: float | None
    ) -> None:
        """A chunk of `width` slots has ended."""
        look_began_at = self._level.look_began_at
        if look_began_at is not None and began_at >= look_began_at:
            self._level.add(times, now - began_at, width, self._active, cpu_s)

    def decide(self, waiting: int, left_s: float, now: float) -> NotePoolChanged | None:
        """Decide on the number of slots: `waiting` tasks are left, which take `left_s` with the present slots."""
        level = self._level
        if level.look_began_at is None:
            return self._give_up_waiting(waiting, now)
        if level.ended < min(self.slots, self._active) or now - level.look_began_at < LOOK_S:
            return None
        level.end_look(level.look_began_at, now)
        if self._base is None:
            return self._probe(waiting, left_s, now)
        if not self.rests:
            return self._judge(self._base, waiting, left_s, now)
        return self._probe(waiting, left_s, now) if self._ends_rest(self._base, now) else None

    # --- probes -------------------------------------------------------------------------------------------------------

    def _probe(self, waiting: int, left_s: float, now: float) -> NotePoolChanged | None:
        """Try another number, if one may be better and enough is left to find out; else rest."""
        cpus = self._level.cpus
        leaps = self._may_leap and cpus is not None and cpus * LEAP <= self._cores
        more = self._bounded(round(self.slots * (LEAP if leaps else UP)))
        is_early = self._level.look_s <= TAKES_MOST * left_s
        if self._may_grow and is_early and self.slots < more <= waiting:
            return self._try(more, self._finding or "to see whether more pay", now)
        fewer = self._bounded(min(self.slots - 1, round(self.slots * DOWN)))
        # Surplus slots end when their leases ask for work, so it takes about two looks.
        costs_s = 2 * self._level.look_s * (1 - fewer / self.slots)
        if self._may_shrink and fewer < self.slots and costs_s <= COSTS_MOST * left_s:
            return self._try(fewer, self._finding or "to see whether fewer suffice", now)
        self._base, self._level = self._level, LevelStats(self.slots, now)
        self.rests, self._rests_until = True, now + self._pause_s
        self._pause_s = min(2 * self._pause_s, LONGEST_PAUSE_S)
        self._finding = ""
        return None

    def _try(self, slots: int, why: str, now: float) -> NotePoolChanged:
        self._base = self._level
        return self._move(LevelStats(slots), why, now)

    def _judge(self, base: LevelStats, waiting: int, left_s: float, now: float) -> NotePoolChanged | None:
        """Keep the number that is probed, or go back, or look for longer."""
        probe = self._level
        gain = compare(base, probe)
        if gain is None:
            if probe.looks >= LOOKS:
                self._base = None  # other kinds run by now: a comparison is impossible
            return None
        is_up = probe.slots > base.slots
        needed = MORE_PAYS if is_up else FEWER_SUFFICE
        is_clear = abs(gain.log - math.log(needed)) > CLEAR_ERRORS * gain.error
        is_dear = (1 - gain.ratio) * probe.looks * probe.look_s > COSTS_MOST * left_s
        if not is_clear and not is_dear and probe.looks < LOOKS:
            return None
        pays = gain.ratio >= needed
        finding = f"{_show_change(gain.ratio)} from {base.slots} to {probe.slots} slots"
        if is_up or pays:
            self.wants_more = is_up and pays
        if pays:
            self._base, self._finding = None, finding
            self._may_grow, self._may_shrink = is_up, True
            return self._probe(waiting, left_s, now)
        if is_up:
            # If a leap was of no use, a step may be; if a step was not, what lies between brings little.
            self._may_grow, self._may_leap = probe.slots > UP * base.slots, False
        else:
            self._may_shrink = False
        self._base, base.look_began_at = None, None
        return self._move(base, finding, now)

    def _ends_rest(self, base: LevelStats, now: float) -> bool:
        """End the rest if its time is over, or if tasks take another time than when it began."""
        gain = compare(base, self._level)
        has_changed = gain is not None and abs(gain.log) > math.log(CHANGED) + 2 * gain.error
        if has_changed:
            self._pause_s, self.wants_more = PAUSE_S, True
        elif now < self._rests_until:
            if self._level.looks >= LOOKS:
                self._level = LevelStats(self.slots, now)
            return False
        self._base, self.rests, self._may_grow, self._may_shrink = None, False, True, True
        return True

    # --- moves --------------------------------------------------------------------------------------------------------

    def _move(self, level: LevelStats, why: str, now: float) -> NotePoolChanged:
        before, self.slots = self.slots, level.slots
        self._level, self._moved_at = level, now
        self._finding = ""
        return NotePoolChanged(self.slots, f"from {before} to {self.slots}: {why}")

    def _settle(self, slots: int, why: str, now: float) -> NotePoolChanged:
        """Take a number of slots without a comparison."""
        self._base, self.rests = None, False
        return self._move(LevelStats(slots), why, now)

    def _give_up_waiting(self, waiting: int, now: float) -> NotePoolChanged | None:
        """Slots that Ray has not placed for long are given up."""
        if now - self._moved_at < PATIENCE_S or not waiting or self._active >= self.slots:
            return None
        placed = self._bounded(max(1, self._active))
        if placed == self.slots:
            self._level.look_began_at = now
            return None
        self._may_grow = False
        return self._settle(placed, f"Ray has placed only {self._active} within {PATIENCE_S:g} s", now)

    def _bounded(self, slots: int) -> int:
        return max(self.limits.least, min(slots, self.limits.most))


def _sound(limits: PoolLimits) -> PoolLimits:
    return PoolLimits(max(1, limits.least), max(1, limits.least, limits.most))


def _show_change(ratio: float) -> str:
    percent = 100 * (ratio - 1)
    if abs(percent) < 0.5:
        return "throughput stayed the same"
    return f"throughput {'rose' if percent > 0 else 'fell'} by {abs(percent):.0f} %"
