"""The status of a run: a file in its folder that the manager replaces each second, and counting where that is stale."""

from __future__ import annotations

import json
from collections import deque
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from types import NoneType
from typing import Any

from dfz_ray.journal.folder import STATUS, RunFolder, write_whole
from dfz_ray.journal.lock import LOCK, is_held
from dfz_ray.journal.openings import read_slot_changes
from dfz_ray.journal.reader import JournalReader
from dfz_ray.journal.regular_file import read_small
from dfz_ray.journal.run_activity import Activity, are_counts


@dataclass(frozen=True)
class RunStatus:
    """The progress of a run, and the process that works on it."""

    run_id: str
    name: str
    epoch: int
    process: int
    """Id of the process that works on the run or did so last; 0 if it is not known."""
    host: str
    updated_at: float
    """The time that this describes, in Unix seconds."""
    working: bool
    """True while a process works on the run."""
    counts: dict[str, int]
    """Tasks per state, all five."""
    slots: int
    why_slots: str
    """With `max_workers="auto"`: the reason for this number of slots; else empty."""
    leases: int
    """Slots in use."""
    tasks_per_s: float | None
    """Over the last seconds."""
    left_s: float | None
    """An estimate of the time until all tasks have ended."""
    commits: int
    """Commits in the journal."""
    notices: tuple[str, ...] = ()
    """Sentences that a user should read."""
    activity: Activity | None = None
    """The run's activity, as the process that worked on the run last wrote it; None if that is not known."""


_JSON_TYPES: dict[str, tuple[type, ...]] = {
    "str": (str,),
    "int": (int,),
    "bool": (bool,),
    "float": (int, float),
    "float | None": (int, float, NoneType),
    "dict[str, int]": (dict,),
    "tuple[str, ...]": (list,),
    "Activity | None": (dict, NoneType),
}
"""The types that JSON gives for a field, by the annotation of the field."""


def write_status(folder: Path, status: RunStatus) -> None:
    """Replace the status file: a reader sees the old one or the new one, whole."""
    write_whole(folder / STATUS, json.dumps(asdict(status)).encode(), mode=0o600)


def read_status(folder: Path) -> RunStatus | None:
    """Read the status file; None if it is missing or holds anything else."""
    content = _read_json(folder)
    if not _is_status(content):
        return None
    try:
        activity = None if content["activity"] is None else Activity.of_json(content["activity"])
    except ValueError:
        return None
    return RunStatus(**{**content, "notices": tuple(content["notices"]), "activity": activity})


def read_acknowledged_commits(folder: Path) -> int | None:
    """Read how many commits were on disk when the status file was written; None if it does not say so."""
    content = _read_json(folder)
    commits = content.get("commits") if isinstance(content, dict) else None
    return commits if type(commits) is int else None


def read_counts(folder: Path) -> tuple[dict[str, int], bool] | None:
    """Read tasks per state, and whether a process worked on the run then; None if the status file does not say so."""
    content = _read_json(folder)
    if isinstance(content, dict) and are_counts(content.get("counts")):
        return content["counts"], content.get("working") is not False
    return None


def _read_json(folder: Path) -> Any:
    try:
        return json.loads(read_small(folder / STATUS))
    except (OSError, ValueError, RecursionError):
        return None


def _is_status(content: Any) -> bool:
    return (
        isinstance(content, dict)
        and content.keys() == {field.name for field in fields(RunStatus)}
        and all(type(content[field.name]) in _JSON_TYPES[str(field.type)] for field in fields(RunStatus))
        and are_counts(content["counts"])
        and all(type(notice) is str for notice in content["notices"])
    )


def find_status(folder: Path) -> RunStatus:
    """Find the status of a run now.

    While a live process works on the run, the status file is up to date. It stays so if the run was closed properly,
    for then it describes the last commit. In all other cases the journal is counted.

    Raises JournalDamaged if the journal is missing or can't be read.
    """
    working = is_held(folder)
    written = read_status(folder)
    is_latest = written is not None and _is_younger_than_lock(folder)
    if working and written is not None and is_latest:
        return written
    with JournalReader(folder) as journal:
        commits = journal.commits()
        if not working and written is not None and is_latest and not written.working and written.commits == commits:
            return written
        changes, pool = read_slot_changes(journal), journal.pool_changes()
        return RunStatus(
            run_id=journal.meta.get("run_id", ""),
            name=journal.meta.get("name", ""),
            epoch=written.epoch if written and not working else 0,
            process=written.process if written and not working else 0,
            host=written.host if written and not working else "",
            updated_at=_changed_at(folder),
            working=working,
            counts=journal.counts(),
            slots=changes[-1][1] if changes else int(journal.meta.get("slots", 0)),
            why_slots=pool[-1].reason if pool else "",
            leases=0,
            tasks_per_s=None,
            left_s=None,
            commits=commits,
        )


def _is_younger_than_lock(folder: Path) -> bool:
    """True if the status file was written by the process that took the lock last."""
    try:
        taken_at = (folder / LOCK).stat().st_mtime_ns
    except FileNotFoundError:  # e.g. a copy of a run folder
        return True
    return (folder / STATUS).stat().st_mtime_ns >= taken_at


def _changed_at(folder: Path) -> float:
    """The time of the last write to the journal."""
    database = RunFolder(folder).database
    log = database.with_name(f"{database.name}-wal")
    return max(path.stat().st_mtime for path in (database, log) if path.exists())


class ThroughputMeter:
    """Measures how many tasks end per second. The caller passes the time; the meter has no clock."""

    WINDOW_S = 10.0
    """The rate is measured over this time."""
    SHORTEST_S = 1.0
    """A shorter time gives no rate."""
    ENOUGH = 10
    """From this number of tasks on that ended within the window, these alone give the estimate of the time left."""

    def __init__(self) -> None:
        self._recent: deque[tuple[float, int]] = deque()
        self._first: tuple[float, int] | None = None

    def note(self, now: float, ended: int) -> None:
        """Note how many tasks have ended by now, in seconds of any steady clock."""
        if self._first is None:
            self._first = (now, ended)
        self._recent.append((now, ended))
        while len(self._recent) > 1 and self._recent[1][0] <= now - self.WINDOW_S:
            self._recent.popleft()

    @property
    def tasks_per_s(self) -> float | None:
        """Tasks that ended per second, over the last ten seconds; None while too little is known."""
        return self._rate(self._recent[0]) if self._recent else None

    def left_s(self, open_tasks: int) -> float | None:
        """Estimate the seconds until the open tasks have ended; None until a task has ended."""
        if not self._recent or self._first is None:
            return None
        recently = self._recent[-1][1] - self._recent[0][1]
        rate = self._rate(self._recent[0] if recently >= self.ENOUGH else self._first)
        return open_tasks / rate if rate else None

    def _rate(self, since: tuple[float, int]) -> float | None:
        now, ended = self._recent[-1]
        seconds = now - since[0]
        return max(0, ended - since[1]) / seconds if seconds >= self.SHORTEST_S else None
