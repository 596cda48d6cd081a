"""`dfz status`."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from dfz_ray.cli import EXIT_SOME_FAILED as EXIT_INCOMPLETE
from dfz_ray.cli.printing import marked, safe_line
from dfz_ray.cli.run_argument import run_argument
from dfz_ray.journal.run_status import RunStatus, find_status
from dfz_ray.journal.sending import UnsentBatch, find_unsent
from dfz_ray.specs.states import FINAL

if TYPE_CHECKING:
    from rich.table import Table

REFRESH_S = 1.0
"""The manager writes the status once a second."""
SILENCE_S = 10.0
"""A manager that has written no status for longer is shown as silent."""


@click.command("status")
@run_argument
@click.option("--watch", is_flag=True, help="Show it anew each second, until no process works on the run any more.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object; with --watch one a line each second.")
def status(folder: Path, watch: bool, as_json: bool) -> int:
    """Show the progress of RUN, a run folder or `last`, also while it goes on, which costs the run nothing. Examples:

    \b
        dfz status last
        dfz status runs/first --watch
        dfz status last --json

    Exit codes: 0; 1 if not all tasks that were meant were ever sent, and no process sends them any more.
    """
    unsent: list[UnsentBatch] = []
    if as_json:
        for found, unsent in _follow(folder, watch):
            incomplete = [
                {
                    "batch": one.meant.name,
                    "sent": one.sent,
                    "meant": one.meant.tasks,
                    "command": one.find_command(folder),
                }
                for one in unsent
            ]
            click.echo(json.dumps({**dataclasses.asdict(found), "incomplete": incomplete}))
    else:
        unsent = _print_table(folder, watch)
    return EXIT_INCOMPLETE if unsent else 0


def _follow(folder: Path, watch: bool) -> Iterator[tuple[RunStatus, list[UnsentBatch]]]:
    """The status now, and unsent batches; with `watch` again each second, until no process works on the run."""
    while True:
        found = find_status(folder)
        yield found, [] if found.working else find_unsent(folder)
        if not (watch and found.working):
            return
        time.sleep(REFRESH_S)


def _print_table(folder: Path, watch: bool) -> list[UnsentBatch]:
    from rich.console import Console

    console = Console(emoji=False, highlight=False)
    if watch and console.is_terminal:
        from rich.live import Live

        with Live(console=console, auto_refresh=False) as live:
            for found, unsent in _follow(folder, watch):
                live.update(_table(found, time.time(), bool(unsent)), refresh=True)
    else:
        *_, (found, unsent) = _follow(folder, watch)  # a pipe or a file gets the last status only
        console.print(_table(found, time.time(), bool(unsent)))
    for one in unsent:
        click.echo(f"incomplete: {safe_line(one.describe(folder))}")
    return unsent


def _table(found: RunStatus, now: float, is_incomplete: bool) -> Table:
    from rich.table import Table

    table = Table.grid(padding=(0, 2))
    table.add_row("run", f"[bold]{marked(found.name or found.run_id)}[/bold]")
    table.add_row("works", marked(describe_work(found, now, is_incomplete)))
    table.add_row("tasks", _tasks(found.counts))
    if found.working:
        table.add_row("rate", _rate(found))
        table.add_row("slots", f"{found.leases:,} of {found.slots:,} in use")
        if found.why_slots:
            table.add_row("pool", marked(found.why_slots))
    for notice in found.notices:
        table.add_row("notice", marked(notice))
    return table


def describe_work(found: RunStatus, now: float, is_incomplete: bool) -> str:
    """The process that works on the run; without one, how to resume the run."""
    who = f"process {found.process} on {found.host}" if found.process else "a process without a status yet"
    if found.working:
        silent = f", silent for {describe_s(now - found.updated_at)}" if now - found.updated_at > SILENCE_S else ""
        return who + silent
    ago = f"{describe_s(max(0.0, now - found.updated_at))} ago"
    last = f"{who} left it {ago}" if found.process else f"written to last {ago}"
    if is_incomplete:
        return f"nobody: {last}, before all of its tasks were sent"
    if found.counts["pending"] + found.counts["running"]:
        return f"nobody: {last}, before its end; it goes on with: dfz resume RUN"
    return f"nobody, for all tasks have ended; {last}"


def _tasks(counts: dict[str, int]) -> str:
    total = sum(counts.values())
    if not total:
        return "none"
    ended = sum(counts[state.label] for state in FINAL)
    listed = ", ".join(f"{count:,} {state}" for state, count in counts.items() if count)
    return f"{total:,}: {listed} ({100 * ended // total} % ended)"


def _rate(found: RunStatus) -> str:
    rate = "not known yet" if found.tasks_per_s is None else f"{found.tasks_per_s:,.1f} tasks/s"
    return rate if found.left_s is None else f"{rate}, about {describe_s(found.left_s)} left"


def describe_s(seconds: float) -> str:
    """A duration in a few words, e.g. `3.5 min`."""
    for size, unit in ((86_400, "days"), (3_600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"
