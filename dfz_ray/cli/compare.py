"""`dfz compare`."""

from __future__ import annotations

from pathlib import Path

import click

from dfz_ray.cli import EXIT_SOME_FAILED, PATH
from dfz_ray.cli.printing import safe_line


@click.command("compare")
@click.argument("before", metavar="STUDY", type=PATH)
@click.argument("after", metavar="STUDY", type=PATH)
@click.option("--strict", is_flag=True, help="Exit code 1 also where the studies can't tell.")
def compare(before: str, after: str, strict: bool) -> int:
    """Say whether the scaling of a batch has changed from the first STUDY, a folder, to the second.

    The ratio is time after / time before; the 95 % intervals hold together, so that a verdict by chance is rare. The
    two speedups, each over the sequential program of its study, tell whether workers gain as much as before. A number
    of workers that loses tasks is worse, however fast. The last line is the verdict: same, better, worse, or can't
    tell. The exit code is 1 if any number of workers is worse. Facts about host, versions and settings that differ are
    named; studies whose tasks differ are refused. Examples:

    \b
        dfz compare studies/20261101-120000 studies/20261102-120000
        dfz compare studies/main studies/branch
        dfz compare studies/old-machine studies/new-machine --strict
    """
    from rich.console import Console
    from rich.table import Table

    from dfz_ray.scaling.comparison import Study, answers_differ, compare_studies, list_changes, overall

    one, other = Study.read(Path(before)), Study.read(Path(after))
    differences = compare_studies(one, other)
    table = Table(box=None, padding=(0, 1), pad_edge=False, header_style="dim")
    for title in ("Workers", "After / before", "95 %", "Verdict", "Speedups", ""):
        table.add_column(title, no_wrap=bool(title))
    for found in differences:
        name = f"{found.workers} {found.mode}" if found.workers else "sequential"
        ratio = f"{found.ratio.value:.3f}" if found.ratio else "-"
        interval = "{:.3f} to {:.3f}".format(*found.ratio.ci95) if found.ratio and found.ratio.ci95 else "-"
        speedups = [study.find_speedup(found.workers, found.mode) for study in (one, other)]
        shown = ", ".join("-" if speedup is None else f"{speedup:.3g}" for speedup in speedups)
        table.add_row(name, ratio, interval, found.verdict, shown, safe_line(found.reason))
    Console(emoji=False, markup=False, soft_wrap=True).print(table)
    for change in list_changes(one, other):
        click.echo(f"differs: {safe_line(change)}", err=True)
    if answers_differ(one, other):
        click.echo("the answers differ: the two studies have different digests", err=True)
    verdict = overall(differences)
    click.echo(verdict)
    return EXIT_SOME_FAILED if verdict == "worse" or (strict and verdict == "can't tell") else 0
