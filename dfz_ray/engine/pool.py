"""How many slots a run uses, where that is to follow what pays: observations and the time in, decisions out.

The run is looked at in windows. A probe changes the number of slots; after it has been seen for long enough, the
throughput at both numbers is compared, and the slots stay or go back. More are kept where they bring more; fewer, where
they bring as much. When nothing pays any more the pool rests, and probes again after pauses that become longer.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from dfz_ray.engine.learning import KindTimes
from dfz_ray.engine.level_stats import LevelStats, Window, compare

WINDOW_S = 0.15
"""No look at a level is shorter."""
LOOKS = 8
"""After so many windows a probe is decided, be it not clear."""
CLEAR_ERRORS = 1.5
"""It is clear before, where the gain is so many standard errors away from what decides."""
MORE_PAYS = 1.06
"""More slots stay where the throughput is at least so many times as high."""
FEWER_SUFFICE = 0.98
"""Fewer slots stay where the throughput is at least so many times as high ..."""
FEWER_AT_LEAST = 0.94
"""... and, one standard error lower, at least that."""
NEARLY_PERFECT = 0.85
"""A gain of that share of the slots' own ratio lets the next step be a large one."""
UP = (16.0, 4.0, 2.0, 1.4)
"""Steps up: large ones where the last gain was nearly perfect, small ones where a larger one did not pay."""
FALLEN = 0.92
"""Where the throughput falls to that by a step up, a smaller step is tried."""
DOWN = 0.75
COSTS_MOST = 0.01
"""A probe of fewer slots may cost this share of the time that is left, at most, should it be wrong."""
TAKES_MOST = 0.1
"""A probe of more slots may take this share of the time that is left."""
TASKS_FOR_EACH = 2
"""More slots are tried only where at least so many tasks wait for each of them."""
PLACED = 0.9
"""So large a share of the slots in use is all of them: leases come and go."""
EARLY = 0.2
"""A chunk may have been executed for this share of its time before a look began."""
PATIENCE_S = 60.0
"""How long it may take until another slot is there: new processes have to start and to import."""
PAUSE_S = 5.0
"""The first pause between probes that don't pay; each further one is twice as long ..."""
PAUSES = 6
"""... this many times."""
CHANGED = 1.25
"""When tasks of the same kinds take so many times as long as before, or as short, the pause is over."""


class PoolLimits(NamedTuple):
    """Between which numbers of slots a pool moves."""

    least: int = 1
    most: int = 1_000_000


@dataclass(frozen=True, slots=True)
class PoolChange:
    """Another number of slots, and why."""

    slots: int
    reason: str


