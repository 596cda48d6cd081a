"""One section of a study's page, as the template shows it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from dfz_ray.scaling.charts.plot import Chart, Legend


class Cell(NamedTuple):
    """A piece of text on the page: in a table, in a list, or a paragraph."""

    text: str
    code: str = ""
    """Follows the text, in type of fixed width."""
    below: str = ""
    """A small line under it."""


@dataclass(frozen=True)
class Section:
    """One section of the page; an empty part is left out. In this order: text, charts, legend, bullets, table, note."""

    title: str
    text: Cell | None = None
    is_alarm: bool = False
    """The text is shown as a warning."""
    charts: Sequence[Chart] = ()
    legend: Sequence[Legend] = ()
    """Explains all of the charts."""
    bullets: Sequence[Cell] = ()
    rows: Sequence[Mapping[str, Cell]] = ()
    """A table: the cells of each row by the title of their column."""
    has_titles: bool = True
    """False for a table of facts: a column of names, and one of values."""
    left: Collection[str] = ()
    """Titles of columns that are aligned left, and may be broken into lines."""
    marked: Collection[int] = ()
    """Positions of rows that stand out."""
    note: str = ""
    folded: str = ""
    """The title under which the table is folded away; empty for a table that is always shown."""
    is_folded: bool = False
    """The section as a whole is folded away under its title."""
