"""The modules with which this user has begun runs: `dfz resume` imports those again without being asked.

To import is to execute, and a run folder may come from somebody else. So a module that it names is imported only if a
note outside it, in the user's state folder, says the same of that place. Of a module within a run folder, which comes
with it, there is no note. Once there are many notes, the oldest ones go whose runs are gone.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
from collections.abc import Iterable
from pathlib import Path

from dfz_ray.errors import DfzError
from dfz_ray.journal.folder import write_whole
from dfz_ray.journal.openings import Import
from dfz_ray.journal.regular_file import read_small

logger = logging.getLogger("dfz_ray")

MANY_NOTES = 1_000
"""So many notes stay whatever has become of their runs: a folder may be away for a while, with its disk."""
LOOKED_AT = 100
"""The most notes that one command looks at, to remove them."""


def remember_imports(run: Path, imports: Iterable[Import]) -> None:
    """Note that this user begins the run in a folder with these modules. If that can't be written, log a warning."""
    place = os.path.realpath(run)
    outside = [one for one in imports if not _file_of(*one).is_relative_to(place)]
    if not outside:
        return
    try:
        note = _note_of(place)
        note.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_whole(note, json.dumps({"run": place, "imports": outside}).encode(), mode=0o600)
    except (OSError, RuntimeError, DfzError) as error:  # RuntimeError: the user has no home
        logger.warning("whoever goes on here will be asked for --import: no note of it can be written: %s", error)
        return
    with contextlib.suppress(OSError, DfzError):  # another command may remove them at the same time
        _remove_notes_of_lost_runs(note)


def find_remembered(run: Path) -> set[Import]:
    """The modules with which this user has begun the run in a folder, as far as notes say so."""
    place = os.path.realpath(run)
    try:
        found = json.loads(read_small(_note_of(place)))
        return {(str(name), str(folder)) for name, folder in found["imports"]} if found["run"] == place else set()
    except (OSError, RuntimeError, ValueError, TypeError, KeyError, DfzError):  # no note: --import is asked for
        return set()


def _remove_notes_of_lost_runs(newest: Path) -> None:
    """Remove some of the oldest notes beside the newest, of runs whose folders are gone, if there are many."""
    others = (note for note in newest.parent.glob("*.json") if note != newest)
    by_age = sorted(others, key=lambda note: note.lstat().st_mtime)
    for note in by_age[: min(LOOKED_AT, max(0, len(by_age) - MANY_NOTES))]:
        try:
            is_lost = not os.path.lexists(json.loads(read_small(note))["run"])
        except (ValueError, TypeError, KeyError):  # it says nothing
            is_lost = True
        if is_lost:
            note.unlink(missing_ok=True)


def _note_of(place: str) -> Path:
    """The file that says with which modules this user has begun the run at this place."""
    given = os.environ.get("XDG_STATE_HOME", "")
    state = Path(given) if os.path.isabs(given) else Path.home() / ".local" / "state"
    return state / "dfz_ray" / "imports" / f"{hashlib.sha256(os.fsencode(place)).hexdigest()}.json"


def _file_of(name: str, folder: str) -> Path:
    parts = [name] if name.endswith(".py") else name.split(".")
    return Path(os.path.realpath(Path(folder, *parts)))
