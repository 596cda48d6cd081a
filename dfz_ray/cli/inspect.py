"""`dfz domains` and `dfz results`."""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dfz_ray.cli.printing import marked
from dfz_ray.cli.run_argument import run_argument
from dfz_ray.errors import InvalidInput, Problem
from dfz_ray.specs.problems import describe_names, nearest, show

if TYPE_CHECKING:
    from dfz_ray.domains.domain import Domain
    from dfz_ray.journal.record import Record


@click.command("domains")
@click.argument("name", required=False)
@click.option("--import", "modules", multiple=True, metavar="MODULE|FILE.py", help="A module that defines domains.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON: with NAME, the JSON schema of its parameters.")
def domains(name: str | None, modules: tuple[str, ...], as_json: bool) -> int:
    """Show the domains that are known here; with NAME, the parameters of one. Examples:

    \b
        dfz domains
        dfz domains maze
        dfz domains coin --import coins.py --json
    """
    from rich.console import Console

    from dfz_ray.cli.domain_modules import import_domain_modules
    from dfz_ray.domains.registry import REGISTRY

    import_domain_modules(modules)
    known = REGISTRY.names()
    if name is not None and name not in known:
        raise InvalidInput([Problem("NAME", show(name), describe_names(known), nearest(name, known))], "dfz domains")
    if name is not None:
        domain = REGISTRY.get(name)
        click.echo(json.dumps(_schema_of(domain))) if as_json else _tell_domain(Console(emoji=False), domain)
        return 0
    told = [_describe(one) for one in known]
    if as_json:
        click.echo(json.dumps([{"domain": one, "summary": summary, "missing": lack} for one, summary, _, lack in told]))
        return 0
    from rich.table import Table

    table = Table("domain", "what it does", "needs", box=None, pad_edge=False)
    for one, summary, needs, lack in told:
        table.add_row(marked(one), marked(summary), marked(lack or needs))
    Console(emoji=False).print(table)
    return 0


def _describe(name: str) -> tuple[str, str, str, str]:
    """Name, summary, needs, and what stands in the way of using it; also of a domain that can't be loaded."""
    from dfz_ray.domains.registry import REGISTRY
    from dfz_ray.errors import DfzError

    summary = needs = ""
    try:
        domain = REGISTRY.get(name)
        summary, needs = domain.summary, domain.resources.describe()
        domain.require_libraries()
    except DfzError as error:
        return name, summary, needs, str(error)
    return name, summary, needs, ""


def _tell_domain(console: Any, domain: Domain) -> None:
    from rich.table import Table

    console.print(f"[bold]{marked(domain.name)}[/bold]: {marked(domain.summary or 'a user-defined domain')}")
    console.print(marked(f"a task needs {domain.resources.describe()} unless it says otherwise"))
    table = Table("parameter", "default", "values", "meaning", box=None, pad_edge=False)
    schema = _schema_of(domain).get("properties", {})
    for name, field in domain.parameters.model_fields.items():
        default = "required" if field.is_required() else str(field.default)
        row = (name, default, _values(schema.get(name, {})), field.description or "")
        table.add_row(*map(marked, row))
    console.print(table)


def _schema_of(domain: Domain) -> dict[str, Any]:
    """The JSON schema of a domain's parameters, without what such a schema has no words for (functions, say)."""
    from pydantic.json_schema import GenerateJsonSchema

    from dfz_ray.journal.record import json_value

    class Lenient(GenerateJsonSchema):
        ignored_warning_kinds = {"skipped-choice", "non-serializable-default"}  # noqa: RUF012 - as its base has it

        def handle_invalid_for_json_schema(self, schema: Any, error_info: str) -> dict[str, Any]:
            return {}

    schema: dict[str, Any] = json_value(domain.parameters.model_json_schema(schema_generator=Lenient))
    return schema


def _values(schema: dict[str, Any]) -> str:
    """What a JSON schema allows, in a few words."""
    if "anyOf" in schema:
        return " or ".join(text for option in schema["anyOf"] if (text := _values(option)) and text != "null")
    if "enum" in schema:
        return ", ".join(str(value) for value in schema["enum"])
    low, high = schema.get("minimum", schema.get("exclusiveMinimum")), schema.get("maximum")
    kind = str(schema.get("type", ""))
    return f"{kind} {low} to {high}" if low is not None and high is not None else kind


SHOWN_ROWS = 1000
"""Of the table, unless more are asked for; a table is drawn when all of its rows are known."""


def _check_states(context: click.Context, option: click.Parameter, states: tuple[str, ...]) -> tuple[str, ...]:
    from dfz_ray.specs.states import STATES

    problems = [
        Problem("--state", show(word), describe_names(STATES), nearest(word, STATES))
        for word in states
        if word not in STATES
    ]
    if problems:
        raise InvalidInput(problems, "dfz results")
    return states


@click.command("results")
@run_argument
@click.option(
    "--state",
    multiple=True,
    callback=_check_states,
    metavar="STATE",
    help="Only tasks in this state; a task that runs counts as pending until it has ended.",
)
@click.option("--domain", multiple=True, metavar="NAME", help="Only tasks of this domain.")
@click.option("--kind", multiple=True, metavar="KIND", help="Only tasks of this kind.")
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
    """Show the results of RUN, a run folder or `last`; while it goes on, those that there are. Examples:

    \b
        dfz results last
        dfz results runs/first --state failed --limit 20
        dfz results last --domain maze --json
    """
    from dfz_ray.journal.reader import JournalReader

    with JournalReader(folder) as journal:
        chosen = (
            record
            for record in journal.records()
            if (not state or record.status in state)
            and (not domain or record.domain in domain)
            and (not kind or record.kind in kind)
        )
        if as_json:
            _print_lines(itertools.islice(chosen, limit))
        else:
            _tell_records(chosen, limit or SHOWN_ROWS)
    return 0


def _print_lines(records: Iterator[Record]) -> None:
    for record in records:
        sys.stdout.write(f"{json.dumps(record.to_dict())}\n")
    sys.stdout.flush()


def _tell_records(records: Iterator[Record], limit: int) -> None:
    from rich.console import Console
    from rich.table import Column, Table

    task = Column("task", overflow="fold")  # an id that is cut is of no use to anyone
    table = Table(task, "kind", "state", "seconds", "result or error", box=None, pad_edge=False)
    for record in itertools.islice(records, limit):
        duration = "" if record.duration is None else f"{record.duration:.4f}"
        table.add_row(marked(record.task_id), marked(record.kind), record.status, duration, marked(_short(record)))
    Console(emoji=False).print(table)
    more = sum(1 for _ in records)
    if more:
        click.echo(f"... and {more:,} more: --limit {limit + more} shows all, --json prints them")


def _short(record: Record) -> str:
    if record.error:
        return str(record.error).splitlines()[0][:120]
    result = record.result
    score = result.get("main_score") if isinstance(result, dict) else None
    if score is not None:
        return f"main_score {score:.4g}" if isinstance(score, float) else f"main_score {show(score)}"
    return "" if result is None else show(result)
