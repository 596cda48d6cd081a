"""`last`, the run that the command line has begun or resumed last."""

from __future__ import annotations

import logging
import os
from pathlib import Path

from dfz_ray.errors import RunFolderRefused
from dfz_ray.journal.folder import write_whole
from dfz_ray.journal.regular_file import read_small
from dfz_ray.specs.settings import Settings

logger = logging.getLogger("dfz_ray")

_LAST = ".last"
"""A file in the folder of runs, which holds the path of that run."""


def find_run(run: str, settings: Settings) -> Path:
    """The run folder that RUN means. Raises RunFolderRefused if there is none."""
    if run != "last":
        return Path(run)
    pointer = Path(settings.journal.runs_folder) / _LAST
    try:
        return Path(os.fsdecode(read_small(pointer)))
    except OSError:
        raise RunFolderRefused(f"no last run is known here: {pointer} can't be read; name a run folder") from None


def remember_run(folder: Path, settings: Settings) -> None:
    """Let `last` mean this run. If that can't be written, log a warning."""
    runs = Path(settings.journal.runs_folder)
    try:
        runs.mkdir(parents=True, exist_ok=True)
        write_whole(runs / _LAST, os.fsencode(folder.absolute()))
    except OSError as error:  # the run itself may lie elsewhere, and be well
        logger.warning("`last` will not mean this run: %s can't be written: %s", runs, error.strerror or error)
