"""The openings of a run: when, by which driver, with what modules and slots, and the pauses between; see schema.sql."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import NamedTuple

from dfz_ray.errors import JournalDamaged
from dfz_ray.journal.folder import RunFolder
from dfz_ray.journal.journal_file import roll_back_cut_off
from dfz_ray.journal.reader import JournalReader

Import = tuple[str, str]
"""A module that defines domains: `NAME.py` or a module's name, and the absolute folder in which it is found."""


class Opening(NamedTuple):
    """The driver's note on an opening of the run."""

    driver: str
    """An id; another manager of the same driver has the same."""
    imports: tuple[Import, ...] = ()
    slots: int = 0
    """The number of tasks that might execute at once from then on; 0 in the notes of an earlier dfz_ray."""

    def to_json(self) -> str:
        """The form of the journal."""
        return json.dumps(self._asdict())


def read_openings(journal: JournalReader) -> dict[int, Opening]:
    """The notes by epoch; an epoch that a cancellation took, or an earlier dfz_ray, has none."""
    found = {}
    for key, text in journal.query("read_openings"):
        try:
            note = json.loads(text)
            imports = tuple((str(name), str(folder)) for name, folder in note["imports"])
            opening = Opening(str(note["driver"]), imports, int(note.get("slots", 0)))
            found[int(key.removeprefix("opening/"))] = opening
        except (ValueError, TypeError, KeyError):
            raise JournalDamaged(f"what the journal says of an opening can't be read: {text:.80}") from None
    return dict(sorted(found.items()))


def read_imports(folder: Path) -> list[Import]:
    """The modules that the run in a folder was opened with, in their order; none if there is no run.

    Its caller is about to work on the run: a commit that a crash cut off is rolled back.
    """
    if not RunFolder(folder).holds_run():
        return []
    roll_back_cut_off(RunFolder(folder))
    with JournalReader(folder) as journal:
        given = [one for opening in read_openings(journal).values() for one in opening.imports]
    return list({module_name(name): (name, where) for name, where in given}.values())


def module_name(name: str) -> str:
    """The name of the module that `--import` means; a file's is that of the file."""
    return Path(name).stem if name.endswith(".py") else name


def read_slot_changes(journal: JournalReader) -> list[tuple[float, int]]:
    """The times of openings, and of changes of the number of slots, each with the number from then on, in order.

    Times are Unix seconds. A run that is opened again may have another number; with `max_workers="auto"` it changes.
    """
    openings = read_openings(journal)
    changes = [(change.changed_at, change.slots) for change in journal.pool_changes()]
    for epoch, opened_at, _ in journal.query("read_epoch_times"):
        if epoch in openings and openings[epoch].slots:
            changes.append((opened_at, openings[epoch].slots))
    return sorted(changes)


def read_pauses(journal: JournalReader) -> list[tuple[float, float]]:
    """Begin and end, in Unix seconds, of each time when no driver had the run open.

    A pause lasts from the last commit of one epoch to the next epoch. It is none if the same driver opened both: then
    its manager was lost, and the run had to wait for another one.
    """
    openings = read_openings(journal)
    pauses = []
    for (before, _, left_at), (epoch, opened_at, _) in itertools.pairwise(journal.query("read_epoch_times")):
        is_same = before in openings and epoch in openings and openings[before].driver == openings[epoch].driver
        if not is_same and opened_at > left_at:
            pauses.append((left_at, opened_at))
    return pauses
