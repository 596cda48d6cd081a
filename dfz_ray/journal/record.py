"""What is known of one task, for those who read."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dfz_ray.errors import JournalDamaged
from dfz_ray.specs.encoding import decode


@dataclass(frozen=True, slots=True)
class TaskError:
    """Why a task failed, or that it was cancelled, as plain text."""

    reason: str
    """exception, timeout, out_of_memory, worker_crashed, node_lost, infeasible, invalid, unserializable, cancelled."""
    message: str
    traceback: str | None = None

    def __str__(self) -> str:
        return f"{self.reason}: {self.message}"


@dataclass(frozen=True, slots=True)
class Record:
    """One task of a run: where it stands, and what came of it."""

    task_id: str
    domain: str
    kind: str
    status: str
    """pending, running, completed, failed or cancelled."""
    stored_result: bytes | Path | None = field(repr=False)
    """As the journal has it: MessagePack, or the file that holds it; it is read when it is asked for."""
    error: TaskError | None
    attempts: int
    start_time: float | None
    """Of the last attempt, execution only, in Unix seconds."""
    end_time: float | None
    node: str | None

    @property
    def result(self) -> Any:
        """What the task returned; None unless it completed.

        Raises:
            JournalDamaged: the file of a large result is gone, or has changed.
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
        """The record as JSON has it; see `json_value`."""
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
    """A large result, as MessagePack, from its file.

    Raises:
        JournalDamaged: it is gone, or has changed.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise JournalDamaged(f"a result's file is gone: {path}: {error.strerror}") from None
    if hashlib.sha256(content).hexdigest() != path.name:
        raise JournalDamaged(f"a result's file has changed: {path}")
    return content


def json_value(value: Any) -> Any:
    """A value as JSON can hold it: numbers that are not finite and bytes become texts."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, dict):
        return {str(key): json_value(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [json_value(item) for item in value]
    return value
