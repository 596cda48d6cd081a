"""`dfz domains`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from dfz_ray.cli.options import import_option
from dfz_ray.cli.printing import marked
from dfz_ray.errors import InvalidInput, Problem
from dfz_ray.specs.problems import describe_names, nearest, show

if TYPE_CHECKING:
    from dfz_ray.domains.domain import Domain


@click.command("domains")
@click.argument("name", required=False)
@import_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON: with NAME, the JSON schema of its parameters.")
def domains(name: str | None, modules: tuple[str, ...], as_json: bool) -> int:
    """Show the domains that are known here; with NAME, the parameters and result keys of one. Examples:

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
        click.echo(json.dumps(_schema_of(domain))) if as_json else _print_domain(Console(emoji=False), domain)
        return 0
    rows = [_describe(one) for one in known]
    if as_json:
        click.echo(json.dumps([{"domain": one, "summary": summary, "missing": lack} for one, summary, _, lack in rows]))
        return 0
    from rich.table import Table

    table = Table("domain", "what it does", "needs", box=None, pad_edge=False)
    for one, summary, needs, lack in rows:
        table.add_row(marked(one), marked(summary), marked(lack or needs))
    Console(emoji=False).print(table)
    return 0


def _describe(name: str) -> tuple[str, str, str, str]:
    """Name, summary, resources, and the reason why the domain can't be used, if there is one."""
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


def _print_domain(console: Any, domain: Domain) -> None:
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
    if domain.results:
        results = Table("result key", "meaning", box=None, pad_edge=False)
        for key, meaning in domain.results.items():
            results.add_row(marked(key), marked(meaning))
        console.print()
        console.print(results)


def _schema_of(domain: Domain) -> dict[str, Any]:
    """The JSON schema of a domain's parameters, without types that such a schema can't express (e.g. functions)."""
    from pydantic.json_schema import GenerateJsonSchema

    from dfz_ray.journal.record import json_value

    class Lenient(GenerateJsonSchema):
        ignored_warning_kinds = {"skipped-choice", "non-serializable-default"}  # noqa: RUF012 - as its base has it

        def handle_invalid_for_json_schema(self, schema: Any, error_info: str) -> dict[str, Any]:
            return {}

    schema: dict[str, Any] = json_value(domain.parameters.model_json_schema(schema_generator=Lenient))
    return schema


def _values(schema: dict[str, Any]) -> str:
    """The values that a JSON schema allows, in a few words."""
    if "anyOf" in schema:
        return " or ".join(text for option in schema["anyOf"] if (text := _values(option)) and text != "null")
    if "enum" in schema:
        return ", ".join(str(value) for value in schema["enum"])
    low, high = schema.get("minimum", schema.get("exclusiveMinimum")), schema.get("maximum")
    kind = str(schema.get("type", ""))
    return f"{kind} {low} to {high}" if low is not None and high is not None else kind
