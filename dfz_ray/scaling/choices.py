"""The numbers of workers that a study's goals choose among those that were measured, each with its intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from dfz_ray.scaling.estimate import MEDIAN_REPEATS
from dfz_ray.scaling.number_texts import show_plain, show_workers
from dfz_ray.scaling.point import Point, find_comparable
from dfz_ray.scaling.steadiness import UNSTEADY

FEW_CORE_HOURS = 1e-3
"""Less is told in core-seconds."""


@dataclass(frozen=True)
class Goals:
    """The goals that a user has for a number of workers."""

    efficiency: float = 0.8
    """The efficiency that the workers must reach at least."""
    price: float | None = None
    """Of a core-hour, in any currency."""
    deadline_s: float | None = None
    """The wall time within which the batch must end."""


@dataclass(frozen=True)
class Choice:
    """The number of workers that meets one goal best."""

    goal: str
    """`efficient`, `fastest`, `cheapest` or `deadline`."""
    says: str
    """The goal in words."""
    workers: int | None
    """0: the sequential program; None: no number that was measured meets the goal."""
    mode: str | None = None
    wall_s: float | None = None
    wall_s_ci95: tuple[float, float] | None = None
    efficiency: float | None = None
    efficiency_ci95: tuple[float, float] | None = None
    core_hours: float | None = None
    core_hours_ci95: tuple[float, float] | None = None
    price: float | None = None
    """Of the whole batch; None without a price of the core-hour."""
    price_ci95: tuple[float, float] | None = None
    repeats: int = 0
    """The repeats that these values rest on."""
    batches: float = 1
    """The time is that of so many batches, the cost that of one: with weak scaling they differ."""

    def describe(self) -> str:
        """The choice in a line."""
        if self.workers is None:
            return f"{self.says}: no number of workers that was measured"
        name = show_workers(self.workers)
        name += " on threads" if self.mode == "threads" and self.workers else ""
        many, one = (f" for {self.batches:g} batches", " for one") if self.batches > 1 else ("", "")
        facts = []
        if self.goal == "efficient" and self.efficiency is not None:
            facts.append(_show("efficiency {}", self.efficiency, self.efficiency_ci95))
        if self.wall_s is not None:
            facts.append(_show(f"{{}} s{many}", self.wall_s, self.wall_s_ci95))
        if self.core_hours is not None:
            unit, per_hour = ("core-hours", 1) if self.core_hours >= FEW_CORE_HOURS else ("core-seconds", 3600)
            ends = self.core_hours_ci95 and [per_hour * end for end in self.core_hours_ci95]
            facts.append(_show(f"{{}} {unit}{one}", per_hour * self.core_hours, ends))
        if self.price is not None:
            facts.append(_show(f"price {{}}{one}", self.price, self.price_ci95))
        if self.wall_s is not None and self.wall_s_ci95 is None:
            made = f"{self.repeats} repeat{'s' if self.repeats != 1 else ''}"
            few = f"{MEDIAN_REPEATS} repeats give one, these are of {made}"
            facts.append(f"without intervals of times: {few if self.repeats < MEDIAN_REPEATS else UNSTEADY}")
        return f"{self.says}: {name}, {', '.join(facts)}"


def choose(points: Sequence[Point], baseline: Point | None, goals: Goals) -> list[Choice]:
    """For each goal the number of workers, of the points that take part in a decision, that meets it best.

    The sequential program is one of them if it completed as many of the tasks.

    A deadline is met by a point whose every repeat was within it, with as many tasks as at any point: an interval is
    that of the median, which half of all runs exceed. A trial that failed met none.
    """
    timed = [point for point in points if point.wall_s and point.core_hours]
    compared = find_comparable(baseline)
    everyone = [*([compared] if compared and compared.wall_s and compared.core_hours else []), *timed]
    efficient = [point for point in timed if point.efficiency and point.efficiency.value >= goals.efficiency]
    found = [
        _make("efficient", f"efficiency of at least {100 * goals.efficiency:g} %", _most(efficient), goals),
        _make("fastest", "least time for the work", max(everyone, key=_rate, default=None), goals),
        _make("cheapest", "least cost", min(everyone, key=_cost, default=None), goals),
    ]
    if goals.deadline_s is not None:
        in_time = [point for point in everyone if _always_completes(point) and max(point.walls_s) <= goals.deadline_s]
        cheapest = min(in_time, key=_cost, default=None)
        found.append(_make("deadline", f"least cost with every repeat within {goals.deadline_s:g} s", cheapest, goals))
    return found


def _make(goal: str, says: str, point: Point | None, goals: Goals) -> Choice:
    if point is None or point.wall_s is None or point.core_hours is None:
        return Choice(goal, says, None)
    hours = point.core_hours
    return Choice(
        goal,
        says,
        point.workers,
        point.mode if point.workers else None,
        point.wall_s.value,
        point.wall_s.ci95,
        point.efficiency.value if point.efficiency else None,
        point.efficiency.ci95 if point.efficiency else None,
        hours.value,
        hours.ci95,
        None if goals.price is None else goals.price * hours.value,
        None
        if goals.price is None or hours.ci95 is None
        else (goals.price * hours.ci95[0], goals.price * hours.ci95[1]),
        len(point.walls_s),
        point.batches,
    )


def choice_entry(choice: Choice) -> dict[str, Any]:
    """The choice in plain values."""
    return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(choice).items()}


def _most(points: Sequence[Point]) -> Point | None:
    return max(points, key=lambda point: (point.workers, _rate(point)), default=None)


def _rate(point: Point) -> float:
    return point.tasks_per_s.value if point.tasks_per_s else 0.0


def _cost(point: Point) -> float:
    return point.core_hours.value if point.core_hours else float("inf")


def _always_completes(point: Point) -> bool:
    """True if no trial of it failed, or lost tasks that others complete."""
    return 0 < len(point.rates) == point.repeats and not point.errors


def _show(words: str, value: float, ends: Sequence[float] | None) -> str:
    return words.format(show_plain(value)) + (f" ({show_plain(ends[0])} to {show_plain(ends[1])})" if ends else "")


def describe_choice(entry: dict[str, Any]) -> str:
    """The line of a choice that was written to summary.json."""
    return Choice(**entry).describe()
