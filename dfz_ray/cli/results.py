"""`dfz results`."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from dfz_ray.cli.printing import marked, to_json
from dfz_ray.cli.run_argument import run_argument
from dfz_ray.errors import InvalidInput, Problem
from dfz_ray.specs.problems import describe_names, nearest, show

if TYPE_CHECKING:
    from dfz_ray.journal.record import Record

SHOWN_ROWS = 1000
"""The most rows of the table by default, for it is drawn only once all of its rows are known."""
SHOWN_NAMES = 10


def _check_states(context: click.Context, option: click.Parameter, states: tuple[str, ...]) -> tuple[str, ...]:
    from dfz_ray.specs.states import STATES

    unknown = [state for state in states if state not in STATES]
    if problems := [Problem("--state", show(one), describe_names(STATES), nearest(one, STATES)) for one in unknown]:
        raise InvalidInput(problems, "dfz results")
    return states


@click.command("results")
@run_argument
@click.option(
    "--state",
    multiple=True,
    callback=_check_states,
    metavar="STATE",
    help="Only tasks in this state; a task that runs counts as pending until it has ended. May be repeated.",
)
@click.option("--domain", multiple=True, metavar="NAME", help="Only tasks of this domain; may be repeated.")
@click.option("--kind", multiple=True, metavar="KIND", help="Only tasks of this kind; may be repeated.")
@click.option(
    "--limit", type=click.IntRange(1), metavar="N", help=f"Show so many tasks: {SHOWN_ROWS}, and all with --json."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON record a line.")
def results(
    folder: Path,
    state: tuple[str, ...],
    domain: tuple[str, ...],
    kind: tuple[str, ...],
    limit: int | None,
    as_json: bool,
) -> int:
    """Show the results of RUN, a run folder or `last`; of a run that goes on, the results so far.

    In JSON keys are texts. A mapping with two keys of one text, such as 1 and "1", is printed as a list of pairs.
    Examples:

    \b
        dfz results last
        dfz results runs/first --state failed --limit 20
        dfz results last --domain maze --json
    """
    from dfz_ray.journal.reader import JournalReader

    with JournalReader(folder) as journal:
        kinds = journal.kinds()
        _refuse_unknown("--domain", domain, dict.fromkeys(name for name, _ in kinds))
        _refuse_unknown("--kind", kind, dict.fromkeys(name for _, name in kinds))
        chosen = journal.records().find(state, domain, kind)
        if not as_json:
            _print_table(chosen, limit or SHOWN_ROWS)
            return 0
        for record in itertools.islice(chosen, limit):
            print(to_json(record.to_dict()))
        print(end="", flush=True)
    return 0


def _refuse_unknown(option: str, given: Iterable[str], known: Collection[str]) -> None:
    """Refuse a name that the run does not have: an empty table would look like an answer."""
    shown = ", ".join(map(show, itertools.islice(known, SHOWN_NAMES))) + (", ..." if len(known) > SHOWN_NAMES else "")
    expected = f"one that the run has: {shown}" if known else "none, for the run has no tasks"
    problems = [Problem(option, show(name), expected, nearest(name, known)) for name in given if name not in known]
    if problems:
        raise InvalidInput(problems, "command line")


def _print_table(records: Sequence[Record], limit: int) -> None:
    from rich.console import Console
    from rich.table import Column, Table

    task = Column("task", overflow="fold")  # nobody can use an id that is cut
    table = Table(task, "kind", "state", "seconds", "result or error", box=None, pad_edge=False)
    for record in itertools.islice(records, limit):
        duration = "" if record.duration is None else f"{record.duration:.4f}"
        table.add_row(marked(record.task_id), marked(record.kind), record.status, duration, marked(_short(record)))
    Console(emoji=False).print(table)
    more = len(records) - limit
    if more > 0:
        click.echo(f"... and {more:,} more: --limit {limit + more} shows all, --json prints them")


def _short(record: Record) -> str:
    if record.error:
        return str(record.error).splitlines()[0][:120]
    result = record.result
    score = result.get("main_score") if isinstance(result, dict) else None
    if score is not None:
        told = f"main_score {score:.4g}" if isinstance(score, float) else f"main_score {show(score)}"
        return f"{told}, not converged" if result.get("converged") is False else told
    return "" if result is None else show(result)
