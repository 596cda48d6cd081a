"""Draws a chart as inline SVG whose colours are those of the page, so that it follows the reader's theme.

ElementTree writes it: that is light, and what it writes is always closed and escaped. matplotlib's SVG can't follow
the theme, and weighs 50 kB a chart.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol
from xml.etree import ElementTree

WIDTH = 420
"""All charts are so wide, in units of which one is about a pixel: two beside each other on a desk, one on a phone."""
LEFT, RIGHT, TOP, BOTTOM = 46, 12, 12, 40
_UNPRINTABLE = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that XML does not allow."""

Place = tuple[float, float]


@dataclass(frozen=True)
class Legend:
    """An entry of a legend: the classes of its swatch, and its text."""

    style: str
    text: str


@dataclass(frozen=True)
class Chart:
    """A chart on the page."""

    title: str
    svg: str
    legend: Sequence[Legend] = ()
    caption: str = ""


class Scale(Protocol):
    """Maps values to units of an axis."""

    def __call__(self, value: float) -> float:
        """The place of a value."""


@dataclass(frozen=True)
class LinearScale:
    """Equal steps are equally long."""

    low: float
    high: float
    begins: float
    ends: float

    def __call__(self, value: float) -> float:
        """The place of a value; one beyond the axis is at its end."""
        share = (min(max(value, self.low), self.high) - self.low) / ((self.high - self.low) or 1.0)
        return self.begins + share * (self.ends - self.begins)

    def ticks(self, most: int = 6) -> list[float]:
        """Round values within the axis."""
        step = 10.0 ** math.floor(math.log10((self.high - self.low) / most or 1.0))
        step = next(step * times for times in (1, 2, 5, 10, 20) if (self.high - self.low) / (step * times) <= most)
        first = math.ceil(self.low / step - 1e-9)
        return [step * n for n in range(first, math.floor(self.high / step + 1e-9) + 1)]


@dataclass(frozen=True)
class LogScale:
    """Equal ratios are equally long; all values are above 0."""

    low: float
    high: float
    begins: float
    ends: float

    def __call__(self, value: float) -> float:
        """The place of a value; one beyond the axis is at its end."""
        inside = min(max(value, self.low), self.high)
        share = math.log(inside / self.low) / (math.log(self.high / self.low) or 1.0)
        return self.begins + share * (self.ends - self.begins)

    def ticks(self, base: float = 2.0, most: int = 9) -> list[float]:
        """Powers of the base within the axis."""
        first, last = (math.log(end, base) for end in (self.low, self.high))
        powers = range(math.ceil(first - 1e-9), math.floor(last + 1e-9) + 1)
        return [base**power for power in powers[:: math.ceil(len(powers) / most) or 1]]

    def round_ticks(self, most: int = 6) -> list[float]:
        """Values of one digit within the axis."""
        powers = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
        for digits in ((1, 2, 5), (1, 3), (1,)):
            values = [digit * 10.0**power for power in powers for digit in digits]
            inside = [value for value in values if self.low <= value <= self.high]
            if len(inside) <= most:
                return inside
        return inside[:: math.ceil(len(inside) / most)]


