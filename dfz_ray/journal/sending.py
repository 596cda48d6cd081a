"""The tasks of a batch that were meant, and those that were sent: a driver may end in between; see schema.sql."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

from dfz_ray.errors import JournalDamaged
from dfz_ray.journal.lock import is_held
from dfz_ray.journal.reader import JournalReader


class MeantBatch(NamedTuple):
    """A batch as its driver means to send it."""

    name: str
    tasks: int
    command: tuple[str, ...] = ()
    """The words of the command that sends it, without the run folder; empty if a program sent it."""

    def to_json(self) -> str:
        """The form of the journal."""
        return json.dumps(self._asdict())

    @classmethod
    def of_json(cls, text: str) -> MeantBatch:
        """Read it from the journal. Raises JournalDamaged if it is something else."""
        try:
            read = json.loads(text)
            name, tasks, command = read["name"], read["tasks"], read["command"]
        except (ValueError, TypeError, KeyError):
            name, tasks, command = None, None, None
        if not (isinstance(name, str) and type(tasks) is int and tasks >= 0 and isinstance(command, list)):
            raise JournalDamaged(f"what the journal says of a batch that was meant can't be read: {text:.80}")
        return cls(name, tasks, tuple(map(str, command)))


class UnsentBatch(NamedTuple):
    """A batch of which tasks are lacking."""

    number: int
    sent: int
    meant: MeantBatch

    def find_command(self, folder: Path) -> str | None:
        """The command that sends the rest; None if a program sent the batch."""
        words = (*self.meant.command, "--run-dir", str(folder.absolute()))
        return shlex.join(words) if self.meant.command else None

    def describe(self, folder: Path) -> str:
        """The two numbers, and how to send the rest, in a sentence."""
        command = self.find_command(folder)
        how = (
            f"the rest is sent by: {command}"
            if command
            else (f"the rest is sent by calling run() again with the same batch and run_dir={str(folder.absolute())!r}")
        )
        return f"of the {self.meant.tasks:,} tasks of batch {self.meant.name!r} only {self.sent:,} were sent; {how}"


Query = Callable[[str], Iterable[Any]]
"""Returns the rows that a statement of schema.sql finds."""


def read_meant(query: Query) -> dict[int, MeantBatch]:
    """The batches that were announced, by number. Of several announcements of one the latest counts."""
    latest: dict[int, tuple[int, str]] = {}
    for key, text in query("read_meant"):
        _, number, epoch = key.split("/")
        latest[int(number)] = max((int(epoch), text), latest.get(int(number), (-1, "")))
    return {number: MeantBatch.of_json(text) for number, (_, text) in sorted(latest.items())}


def read_unsent(query: Query) -> list[UnsentBatch]:
    """The batches of which the journal lacks tasks; while a driver sends, they are on their way."""
    sent = dict(query("count_sent"))
    found = [UnsentBatch(number, sent.get(number, 0), meant) for number, meant in read_meant(query).items()]
    return [batch for batch in found if batch.sent < batch.meant.tasks]


def find_unsent(folder: Path) -> list[UnsentBatch]:
    """The batches of which a run lacks tasks; none while a process works on the run, since its driver may send them.

    Raises JournalDamaged if the journal is missing or can't be read.
    """
    if is_held(folder):
        return []
    with JournalReader(folder) as journal:
        found = read_unsent(journal.query)
    return [] if is_held(folder) else found
