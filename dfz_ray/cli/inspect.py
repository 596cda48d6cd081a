"""`dfz domains` and `dfz results`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

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
    from rich.markup import escape
    from rich.table import Table

    table = Table("domain", "what it does", "needs", box=None, pad_edge=False)
    for one, summary, needs, lack in told:
        table.add_row(escape(one), escape(summary), escape(lack or needs))
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
    from rich.markup import escape
    from rich.table import Table

    console.print(f"[bold]{escape(domain.name)}[/bold]: {escape(domain.summary or 'a user-defined domain')}")
    console.print(escape(f"a task needs {domain.resources.describe()} unless it says otherwise"))
    table = Table("parameter", "default", "values", "meaning", box=None, pad_edge=False)
    schema = _schema_of(domain).get("properties", {})
    for name, field in domain.parameters.model_fields.items():
        default = "required" if field.is_required() else str(field.default)
        row = (name, default, _values(schema.get(name, {})), field.description or "")
        table.add_row(*map(escape, row))
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


@click.command("results")
@click.argument("run")
@click.option("--state", multiple=True, metavar="STATE", help="Only tasks in this state.")
@click.option("--domain", multiple=True, metavar="NAME", help="Only tasks of this domain.")
@click.option("--kind", multiple=True, metavar="KIND", help="Only tasks of this kind.")
@click.option("--config", metavar="FILE", help="Settings; they say where `last` is looked for.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON record a line.")
def results(
    run: str,
    state: tuple[str, ...],
    domain: tuple[str, ...],
    kind: tuple[str, ...],
    config: str | None,
    as_json: bool,
) -> int:
    """Show the results of RUN, a run folder or `last`. Examples:

    \b
        dfz results last
        dfz results runs/first --state failed
        dfz results last --domain maze --json
    """
    from dfz_ray.cli.run_folder import find_run
    from dfz_ray.journal.reader import STATES, JournalReader
    from dfz_ray.specs.settings import read_settings

    for word in state:
        if word not in STATES:
            raise InvalidInput(
                [Problem("--state", show(word), describe_names(STATES), nearest(word, STATES))], "dfz results"
            )
    with JournalReader(find_run(run, read_settings(config))) as journal:
        chosen = (
            record
            for record in journal.records()
            if (not state or record.status in state)
            and (not domain or record.domain in domain)
            and (not kind or record.kind in kind)
        )
        if as_json:
            for record in chosen:
                click.echo(json.dumps(record.to_dict()))
        else:
            _tell_records(chosen)
    return 0


def _tell_records(records: Any) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table("task", "kind", "state", "seconds", "result or error", box=None, pad_edge=False)
    for record in records:
        duration = "" if record.duration is None else f"{record.duration:.4f}"
        table.add_row(escape(record.task_id), escape(record.kind), record.status, duration, escape(_short(record)))
    Console(emoji=False).print(table)


def _short(record: Record) -> str:
    if record.error:
        return str(record.error).splitlines()[0][:120]
    result = record.result
    if isinstance(result, dict) and "main_score" in result:
        return f"main_score {result['main_score']:.4g}"
    return "" if result is None else show(result)