class Plot:
    """A chart as it is drawn.

    Args:
        key: unlike those of all other charts of the page.
        title: names the chart for readers who can't see it.
        description: says to them what it shows.
        height: in the units of WIDTH.
    """

    def __init__(self, key: str, title: str, description: str, height: float = 280) -> None:
        self.title = title
        self.height = height
        self.left, self.right, self.top, self.bottom = LEFT, WIDTH - RIGHT, TOP, height - BOTTOM
        names = {"role": "img", "aria-labelledby": f"{key}-title {key}-desc"}
        self._root = ElementTree.Element("svg", {"viewBox": f"0 0 {WIDTH} {height:g}", "class": "chart", **names})
        for tag, text in (("title", title), ("desc", description)):
            ElementTree.SubElement(self._root, tag, {"id": f"{key}-{tag}"}).text = _clean(text)

    def svg(self) -> str:
        """The chart as text."""
        return ElementTree.tostring(self._root, encoding="unicode")

    def _add(self, tag: str, style: str, hint: str = "", **attributes: float | str) -> ElementTree.Element:
        """A shape; the hint appears under the pointer."""
        texts = {name.replace("_", "-"): _number(value) for name, value in attributes.items()}
        element = ElementTree.SubElement(self._root, tag, {"class": style, **texts})
        if hint:
            ElementTree.SubElement(element, "title").text = _clean(hint)
        return element

    def text(self, at: Place, text: str, style: str = "label", anchor: str = "start", **attributes: str) -> None:
        """Write a line of text."""
        element = self._add("text", style, x=at[0], y=at[1], text_anchor=anchor, **attributes)
        element.text = _clean(text)

    def line(self, begins: Place, ends: Place, style: str, hint: str = "") -> None:
        """Draw a straight line."""
        self._add("line", style, hint, x1=begins[0], y1=begins[1], x2=ends[0], y2=ends[1])

    def path(self, places: Iterable[Place], style: str) -> None:
        """Draw a line through some places."""
        self._add("path", style, d="M" + "L".join(f"{_number(x)} {_number(y)}" for x, y in places))

    def area(self, upper: Sequence[Place], lower: Sequence[Place], style: str) -> None:
        """Fill the area between two lines."""
        around = [*upper, *reversed(lower)]
        self._add("path", style, d="M" + "L".join(f"{_number(x)} {_number(y)}" for x, y in around) + "z")

    def rectangle(self, at: Place, width: float, height: float, style: str, hint: str = "") -> None:
        """Fill a rectangle."""
        self._add("rect", style, hint, x=at[0], y=at[1], width=max(width, 0.0), height=max(height, 0.0))

    def rectangles(self, cells: Iterable[tuple[float, float, float, float]], style: str) -> None:
        """Fill many rectangles (x, y, width, height), as one path."""
        parts = [f"M{_number(x)} {_number(y)}h{_number(w)}v{_number(h)}h-{_number(w)}z" for x, y, w, h in cells]
        if parts:
            self._add("path", style, d="".join(parts))

    def mark(self, at: Place, style: str, hint: str, *, square: bool = False) -> None:
        """Draw a measured point."""
        if square:
            self._add("rect", f"mark {style}", hint, x=at[0] - 4, y=at[1] - 4, width=8, height=8)
        else:
            self._add("circle", f"mark {style}", hint, cx=at[0], cy=at[1], r=4.5)

    def ring(self, at: Place) -> None:
        """Draw a ring around the point that is recommended."""
        self._add("circle", "ring", cx=at[0], cy=at[1], r=9)

    def interval(self, x: float, low: float, high: float, style: str) -> None:
        """Draw a vertical interval with its ends."""
        d = f"M{_number(x)} {_number(low)}V{_number(high)}M{_number(x - 3)} {_number(low)}h6"
        self._add("path", style, d=d + f"M{_number(x - 3)} {_number(high)}h6")

    def x_axis(
        self, scale: Scale, ticks: Iterable[float], label: str, write: Callable[[float], str] = "{:g}".format
    ) -> None:
        """Draw the horizontal axis, with a line up from each tick."""
        for tick in ticks:
            x = scale(tick)
            self.line((x, self.top), (x, self.bottom), "grid")
            self.text((x, self.bottom + 15), write(tick), "tick", "middle")
        self.line((self.left, self.bottom), (self.right, self.bottom), "axis")
        if label:
            self.text(((self.left + self.right) / 2, self.height - 6), label, "label", "middle")

    def y_axis(self, scale: Scale, ticks: Iterable[float], write: Callable[[float], str] = "{:g}".format) -> None:
        """Draw the vertical axis, with a line across from each tick."""
        for tick in ticks:
            y = scale(tick)
            self.line((self.left, y), (self.right, y), "grid")
            self.text((self.left - 6, y + 4), write(tick), "tick", "end")


def _number(value: float | str) -> str:
    """Two decimals at most: they are a hundredth of a pixel."""
    return value if isinstance(value, str) else f"{value:.2f}".rstrip("0").rstrip(".")


def _clean(text: str) -> str:
    """The text, without what XML does not allow."""
    return _UNPRINTABLE.sub("\N{REPLACEMENT CHARACTER}", text)
