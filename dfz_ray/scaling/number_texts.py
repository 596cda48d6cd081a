"""Numbers as people read them on the page, in the pictures and in the terminal."""

from __future__ import annotations

import math
from collections.abc import Sequence

NOTHING = "\N{EN DASH}"
"""Stands where nothing was measured."""


def show_number(value: float | None, unit: str = "") -> str:
    """Three significant digits, two below 1, and no exponent."""
    if value is None:
        return NOTHING
    decimals = min(2, _decimals(value, 3)) if abs(value) >= 0.1 else _decimals(value, 2)
    return f"{value or 0:.{decimals}f}{unit}"


def show_seconds(value: float | None) -> str:
    """Seconds, as a number with its unit."""
    return show_number(value, " s")


def show_short_time(seconds: float | None) -> str:
    """A time in the unit that suits it, from microseconds to hours."""
    if seconds is None:
        return NOTHING
    for unit, length_s in (("h", 3600.0), ("min", 60.0), ("s", 1.0), ("ms", 1e-3)):
        if seconds >= length_s:
            return f"{show_plain(seconds / length_s)} {unit}"
    return f"{show_plain(seconds * 1e6)} \N{MICRO SIGN}s" if seconds else "0 s"


def show_core_time(core_s: float | None) -> str:
    """The time of cores, in the unit that suits it."""
    if core_s is None:
        return NOTHING
    return f"{show_plain(core_s / 3600)} core-hours" if core_s >= 360 else f"{show_plain(core_s)} core-seconds"


def show_workers(number: int) -> str:
    """E.g. `2 workers`; no workers are the sequential program."""
    return f"{number} worker{'s' if number != 1 else ''}" if number else "the sequential program"


def show_interval(ends: Sequence[float] | None) -> str:
    """Both ends of an interval; empty where there is none."""
    return f"{show_number(ends[0])} {NOTHING} {show_number(ends[1])}" if ends else ""


def show_percents(ends: Sequence[float] | None) -> str:
    """Both ends of an interval of shares; empty where there is none."""
    return f"{show_percent(ends[0])} {NOTHING} {show_percent(ends[1])}" if ends else ""


def show_percent(share: float | None) -> str:
    """Whole percents, but never 100 or 0 for something that is not quite that."""
    if share is None:
        return NOTHING
    rounded = round(100 * share)
    if (rounded == 100 and share < 1) or (rounded == 0 and share):
        return f"{show_plain(100 * share)} %" if rounded == 0 else f"{100 * share:.3g} %"
    return f"{rounded} %"


def show_plain(value: float) -> str:
    """Three significant digits without zeros at the end, and no exponent."""
    decimals = _decimals(value, 3)
    text = f"{value or 0:,.{decimals}f}"
    return text.rstrip("0").rstrip(".") if decimals else text


def _decimals(value: float, digits: int) -> int:
    """The decimals of a number with so many significant digits."""
    rounded = abs(float(f"{value:.{digits - 1}e}"))
    return max(0, digits - 1 - math.floor(math.log10(rounded))) if rounded else 0
