"""`dfz examples`."""

from __future__ import annotations

import importlib.resources
from pathlib import Path

import click

from dfz_ray.cli import PATH
from dfz_ray.errors import InvalidInput, Problem


@click.command("examples")
@click.argument("folder", default="configs", type=PATH)
def examples(folder: str) -> int:
    """Write the example batches, and the settings with their explanations, into FOLDER [configs].

    Files that are there already are left as they are. Examples:

    \b
        dfz examples
        dfz examples my_batches
        dfz examples ~/configs
    """
    target, kept = Path(folder), 0
    try:
        target.mkdir(parents=True, exist_ok=True)
        for example in (importlib.resources.files("dfz_ray") / "configs").iterdir():
            try:
                with (target / example.name).open("x", encoding="utf-8") as file:
                    file.write(example.read_text(encoding="utf-8"))
            except FileExistsError:
                kept += 1
    except OSError as error:
        problem = Problem("FOLDER", repr(folder), f"a folder that can be written ({error.strerror or error})")
        raise InvalidInput([problem], "command line") from None
    names = sorted(path.name for path in target.glob("*.yaml"))
    note = f" ({kept} were there already, and are as they were)" if kept else ""
    click.echo(f"{folder}: {', '.join(names)}{note}")
    click.echo(f"try: dfz run {target / 'sorting.yaml'}")
    return 0
