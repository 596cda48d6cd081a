"""RUN, the argument of the commands that read or change a run: a run folder, or `last`."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click


def run_argument(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the argument RUN and the option `--config`; it is called with `folder` instead of these."""

    @click.argument("run")
    @click.option("--config", metavar="FILE", help="Settings; they say where `last` is looked for.")
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
