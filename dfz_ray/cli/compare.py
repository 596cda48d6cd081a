"""`dfz compare`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from dfz_ray.cli import EXIT_SOME_FAILED, PATH
from dfz_ray.cli.printing import safe_line

if TYPE_CHECKING:
    from dfz_ray.scaling.estimate import Estimate

LINE = 120
"""The table is at least so many characters wide, also where a terminal is narrower: else numbers would be cut off."""


@click.command("compare")
@click.argument("before", metavar="STUDY", type=PATH)
@click.argument("after", metavar="STUDY", type=PATH)
@click.option("--strict", is_flag=True, help="Exit code 1 also where the studies can't tell.")
def compare(before: str, after: str, strict: bool) -> int:
    """Say whether the scaling of a batch has changed from the first STUDY, a folder, to the second.

    What is judged is the speedup over the sequential program of each study, after / before: two studies are made at two
    times, and what the machine does in one of them slows both programs alike. The times are beside it: they judge only
    where a study has no sequential program. Of equal studies few get a verdict by chance, if their repeats are
    independent: the 95 % intervals hold together. A number of workers that loses tasks is worse, however fast. Below
    the table are the reasons of the verdicts; the last line is the verdict on all of them: same, better, worse, or
    can't tell. The exit code is 1 if any number of workers is worse. Facts about host, versions and settings that
    differ are named; studies whose tasks differ are refused. That the answers differ is said on stderr, and changes
    neither verdict nor exit code. Examples:

    \b
        dfz compare studies/20261101-120000 studies/20261102-120000
        dfz compare studies/main studies/branch
        dfz compare studies/old-machine studies/new-machine --strict
    """
    from rich.console import Console
    from rich.table import Table

    from dfz_ray.scaling.comparison import (
        Study,
        answers_differ,
        compare_studies,
        describe_times,
        list_changes,
        overall,
    )
    from dfz_ray.scaling.entries import name_slots

    one, other = Study.read(Path(before)), Study.read(Path(after))
    differences = compare_studies(one, other)
    table = Table(box=None, padding=(0, 1), pad_edge=False, header_style="dim")
    for title in ("Workers", "Speedups", "After / before", "95 %", "Verdict", "Times", "95 %"):
        table.add_column(title, no_wrap=True)
    reasons = []
    for found in differences:
        name = name_slots(found.workers, found.mode) if found.workers else "sequential"
        speedups = [study.find_speedup(found.workers, found.mode) for study in (one, other)]
        shown = ", ".join("-" if speedup is None else f"{speedup:.3g}" for speedup in speedups)
        table.add_row(name, shown, *_show(found.speedups), found.verdict or "-", *_show(found.times))
        if found.reason:  # below the table: in a column a terminal would have few characters of it
            reasons.append(f"{name}: {safe_line(found.reason)}")
    console = Console(emoji=False, markup=False, soft_wrap=True)
    console.width = max(console.width, LINE)
    console.print(table)
    for reason in reasons:
        click.echo(reason)
    if said := describe_times(found.times for found in differences if found.times_differ):
        click.echo(said)
    for change in list_changes(one, other):
        click.echo(f"differs: {safe_line(change)}", err=True)
    if answers_differ(one, other):
        click.echo("the answers differ: the two studies have different digests", err=True)
    whole = overall(differences)
    click.echo(whole)
    return EXIT_SOME_FAILED if whole == "worse" or (strict and whole == "can't tell") else 0


def _show(ratio: Estimate | None) -> tuple[str, str]:
    """A ratio and its interval."""
    ends = ratio.ci95 if ratio else None
    return f"{ratio.value:.3f}" if ratio else "-", f"{ends[0]:.3f} to {ends[1]:.3f}" if ends else "-"
