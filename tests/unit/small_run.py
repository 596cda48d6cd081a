"""Small runs in folders, as a manager would have left them, for tests of what is done with a run afterwards."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dfz_ray.engine.lifecycle import State
from dfz_ray.journal.writer import Group, JournalWriter
from dfz_ray.specs.encoding import digest, encode
from dfz_ray.specs.policy import Policy

META = {"run_id": "r", "name": "test", "created_at": "1.0", "dfz_ray": "0", "slots": "2"}

Row = tuple[Any, ...]


def make_run(
    folder: Path,
    ids: Sequence[str],
    *outcomes: Row,
    domain: str = "coin",
    kind: str = "coin of 3",
    resources: str = '{"cpus": 1.0}',
    batches: Sequence[str] = (),
    parameters: Sequence[Any] = (),
    files: Mapping[str, bytes] | None = None,
) -> JournalWriter:
    """A run with tasks of one kind, of seeds 1000, 1001, ..., and some outcomes; its journal is open for more.

    Args:
        folder: the run folder.
        ids: of the tasks.
        outcomes: rows, as `completed`, `failed` and `cancelled` make them.
        domain: of the tasks.
        kind: of the tasks.
        resources: of the tasks, as JSON.
        batches: for each task the name of its batch; all are of one batch where none are given.
        parameters: for each task its parameters; a number of flips where none are given.
        files: what the parameters name, by hash.
    """
    writer = JournalWriter.create(folder, META)
    names = list(dict.fromkeys(batches)) or ["batch"]
    group = Group(
        batches=[(number, name, 7, 1.0) for number, name in enumerate(names)],
        domains=[(domain, '["seconds"]')],
        kinds=[(0, domain, kind, resources, Policy().model_dump_json())],
        files=list((files or {}).items()),
        leases=[(writer.epoch, 0, "host-a", 4711, 2.0)],
    )
    for number, task_id in enumerate(ids):
        given = parameters[number] if parameters else {"flips": number}
        batch = names.index(batches[number]) if batches else 0
        group.tasks.append((number, task_id, batch, 0, 1000 + number, encode(given), ""))
    writer.commit(group)
    writer.commit(Group(outcomes=list(outcomes)))
    return writer


def completed(number: int, result: Any, epoch: int = 1) -> Row:
    """The outcome of a task that completed."""
    return (number, State.COMPLETED, epoch, encode(result), None, digest(result), None, None, None)


def failed(number: int, reason: str, message: str, traceback: str | None = None) -> Row:
    """The outcome of a task that failed."""
    return (number, State.FAILED, 1, None, None, None, reason, message, traceback)


def cancelled(number: int) -> Row:
    """The outcome of a task that was cancelled."""
    return (number, State.CANCELLED, 1, None, None, None, "cancelled", "someone asked", None)
