"""RUN, the argument of the commands that read or change a run: a run folder, or `last`."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dfz_ray.errors import RunFolderRefused

if TYPE_CHECKING:
    from dfz_ray.specs.settings import Settings

_LAST = ".last"
"""A file in the folder of runs, which holds the path of the run that was begun last."""


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
    from dfz_ray.specs.settings import read_settings

    return find_run(run, read_settings(config))


def find_run(run: str, settings: Settings) -> Path:
    """The run folder that RUN means. Raises RunFolderRefused if there is none."""
    if run != "last":
        return Path(run)
    from dfz_ray.journal.regular_file import read_small

    pointer = Path(settings.journal.runs_folder) / _LAST
    try:
        return Path(os.fsdecode(read_small(pointer)))
    except OSError:
        raise RunFolderRefused(f"no last run is known here: {pointer} can't be read; name a run folder") from None


def remember_run(folder: Path, settings: Settings) -> None:
    """Let `last` mean this run. If that can't be written, print a notice."""
    from dfz_ray.journal.folder import write_whole

    runs = Path(settings.journal.runs_folder)
    try:
        runs.mkdir(parents=True, exist_ok=True)
        write_whole(runs / _LAST, os.fsencode(folder.absolute()))
    except OSError as error:  # the run itself may lie elsewhere, and be well
        click.echo(f"`last` will not mean this run: {runs} can't be written: {error.strerror or error}", err=True)
