"""One task of a run, as readers see it."""

from __future__ import annotations

import hashlib
import math
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dfz_ray.errors import JournalDamaged, RunFolderRefused
from dfz_ray.journal.regular_file import open_regular
from dfz_ray.specs.encoding import decode


@dataclass(frozen=True, slots=True)
class TaskError:
    """The reason why a task failed or was cancelled, as plain text."""

    reason: str
    """exception, timeout, out_of_memory, worker_crashed, node_lost, infeasible, invalid, unserializable, cancelled."""
    message: str
    traceback: str | None = None

    def __str__(self) -> str:
        return f"{self.reason}: {self.message}"


@dataclass(frozen=True, slots=True)
class Record:
    """One task of a run: its state, and its result or error."""

    task_id: str
    domain: str
    kind: str
    status: str
    """One of `dfz_ray.specs.states.STATES`, e.g. completed."""
    stored_result: bytes | Path | None = field(repr=False)
    """MessagePack, or the file that holds it; None unless the task completed. `result` decodes it on demand."""
    error: TaskError | None
    attempts: int
    start_time: float | None
    """Of the last attempt, execution only, in Unix seconds."""
    end_time: float | None
    node: str | None

    @property
    def result(self) -> Any:
        """The value that the task returned; None unless it completed.

        Raises:
            JournalDamaged: the file of a large result is missing or has changed.
        """
        stored = self.stored_result
        if isinstance(stored, Path):
            stored = read_result(stored)
        return None if stored is None else decode(stored)

    @property
    def duration(self) -> float | None:
        """Of the last attempt, execution only, in seconds."""
        if self.start_time is None or self.end_time is None:
            return None
        return self.end_time - self.start_time

    def to_dict(self) -> dict[str, Any]:
        """The record as plain JSON data; see `json_value`."""
        error = self.error
        return {
            "task_id": self.task_id,
            "domain": self.domain,
            "kind": self.kind,
            "status": self.status,
            "result": json_value(self.result),
            "error": error and {"reason": error.reason, "message": error.message, "traceback": error.traceback},
            "attempts": self.attempts,
            "start_time": self.start_time,
            "end_time": self.end_time,
            "duration": self.duration,
            "node": self.node,
        }


def read_result(path: Path) -> bytes:
    """Read a large result, as MessagePack, from its file.

    Raises:
        JournalDamaged: the file is missing or has changed.
    """
    try:
        with os.fdopen(open_regular(path), "rb") as file:
            content = file.read()
    except OSError as error:
        raise JournalDamaged(f"the file of a result is missing: {path}: {error.strerror}") from None
    except RunFolderRefused as error:
        raise JournalDamaged(f"the file of a result can't be read: {error}") from None
    if hashlib.sha256(content).hexdigest() != path.name:
        raise JournalDamaged(f"the file of a result has changed: {path}")
    return content


_JSON_SCALARS = frozenset({str, int, bool, type(None)})


def json_value(value: Any) -> Any:
    """The value as plain JSON data: bytes, keys, and numbers that are not finite, become texts.

    A mapping with two keys of one text, such as 1 and "1", becomes a list of pairs, so that no item is lost.
    """
    found = [value]
    unfilled: list[tuple[Any, Any, Any]] = [(found, 0, value)]
    """A holder, a place in it, and the value that is to be there: a result may nest deeper than Python calls."""
    while unfilled:
        holder, place, one = unfilled.pop()
        holder[place] = _json_level(one, unfilled)
    return found[0]


def _json_level(value: Any, unfilled: list[tuple[Any, Any, Any]]) -> Any:
    """The value as JSON data, but for the values that it holds: those become `unfilled`."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, dict):
        items = {str(key): item for key, item in value.items()}
        if len(items) < len(value):
            pairs = [[key, item] for key, item in value.items()]
            unfilled.extend((pair, place, pair[place]) for pair in pairs for place in range(2))
            return pairs
        unfilled.extend((items, key, item) for key, item in items.items() if type(item) not in _JSON_SCALARS)
        return items
    if isinstance(value, (list, tuple)):
        values = list(value)
        unfilled.extend((values, place, item) for place, item in enumerate(values) if type(item) not in _JSON_SCALARS)
        return values
    return value
