"""RUN on the command line: a run folder, or `last`."""

from __future__ import annotations

import os
from pathlib import Path

import click

from dfz_ray.errors import RunFolderRefused
from dfz_ray.specs.settings import Settings

_LAST = ".last"
"""In the folder of runs: the path of the run that was begun last."""


def remember_run(folder: Path, settings: Settings) -> None:
    """Let `last` mean this run; where that can't be noted, say so."""
    runs = Path(settings.journal.runs_folder)
    try:
        runs.mkdir(parents=True, exist_ok=True)
        (runs / _LAST).write_bytes(os.fsencode(folder.absolute()))
    except OSError as error:  # the run itself may lie elsewhere, and be well
        click.echo(f"`last` will not mean this run: {runs} can't be written: {error.strerror or error}", err=True)


def find_run(run: str, settings: Settings) -> Path:
    """The run folder that is meant.

    Raises:
        RunFolderRefused: there is none.
    """
    if run != "last":
        return Path(run)
    pointer = Path(settings.journal.runs_folder) / _LAST
    try:
        return Path(os.fsdecode(pointer.read_bytes()))
    except OSError:
        raise RunFolderRefused(f"no last run is known here: {pointer} can't be read; name a run folder") from None