class Pool:
    """Moves the number of slots.

    Args:
        slots: at first.
        limits: between which it moves; the first number is brought between them.
        cores: how many tasks can compute at once.
        now: the time, in seconds of any one clock.
    """

    def __init__(self, slots: int, limits: PoolLimits, cores: float = 1.0, now: float = 0.0) -> None:
        self.limits = _sound(limits)
        self.slots = self._bounded(slots)
        self._cores = cores
        self._base = LevelStats(self.slots)
        self._trial: LevelStats | None = None
        """What is seen of a level that is tried."""
        self._settled: LevelStats | None = None
        """While it rests: what was known when that began."""
        self._window: Window | None = None
        """None until all slots are there."""
        self._first = Window(now)
        """All chunks, until it is known how large the first step is."""
        self._moved_at = now
        self._active = 0
        self._step: int | None = None
        """Where in UP the next step up is."""
        self._may_grow = self._may_shrink = True
        """Whether it was not seen yet that this is of no use from here."""
        self.wants_more = True
        """Whether more slots were not seen yet to be of no use."""
        self._paused_until = 0.0
        self._pauses = 0
        self._last = ""
        """What the last probe has shown, in words, where nothing has followed from it yet."""

    @property
    def rests(self) -> bool:
        """Whether no other number was found that pays, so that it waits before it tries again."""
        return self._settled is not None

    def limit(self, limits: PoolLimits, now: float) -> PoolChange | None:
        """Take other limits: nodes have come, or are gone."""
        before, self.limits = self.limits, _sound(limits)
        if self.limits.most > before.most:
            self._may_grow, self._step, self._settled, self._pauses = True, UP.index(2.0), None, 0
        bounded = self._bounded(self.slots)
        if bounded == self.slots:
            return None
        word = "no more than" if bounded < self.slots else "at least"
        return self._settle(bounded, f"{word} {bounded} can be used now", now)

    def see(self, active: int, reachable: float, now: float) -> None:
        """So many slots are in use; and so many could be, by the cluster and by what there is to do."""
        if active > self._active:
            self._moved_at = now
        self._active = active
        if self._window is None and active and PLACED * min(self.slots, reachable) <= active <= self.slots:
            self._window = Window(now)

    def on_chunk(
        self, times: Sequence[KindTimes], began_at: float, width: int, now: float, cpu_s: float | None
    ) -> None:
        """A chunk has ended.

        Args:
            times: the run times of its tasks.
            began_at: when its worker began it.
            width: on how many slots.
            now: the time.
            cpu_s: for how long its tasks computed, where that is known.
        """
        if self._step is None:
            self._first.add(times, (now - began_at) * width, width, self._active, cpu_s)
        if self._window is not None and began_at >= self._window.opened_at - EARLY * (now - began_at):
            self._window.add(times, (now - began_at) * width, width, self._active, cpu_s)

    def decide(self, waiting: int, left_s: float, now: float) -> PoolChange | None:
        """Whether to change the number of slots now.

        Args:
            waiting: how many tasks wait.
            left_s: how long the rest will take with the present slots, as far as that is known, in seconds.
            now: the time.
        """
        if self._step is None and self._first.ended:
            change = self._hurry(waiting, left_s, now)
            if change is not None:
                return change
        window = self._window
        if window is None:
            return self._give_up_waiting(waiting, now)
        if window.ended < min(self.slots, self._active) or now - window.opened_at < WINDOW_S:
            return None
        level = self._base if self._trial is None else self._trial
        level.add(window, now)
        self._window = Window(now)
        if self._trial is not None:
            return self._judge(self._trial, waiting, left_s, now)
        if self._settled is not None:
            if not self._is_over(now):
                return None
            self._settled, self._may_grow, self._may_shrink, self._step = None, True, True, len(UP) - 1
        elif self._step is None:
            self._step = self._largest_step(is_perfect=False)
        return self._probe(waiting, left_s, now)

    # --- probes -------------------------------------------------------------------------------------------------------

    def _probe(self, waiting: int, left_s: float, now: float) -> PoolChange | None:
        """Try another level, where there is one that may be better, and enough is left to find out."""
        change = self._probe_more(waiting, left_s, now)
        if change is not None:
            return change
        target = self._bounded(min(self.slots - 1, round(self.slots * DOWN)))
        if self._may_shrink and target < self.slots:
            # Slots that are to end do so when they ask, so it takes about two windows.
            if 2 * self._base.window_s * (1 - target / self.slots) > COSTS_MOST * left_s:
                return None
            return self._try(target, self._last or "to see whether fewer suffice", now)
        self._rest(now)
        return None

    def _probe_more(self, waiting: int, left_s: float, now: float) -> PoolChange | None:
        if not self._may_grow or self._base.window_s > TAKES_MOST * left_s:
            return None
        for factor in UP[self._step or 0 :]:
            target = self._bounded(max(self.slots + 1, round(self.slots * factor)))
            if target > self.slots and waiting >= TASKS_FOR_EACH * target:
                return self._try(target, self._last or "to see whether more pay", now)
        return None

    def _hurry(self, waiting: int, left_s: float, now: float) -> PoolChange | None:
        """Where the first tasks hardly computed, many more at once are tried without a longer look."""
        glimpse = LevelStats(self.slots)
        glimpse.add(self._first, now)
        cpus = glimpse.cpus
        if cpus is None or cpus * UP[0] > self._cores:
            return None
        before, self._base, self._step = self._base, glimpse, 0
        change = self._probe_more(waiting, left_s, now)
        if change is None:
            self._base, self._step = before, None
        return change

    def _try(self, target: int, why: str, now: float) -> PoolChange:
        self._trial, self._last = LevelStats(target), ""
        return self._move(target, why, now)

    def _judge(self, trial: LevelStats, waiting: int, left_s: float, now: float) -> PoolChange | None:
        """Whether the probe has shown anything, and what follows."""
        base, is_up, looks = self._base, trial.slots > self._base.slots, len(trial.windows)
        gain = compare(base, trial)
        if gain is None:
            if looks < LOOKS:
                return None
            self._base, self._trial = trial, None  # other kinds run by now: there is nothing to compare with
            return None
        needed = MORE_PAYS if is_up else FEWER_SUFFICE
        is_clear = abs(gain.log - math.log(needed)) > CLEAR_ERRORS * gain.error
        is_dear = (1 - gain.ratio) * looks * trial.window_s > COSTS_MOST * left_s
        if not is_clear and not is_dear and looks < LOOKS:
            return None
        told = f"{_show_change(gain.ratio)} from {base.slots} to {trial.slots} slots"
        if gain.ratio >= needed and (is_up or gain.log - gain.error >= math.log(FEWER_AT_LEAST)):
            self._base, self._trial, self._last = trial, None, told
            is_perfect = gain.ratio >= NEARLY_PERFECT * trial.slots / base.slots
            self._may_grow, self._may_shrink = is_up, not is_up or not is_perfect
            self.wants_more = is_up
            self._step = self._largest_step(is_perfect)
            return self._probe(waiting, left_s, now)
        if is_up:
            self.wants_more = False
            was_large = trial.slots > 2 * base.slots
            self._step = UP.index(2.0) if was_large else len(UP) - 1
            # Where twice as many bring about as much, what lies between brings little more.
            self._may_grow = was_large or (gain.ratio < FALLEN and trial.slots > UP[-1] * base.slots)
        else:
            self._may_shrink = False
        self._trial, self._last = None, ""
        return self._move(base.slots, told, now)

    def _largest_step(self, is_perfect: bool) -> int:
        """Where in UP to go on: large steps where the last one paid in full, and where tasks hardly compute."""
        cpus = self._base.cpus
        for step, factor in enumerate(UP):
            is_idle = cpus is not None and cpus * factor <= self._cores
            if is_idle or factor <= 2.0 or (is_perfect and factor <= 4.0):
                return step
        return len(UP) - 1

    def _rest(self, now: float) -> None:
        self._settled, self._last = self._base.copy(), ""
        self._paused_until = now + PAUSE_S * 2 ** min(self._pauses, PAUSES)
        self._pauses += 1

    def _is_over(self, now: float) -> bool:
        """Whether the pause is over: by time, or since tasks take another time than when it began."""
        assert self._settled is not None  # noqa: S101  it rests
        gain = compare(self._settled, self._base)
        if gain is not None and abs(gain.log) > math.log(CHANGED) + 2 * gain.error:
            self._pauses, self.wants_more = 0, True
            return True
        return now >= self._paused_until

    # --- moves --------------------------------------------------------------------------------------------------------

    def _move(self, slots: int, why: str, now: float) -> PoolChange:
        before, self.slots = self.slots, slots
        self._window, self._moved_at = None, now
        return PoolChange(slots, f"from {before} to {slots}: {why}")

    def _settle(self, slots: int, why: str, now: float) -> PoolChange:
        """Take a number of slots that no comparison has led to."""
        self._base, self._trial, self._settled, self._last = LevelStats(slots), None, None, ""
        return self._move(slots, why, now)

    def _give_up_waiting(self, waiting: int, now: float) -> PoolChange | None:
        """Slots that Ray has not placed for long are given up."""
        if now - self._moved_at < PATIENCE_S or not waiting or self._active >= self.slots:
            return None
        placed = self._bounded(max(1, self._active))
        if placed == self.slots:
            self._window = Window(now)
            return None
        change = self._settle(placed, f"Ray has placed only {self._active} within {PATIENCE_S:g} s", now)
        self._may_grow = False
        return change

    def _bounded(self, slots: int) -> int:
        return max(self.limits.least, min(slots, self.limits.most))


def _sound(limits: PoolLimits) -> PoolLimits:
    return PoolLimits(max(1, limits.least), max(1, limits.least, limits.most))


def _show_change(ratio: float) -> str:
    percent = 100 * (ratio - 1)
    if abs(percent) < 0.5:
        return "throughput stayed the same"
    return f"throughput {'rose' if percent > 0 else 'fell'} by {abs(percent):.0f} %"
