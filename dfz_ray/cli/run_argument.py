"""RUN, the argument of the commands that read or change a run: a run folder, or `last`."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

from dfz_ray.cli import PATH


def complete_run(_: click.Context, __: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The words that a shell offers for RUN: `last` and the runs of this folder, else any folder."""
    runs = sorted(str(database.parent) for database in Path("runs").glob("*/run.sqlite"))
    fitting = [CompletionItem(name) for name in ("last", *runs) if name.startswith(incomplete)]
    return fitting or [CompletionItem(incomplete, type="dir")]


def run_argument(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the argument RUN and the option `--config`; it is called with `folder` instead of these."""

    @click.argument("run", shell_complete=complete_run)
    @click.option("--config", metavar="FILE", type=PATH, help="Settings; they say where `last` is looked for.")
    @functools.wraps(command)
    def with_folder(run: str, config: str | None, **options: Any) -> Any:
        return command(folder=_find_folder(run, config), **options)

    return with_folder


def _find_folder(run: str, config: str | None) -> Path:
    if run != "last" and config is None:
        return Path(run)  # without reading the settings, which takes longer than most commands
    from dfz_ray.journal.last_run import find_run
    from dfz_ray.specs.settings import read_settings

    return find_run(run, read_settings(config))
