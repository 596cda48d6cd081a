"""How far the points of a study can be trusted: which take part in its decision, and what weakens their evidence."""

from __future__ import annotations

from collections.abc import Sequence

from dfz_ray.scaling.number_texts import show_number, show_plain, show_workers
from dfz_ray.scaling.point import Point, find_comparable

WAITS = 0.5
"""Tasks whose CPU time is less than this share of their run time wait for something."""
BUSY = 0.5
"""Other work on the host is told if its load average is more than this share of the cores."""
ONE_CORE = 1.05
"""Work that kept so many cores busy, or fewer, could run on one."""
TOO_GOOD = 1.05
"""An efficiency that is surely above this says that the two programs did not do the same work; with one worker, which
has no more caches than the sequential program, it is no finding."""
IMPOSSIBLE = 1.5
"""An efficiency that is surely above this is no finding, not even of caches that hold more."""


def find_left_out(points: Sequence[Point], baseline: Point | None) -> dict[int, str]:
    """The points that take no part in a decision, each with the reason."""
    return {point.workers: why for point in points if (why := _why_left_out(point, points, baseline))}


def _why_left_out(point: Point, points: Sequence[Point], baseline: Point | None) -> str:
    if point.wall_s is None or point.success_rate is None:
        return "every trial failed" if point.errors else "nothing was measured"
    if not point.success_rate:
        return "no task completed"
    if point.rates and not point.loses_more:
        return ""
    expected = _best_success_rate(points, baseline)
    against = "in the sequential program" if baseline and baseline.success_rate == expected else "at the best point"
    if point.success_rate >= expected:
        return "the typical repeat completed fewer tasks than at another point"
    lost, normal = 100 * (1 - point.success_rate), 100 * (1 - expected)
    return f"{show_plain(lost)} % of the tasks did not complete, {show_plain(normal)} % {against}"


def _best_success_rate(points: Sequence[Point], baseline: Point | None) -> float:
    return max(one.success_rate or 0.0 for one in [*([baseline] if baseline else []), *points])


def is_impossible(point: Point) -> bool:
    """True if its efficiency can't be: something else slowed the sequential program."""
    return _least_efficiency(point) > (TOO_GOOD if point.workers == 1 else IMPOSSIBLE)


def describe_impossible(usable: Sequence[Point]) -> list[str]:
    """The clause that says why no speedup can be trusted, if one can't be."""
    found = [point for point in usable if is_impossible(point)]
    if not found:
        return []
    worst = max(found, key=_least_efficiency)
    reach = "reaches" if worst.workers == 1 else "reach"
    return [
        f"can't tell: {show_workers(worst.workers)} {reach} {describe_speedup(worst)}, an efficiency of "
        f"{_efficiency(worst)}, which can't be: something else slowed the sequential program, so a quiet host has to "
        "measure it again"
    ]


def caution_of_efficiency(chosen: Point, usable: Sequence[Point]) -> list[str]:
    """A word on an efficiency that is too good to be that of the work alone, at the point chosen or at another one."""
    everyone = [chosen, *usable]
    guessed = max(everyone, key=_guessed_efficiency)
    if _guessed_efficiency(guessed) > IMPOSSIBLE:
        where = "" if guessed is chosen else f" with {show_workers(guessed.workers)}"
        cause = "something else, or chance, slowed the sequential program"
        return [f"an efficiency of {_efficiency(guessed)}{where} can't be: {cause}"]
    found = max(everyone, key=_least_efficiency)
    if _least_efficiency(found) <= TOO_GOOD or any(map(is_impossible, everyone)):
        return []
    where = "" if found is chosen else f" with {show_workers(found.workers)}"
    return [
        f"an efficiency of {_efficiency(found)}{where} says that the sequential program was slowed by something else"
    ]


def _least_efficiency(point: Point) -> float:
    return point.efficiency.ci95[0] if point.efficiency and point.efficiency.ci95 else 0.0


def _guessed_efficiency(point: Point) -> float:
    """That of a point with too few repeats for an interval."""
    return point.efficiency.value if point.efficiency and point.efficiency.ci95 is None else 0.0


def describe_cautions(
    chosen: Point, baseline: Point | None, physical_cores: int, *, knows_threads: bool = False
) -> list[str]:
    """Everything that weakens the evidence at a point, or explains it."""
    clauses = []
    waits = _waiting_share(baseline)
    if waits and chosen.mode == "processes":
        reached = chosen.speedup.value if chosen.speedup else chosen.workers
        if reached * (1 - waits) <= ONE_CORE:
            advice = "" if knows_threads else " (--use-threads measures threads)"
            could = f"one core could also run them on threads or asyncio{advice}"
        else:
            could = f"threads or asyncio on one core could give at most {show_number(1 / (1 - waits))}x"
        clauses.append(f"tasks wait for {100 * waits:.0f} % of their time, so {could}")
    if chosen.oversubscribed and not (waits and chosen.workers * (1 - waits) <= physical_cores):
        cores = f"{physical_cores} physical core{'s' if physical_cores != 1 else ''}"
        clauses.append(f"oversubscribed: {show_workers(chosen.workers)} share {cores}")
    return clauses


