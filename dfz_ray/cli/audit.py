"""`dfz audit`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from dfz_ray.cli import EXIT_SOME_FAILED
from dfz_ray.cli.run_argument import run_argument

if TYPE_CHECKING:
    from dfz_ray.journal.run_audit import Audit

EXIT_AUDIT_VIOLATION = 4


@click.command("audit")
@run_argument
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def audit(folder: Path, as_json: bool) -> int:
    """Prove from its folder alone that the run RUN, a folder or `last`, has lost, doubled and changed nothing.

    Nothing is changed. dfz_ray/journal/schema.sql states what is checked. Examples:

    \b
        dfz audit last
        dfz audit runs/first
        dfz audit last --json

    Exit codes: 0 no violation; 4 a violation; 1 no violation, but not all tasks that were meant were ever sent.
    """
    from dfz_ray.journal.run_audit import audit_run

    found = audit_run(folder)
    if as_json:
        click.echo(json.dumps(found.to_dict()))
    else:
        _print(found)
    if not found.ok:
        return EXIT_AUDIT_VIOLATION
    return EXIT_SOME_FAILED if found.incomplete else 0


def _print(found: Audit) -> None:
    from rich.console import Console
    from rich.table import Table

    from dfz_ray.cli.printing import marked, safe_line

    table = Table("check", "what there was to look at", "found", box=None, pad_edge=False)
    for check in found.checks:
        looked_at = ", ".join(
            f"{name} {amount[:16]}" if isinstance(amount, str) else f"{amount} {name}"
            for name, amount in check.looked_at.items()
        )
        table.add_row(check.name, marked(looked_at), "violated" if check.violations else "fine")
    Console(emoji=False).print(table)
    for check in found.checks:
        for kind, texts in (("notice", check.notices), ("violation", check.violations)):
            for text in texts:
                click.echo(f"{kind}: {check.name}: {safe_line(text)}")
    for text in found.incomplete:
        click.echo(f"incomplete: {safe_line(text)}")
