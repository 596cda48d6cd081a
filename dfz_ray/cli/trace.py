"""`dfz trace`."""

from __future__ import annotations

import json
from pathlib import Path

import click

from dfz_ray.cli import PATH
from dfz_ray.cli.run_argument import run_argument
from dfz_ray.errors import InvalidInput, Problem


@click.command("trace")
@run_argument
@click.option("--output", metavar="FILE", type=PATH, default="trace.json", help="Where the trace goes [trace.json].")
def trace(folder: Path, output: str) -> int:
    """Write the trace of RUN, a run folder or `last`: which slot executed which task when, and what failed.

    Open the file at https://ui.perfetto.dev (it stays in the browser) or in chrome://tracing. Examples:

    \b
        dfz trace last
        dfz trace runs/first --output first.json
        dfz trace runs/first --output /tmp/first.json
    """
    from dfz_ray.journal.trace import trace_events

    events, lines = trace_events(folder), 0
    first = next(events, None)
    try:
        _refuse_files_of(folder, Path(output))
        with Path(output).open("w", encoding="utf-8") as file:
            file.write('{"displayTimeUnit": "ms", "traceEvents": [\n')
            while first is not None:
                following = next(events, None)
                file.write(json.dumps(first) + (",\n" if following is not None else "\n"))
                first, lines = following, lines + 1
            file.write("]}\n")
    except OSError as error:
        problem = Problem("--output", repr(output), f"a file that can be written ({error.strerror or error})")
        raise InvalidInput([problem], "command line") from None
    click.echo(f"{output}: {lines} events; open it at https://ui.perfetto.dev")
    return 0


def _refuse_files_of(run: Path, output: Path) -> None:
    """Refuse to write over a file of the run, such as its journal."""
    if output.exists() and run.resolve() in output.resolve().parents:
        expected = "a new file, or one outside the run folder"
        raise InvalidInput([Problem("--output", repr(str(output)), expected)], "command line")