def _waiting_share(baseline: Point | None) -> float | None:
    """The part of their time that tasks wait, if it is most of it. Beside others a task waits for cores, too."""
    share = baseline.cpu_share if baseline else None
    return 1 - share if share is not None and share < WAITS else None


def describe_incidents(points: Sequence[Point], baseline: Point | None, physical_cores: int) -> list[str]:
    """Everything that happened at any point and weakens the comparison of points."""
    clauses = []
    everyone = [*([baseline] if baseline else []), *points]
    load = max((point.other_load for point in everyone if point.other_load is not None), default=0.0)
    if load > BUSY * physical_cores:
        cores = f"{physical_cores} core{'s' if physical_cores != 1 else ''}"
        clauses.append(f"the host was busy with other work (a load of {load:.0f} on {cores})")
    return clauses + describe_lacks(everyone)


def describe_lacks(points: Sequence[Point]) -> list[str]:
    """The trials and repeats that don't count, the workers that died, and the slots that the cluster lacked."""
    clauses = []
    if failed := [point for point in points if point.errors and point.wall_s]:
        trials = (
            f"{len(one.errors)} of {one.repeats + len(one.errors)} trials {_with_workers(one.workers)}"
            for one in failed
        )
        clauses.append(f"{', '.join(trials)} failed")
    if lossy := [point for point in points if 0 < len(point.rates) < point.repeats]:
        repeats = (
            f"{one.repeats - len(one.rates)} of {one.repeats} repeats {_with_workers(one.workers)}" for one in lossy
        )
        clauses.append(f"{', '.join(repeats)} lost more tasks than others, and count in no comparison")
    if lost := {point.workers: point.workers_lost for point in points if point.workers_lost}:
        clauses.append(f"{show_workers(sum(lost.values()))} died in the trials with {_list(list(lost))}")
    if underserved := [point for point in points if point.underserved]:
        served = ", ".join(f"{point.served} of {point.workers}" for point in underserved)
        clauses.append(f"the cluster could run only {served} workers at once")
    return clauses


def describe_lost(usable: Sequence[Point], baseline: Point | None) -> list[str]:
    """The tasks that were lost at points that take part: where others have lost a smaller share, and everywhere."""
    compared = find_comparable(baseline)
    everyone = [*([compared] if compared else []), *usable]
    best = max((one.success_rate or 0.0 for one in everyone), default=0.0)
    lost = [
        f"{one.lost:,} of {one.tasks:,} tasks with {show_workers(one.workers)}"
        for one in everyone
        if (one.success_rate or 0.0) < best
    ]
    clauses = [f"{', '.join(lost)} did not complete, which may be chance"] if lost else []
    if usable and best < 1:
        point = max(everyone, key=lambda one: one.success_rate or 0.0)
        verb = "was" if point.lost == 1 else "were"
        clauses.append(f"nowhere did all tasks complete: at best {point.lost:,} of {point.tasks:,} {verb} lost")
    return clauses


def warn_of_answers(points: Sequence[Point], baseline: Point | None) -> str:
    """A sentence that precedes the recommendation if not all answers are equal; else nothing."""
    everyone = [*([baseline] if baseline else []), *points]
    unstable = [point for point in everyone if len(point.digests) > 1]
    stable = [point for point in everyone if point.digest is not None]
    changed = [point for point in stable[1:] if point.digest != stable[0].digest]
    modes = sorted({point.mode for point in points})

    def name(found: Sequence[Point]) -> str:
        if len(modes) < 2:
            return _list([point.workers for point in found])
        parts = [_list([0])] if baseline in found else []
        for mode in modes:
            if counts := [point.workers for point in found if point.workers and point.mode == mode]:
                parts.append(f"{_list(counts)} on {mode}")
        return " and ".join(parts)

    found = []
    if changed:
        found.append(f"the digest at {name(changed)} is not that of {name(stable[:1])}")
    if unstable:
        found.append(f"the digest changed between repeats of {name(unstable)}")
    return f"WARNING, the answers changed: {' and '.join(found)}. Apart from that: " if found else ""


def describe_speedup(point: Point) -> str:
    """The speedup of a point in words, for within a sentence."""
    return f"{show_number(point.speedup.value)}x the sequential program" if point.speedup else "no speedup"


def _efficiency(point: Point) -> str:
    return f"{100 * point.efficiency.value:.0f} %" if point.efficiency else ""


def _with_workers(number: int) -> str:
    return f"{'with' if number else 'of'} {show_workers(number)}"


def _list(numbers: Sequence[int]) -> str:
    """E.g. `the baseline and 2, 4 workers`."""
    names = ["the baseline"] if 0 in numbers else []
    if counts := [number for number in numbers if number]:
        names.append(f"{', '.join(map(str, counts[:-1]))}{', ' if counts[1:] else ''}{show_workers(counts[-1])}")
    return " and ".join(names)
