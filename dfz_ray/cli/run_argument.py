"""RUN, the argument of the commands that look at a run or change it, and the `--config` that `last` needs."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click


def run_argument(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command RUN and `--config`; it is called with the `folder` of the run instead."""

    @click.argument("run")
    @click.option("--config", metavar="FILE", help="Settings; they say where `last` is looked for.")
    @functools.wraps(command)
    def with_folder(run: str, config: str | None, **options: Any) -> Any:
        return command(folder=_find_folder(run, config), **options)

    return with_folder


def _find_folder(run: str, config: str | None) -> Path:
    if run != "last" and config is None:
        return Path(run)  # without the settings: reading them takes longer than most answers
    from dfz_ray.cli.run_folder import find_run
    from dfz_ray.specs.settings import read_settings

    return find_run(run, read_settings(config))
