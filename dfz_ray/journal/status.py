"""Where a run stands, for whoever asks: a file that the manager replaces each second, and when it can be believed."""

from __future__ import annotations

import json
import os
from collections import deque
from dataclasses import asdict, dataclass
from pathlib import Path
from types import NoneType
from typing import Any

from dfz_ray.journal.folder import RunFolder
from dfz_ray.journal.lock import LOCK, is_held
from dfz_ray.journal.reader import JournalReader
from dfz_ray.specs.states import STATES

STATUS = "status.json"


@dataclass(frozen=True)
class Status:
    """Where a run stands."""

    run_id: str
    name: str
    epoch: int
    process: int
    """Id of the process that works on the run, or worked on it last; 0 where that is not known."""
    host: str
    updated_at: float
    """When it was so, in Unix seconds."""
    working: bool
    """Whether a process works on the run."""
    counts: dict[str, int]
    """Tasks per state, all five."""
    slots: int
    why_slots: str
    """Where their number follows what pays: why there are so many; else empty."""
    leases: int
    """How many of the slots are in use."""
    tasks_per_s: float | None
    """Over the last seconds."""
    left_s: float | None
    """An estimate of the time until all tasks have ended."""
    commits: int
    """How many commits the journal had."""
    notices: tuple[str, ...] = ()
    """What whoever looks should know, as sentences."""


_TYPES: dict[str, tuple[type, ...]] = {
    "run_id": (str,),
    "name": (str,),
    "epoch": (int,),
    "process": (int,),
    "host": (str,),
    "updated_at": (int, float),
    "working": (bool,),
    "counts": (dict,),
    "slots": (int,),
    "why_slots": (str,),
    "leases": (int,),
    "tasks_per_s": (int, float, NoneType),
    "left_s": (int, float, NoneType),
    "commits": (int,),
    "notices": (list,),
}


def write_status(folder: Path, status: Status) -> None:
    """Replace the status file, so that a reader sees the old one or the new one, whole.

    Raises:
        OSError: it can't be written; the run itself is as well as before.
    """
    part = folder / f"{STATUS}.part"
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        json.dump(asdict(status), file)
    part.replace(folder / STATUS)


def read_status(folder: Path) -> Status | None:
    """What the status file says; None where there is none, or it holds something else."""
    try:
        told = json.loads((folder / STATUS).read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    if not _is_status(told):
        return None
    return Status(**{**told, "notices": tuple(told["notices"])})


def _is_status(told: Any) -> bool:
    return (
        isinstance(told, dict)
        and told.keys() == _TYPES.keys()
        and all(type(told[name]) in types for name, types in _TYPES.items())
        and told["counts"].keys() == set(STATES)
        and all(type(count) is int for count in told["counts"].values())
        and all(type(notice) is str for notice in told["notices"])
    )


def find_status(folder: Path) -> Status:
    """Where the run stands now.

    While a live process works on it, what that told last. Else the journal counts, unless the run was closed properly:
    then what was told last is what the journal holds, and nothing need be counted.

    Raises:
        JournalDamaged: there is no journal, or it can't be read.
    """
    working = is_held(folder)
    noted = read_status(folder)
    is_latest = noted is not None and _is_younger_than_lock(folder)
    if working and noted is not None and is_latest:
        return noted
    with JournalReader(folder) as journal:
        commits = journal.commits()
        if not working and noted is not None and is_latest and not noted.working and noted.commits == commits:
            return noted
        changes = journal.pool_changes()
        return Status(
            run_id=journal.meta.get("run_id", ""),
            name=journal.meta.get("name", ""),
            epoch=noted.epoch if noted and not working else 0,
            process=noted.process if noted and not working else 0,
            host=noted.host if noted and not working else "",
            updated_at=_changed_at(folder),
            working=working,
            counts=journal.counts(),
            slots=changes[-1].slots if changes else int(journal.meta.get("slots", 0)),
            why_slots=changes[-1].reason if changes else "",
            leases=0,
            tasks_per_s=None,
            left_s=None,
            commits=commits,
        )


def _is_younger_than_lock(folder: Path) -> bool:
    """Whether the status file was written since the lock was taken last, so by the one who took it."""
    try:
        taken_at = (folder / LOCK).stat().st_mtime_ns
    except FileNotFoundError:  # a copy, say
        return True
    return (folder / STATUS).stat().st_mtime_ns >= taken_at


def _changed_at(folder: Path) -> float:
    """When the journal was written to last."""
    database = RunFolder(folder).database
    log = database.with_name(f"{database.name}-wal")
    return max(path.stat().st_mtime for path in (database, log) if path.exists())


class Pace:
    """How fast tasks end; it is told the time, and has no clock."""

    WINDOW_S = 10.0
    """What counts as recent."""
    SHORTEST_S = 1.0
    """No rate is told from less."""
    ENOUGH = 10
    """From so many recent ends on, they alone say how long the rest will take."""

    def __init__(self) -> None:
        self._recent: deque[tuple[float, int]] = deque()
        self._first: tuple[float, int] | None = None

    def note(self, now: float, ended: int) -> None:
        """Take note that so many tasks have ended by now, in seconds of any steady clock."""
        if self._first is None:
            self._first = (now, ended)
        self._recent.append((now, ended))
        while len(self._recent) > 1 and self._recent[1][0] <= now - self.WINDOW_S:
            self._recent.popleft()

    @property
    def tasks_per_s(self) -> float | None:
        """Tasks that ended per second, over the last ten seconds; None where too little is known."""
        return self._rate(self._recent[0]) if self._recent else None

    def left_s(self, open_tasks: int) -> float | None:
        """How many seconds that many tasks will take; None where nothing has ended yet to tell it from."""
        if not self._recent or self._first is None:
            return None
        recently = self._recent[-1][1] - self._recent[0][1]
        rate = self._rate(self._recent[0] if recently >= self.ENOUGH else self._first)
        return open_tasks / rate if rate else None

    def _rate(self, since: tuple[float, int]) -> float | None:
        now, ended = self._recent[-1]
        seconds = now - since[0]
        return max(0, ended - since[1]) / seconds if seconds >= self.SHORTEST_S else None
