"""The screen of `dfz top`: what goes on in some runs, as lines that fit a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from dfz_ray.cli.printing import safe_line
from dfz_ray.cli.status import describe_s, describe_work
from dfz_ray.journal.run_activity import Activity, FailureCause, KindActivity, ManagerLoad, SlotActivity
from dfz_ray.journal.run_status import RunStatus
from dfz_ray.specs.states import FINAL

WIDE = 100
"""From this many columns on, the tables show more."""
HEAD_LINES = 4
"""Lines of a run without its tables and sentences: its name, the progress, the states and the load."""


@dataclass(frozen=True)
class RunView:
    """A run as it was seen last."""

    folder: Path
    status: RunStatus | None
    """None if it was never read."""
    problem: str = ""
    """The reason why it can't be read now; else empty."""
    unsent: tuple[str, ...] = ()
    """Sentences about batches of which tasks are lacking."""


def render(views: Sequence[RunView], width: int, height: int, now: float) -> RenderableType:
    """The screen, of at most `height` lines as far as every run can show its head."""
    room = max(HEAD_LINES, (height - 1) // max(1, len(views)))
    return Group(*(part for view in views for part in _render_run(view, width, room, now)))


def _render_run(view: RunView, width: int, room: int, now: float) -> Iterable[RenderableType]:
    status = view.status
    name = (status.name or status.run_id) if status is not None else ""
    yield _line((safe_line(name), "bold"), f"  {safe_line(str(view.folder))}" if name else safe_line(str(view.folder)))
    sentences = [Text.assemble(("can't be read: ", "red"), safe_line(view.problem))] if view.problem else []
    if status is not None:
        sentences.append(Text(safe_line(describe_work(status, now, bool(view.unsent)))))
        sentences.extend(Text(safe_line(sentence), "yellow") for sentence in (*view.unsent, *status.notices))
    yield from sentences
    if status is None:
        return
    room -= sum(1 + len(sentence) // max(1, width - 10) for sentence in sentences)  # where words are not broken
    yield _progress(status, width)
    activity = status.activity or Activity()
    if status.working and activity.load is not None:
        yield _line(_describe_load(activity.load))
    kinds = _choose_kinds(activity)
    slots = activity.slots if status.working else ()
    lengths = _share_lines(room - HEAD_LINES, [len(kinds), len(activity.failures), len(slots)])
    if lengths[0]:
        task_slots = _find_task_slots(status, activity) if status.working else 0.0
        yield _kind_table(kinds, lengths[0], activity.more_kinds, task_slots, width)
    if lengths[1]:
        earlier = status.counts["failed"] - sum(cause.failed for cause in activity.failures)
        yield _failure_table(activity.failures, lengths[1], earlier, width)
    if lengths[2]:
        yield _slot_table(slots, lengths[2], activity.more_slots)


def _line(*parts: str | tuple[str, str]) -> Text:
    return Text.assemble(*parts, no_wrap=True, overflow="ellipsis")


def _progress(status: RunStatus, width: int) -> RenderableType:
    total, ended = sum(status.counts.values()), sum(status.counts[state.label] for state in FINAL)
    words = [f"{100 * ended // total if total else 0:3d} % of {total:,}"]
    if status.working:
        words.append("rate not known yet" if status.tasks_per_s is None else f"{status.tasks_per_s:,.1f} tasks/s")
        words.append("" if status.left_s is None else f"{describe_s(status.left_s)} left")
        words.append(f"{status.leases:,} of {status.slots:,} slots")
    text = _line("  ".join(word for word in words if word))
    states = ", ".join(f"{count:,} {state}" for state, count in status.counts.items() if count)
    bar = Table.grid(padding=(0, 2, 0, 0))
    bar.add_column(width=max(10, width - len(text) - 3))
    bar.add_column(no_wrap=True)
    bar.add_row(ProgressBar(total=max(1, total), completed=ended), text)
    return Group(bar, _line(states or "no tasks yet"))


def _describe_load(load: ManagerLoad) -> str:
    words = [f"manager {100 * load.busy_share:.0f} % busy"]
    if load.commit_s is not None:
        words.append(f"commits take {1000 * load.commit_s:.1f} ms")
    if load.chunk_tasks is not None:
        words.append(f"{load.chunk_tasks:,.1f} tasks a chunk")
    if load.queue_s:
        words.append(f"oldest waits {describe_s(load.queue_s)}")
    return ", ".join(words)


def _share_lines(room: int, wanted: Sequence[int]) -> list[int]:
    """Lines for each table, of as many as it wants: those that want less leave more to the others."""
    given = [0] * len(wanted)
    for place in sorted(range(len(wanted)), key=lambda at: wanted[at]):
        rest = sum(1 for at in range(len(wanted)) if wanted[at] and not given[at])
        # A table has a line of titles, and perhaps one that says how many rows are left out.
        fair = (room - 2 * rest) // rest if rest else 0
        if wanted[place] and fair >= 1:
            given[place] = min(wanted[place], fair)
            room -= given[place] + 2
    return given


def _choose_kinds(activity: Activity) -> list[KindActivity]:
    """The rows of the table: each domain, followed by its kinds where it has several."""
    rows = []
    for domain in activity.domains:
        own = [row for row in activity.kinds if row.domain == domain.domain]
        rows.append(domain)
        rows.extend(own if len(own) > 1 or any(row.kind != domain.domain for row in own) else [])
    return rows


_Column = tuple[str, Literal["left", "right"]]


def _table(*columns: _Column) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="bold underline", expand=False)
    for name, justify in columns:
        table.add_column(name, justify=justify, no_wrap=True, overflow="ellipsis")
    return table


def _find_task_slots(status: RunStatus, activity: Activity) -> float:
    """The number of tasks that really execute at once, so that the times left of all domains add up to the run's."""
    works = [row.open * row.task_s for row in activity.domains if row.open and row.task_s is not None]
    is_known = len(works) == sum(1 for row in activity.domains if row.open)
    return sum(works) / status.left_s if works and is_known and status.left_s else max(1, status.slots)


def _kind_table(rows: Sequence[KindActivity], lines: int, more: int, slots: float, width: int) -> Table:
    numbers = ["ended", "of", "running", "failed", *(["task", "left"] if slots else [])]
    titles: list[_Column] = [("domain and kind", "left")]
    titles.extend((name, "right") for name in numbers)
    is_wide = width >= WIDE
    if is_wide:
        titles.append(("", "left"))
    table = _table(*titles)
    for row in rows[:lines]:
        total = sum(row.counts.values())
        name = Text(safe_line(row.domain), "bold") if not row.kind else Text(f"  {safe_line(row.kind)}")
        cells: list[RenderableType] = [name, f"{row.ended:,}", f"{total:,}"]
        cells += [_count(row.counts["running"]), _count(row.counts["failed"])]
        if slots:
            left_s = None if row.task_s is None else row.open * row.task_s / slots
            cells += ["" if row.task_s is None or not row.kind else _describe_task_s(row.task_s)]
            cells += ["" if not row.open else "?" if left_s is None else describe_s(left_s)]
        if is_wide:
            cells.append(ProgressBar(total=max(1, total), completed=row.ended, width=20))
        table.add_row(*cells)
    _add_rest(table, len(rows) - lines + more, "kinds")
    return table


def _describe_task_s(seconds: float) -> str:
    return f"{1000 * seconds:.3g} ms" if seconds < 1 else describe_s(seconds) if seconds >= 60 else f"{seconds:.1f} s"


def _count(count: int) -> str:
    return f"{count:,}" if count else ""


def _failure_table(rows: Sequence[FailureCause], lines: int, earlier: int, width: int) -> Table:
    is_wide = width >= WIDE
    titles: list[_Column] = [("failed", "right"), ("retried", "right"), ("reason", "left")]
    if is_wide:
        titles.append(("domain", "left"))
    table = _table(*titles, ("cause", "left"))
    for row in rows[:lines]:
        cells = [_count(row.failed), _count(row.retried), safe_line(row.reason)]
        cells += [safe_line(row.domain)] if is_wide else []
        table.add_row(*cells, safe_line(row.signature) or "others, see: dfz failures RUN", style="red")
    _add_rest(table, len(rows) - lines, "causes")
    if earlier > 0:
        table.add_row(_count(earlier), "", "earlier, see: dfz failures RUN")
    return table


def _slot_table(rows: Sequence[SlotActivity], lines: int, more: int) -> Table:
    table = _table(("process", "left"), ("slots", "right"), ("does", "left"), ("tasks", "right"), ("for", "right"))
    for row in rows[:lines]:
        place = f"{safe_line(row.host)} {row.process}" if row.host else "not placed yet"
        does = safe_line(row.domain if row.kind in ("", row.domain) else f"{row.domain}: {row.kind}")
        if not row.kind:
            does = f"{does}, waits" if row.host else does
        busy = describe_s(row.busy_s) if row.kind else ""
        table.add_row(place, f"{row.slots}", does, _count(row.tasks), busy)
    _add_rest(table, len(rows) - lines + more, "processes")
    return table


def _add_rest(table: Table, left_out: int, what: str) -> None:
    if left_out > 0:
        cells = [""] * len(table.columns)
        place = next(at for at, column in enumerate(table.columns) if column.justify == "left")
        cells[place] = f"and {left_out:,} more {what}"
        table.add_row(*cells)
