"""Small runs in folders, as a manager would have left them, for tests of reading and changing them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from dfz_ray.journal.reader import JournalReader
from dfz_ray.journal.record import Record
from dfz_ray.journal.writer import Group, JournalWriter
from dfz_ray.protocol.columns import pack
from dfz_ray.specs.policy import Policy
from dfz_ray.specs.states import State
from support.journal_rows import Row, block, completion, together

POLICY = Policy().model_dump_json()
META = {"run_id": "r", "name": "test", "created_at": "1.0", "dfz_ray": "0", "slots": "2"}


def make_run(
    folder: Path,
    ids: Sequence[str],
    *ended: Group,
    domain: str = "coin",
    kind: str = "coin of 3",
    resources: str = '{"cpus": 1.0}',
    batches: Sequence[str] = (),
    parameters: Sequence[Any] = (),
    files: Mapping[str, bytes] | None = None,
    inline_bytes: int = 262_144,
) -> JournalWriter:
    """A run with tasks of one kind, of seeds 1000, 1001, ..., some of which have ended; its journal is open for more.

    Args:
        folder: the run folder.
        ids: of the tasks.
        ended: groups, as `completed`, `failed` and `cancelled` make them.
        domain: of the tasks.
        kind: of the tasks.
        resources: of the tasks, as JSON.
        batches: for each task the name of its batch; all are of one batch where none are given.
        parameters: for each task its parameters; a number of flips where none are given.
        files: what the parameters name, by hash.
        inline_bytes: larger results become files.
    """
    writer = JournalWriter.create(folder, META, inline_bytes)
    names = list(dict.fromkeys(batches)) or ["batch"]
    group = Group(
        batches=[(number, name, 7, 1.0) for number, name in enumerate(names)],
        domains=[(domain, '["seconds"]')],
        kinds=[(0, domain, kind, resources, POLICY)],
        files=list((files or {}).items()),
        leases=[(writer.epoch, 0, "host-a", 4711, 2.0)],
    )
    for batch, numbers in groupby(range(len(ids)), lambda number: names.index(batches[number]) if batches else 0):
        own = list(numbers)
        given = [parameters[number] for number in own] if parameters else ()
        group.blocks.append(block(own[0], [ids[number] for number in own], given, batch))
    writer.commit(group)
    writer.commit(together(*ended))
    return writer


def handed_out(chunk: int, *numbers: int, epoch: int = 1, lease: int = 0) -> Row:
    """A chunk that a lease got."""
    return (chunk, epoch, lease, 3.0, pack(numbers))


def completed(number: int, result: Any, epoch: int = 1) -> Group:
    """A task that completed, in a chunk of its own number."""
    return Group(chunks=[handed_out(number, number, epoch=epoch)], completions=[completion(number, {number: result})])


def failed(number: int, reason: str, message: str, traceback: str | None = None) -> Group:
    """A task that failed."""
    return Group(outcomes=[(number, State.FAILED, None, reason, message, traceback)])


def cancelled(number: int) -> Group:
    """A task that was cancelled."""
    return Group(outcomes=[(number, State.CANCELLED, None, "cancelled", "someone asked", None)])


def records(folder: Path) -> list[Record]:
    """All records of a run."""
    with JournalReader(folder) as journal:
        return list(journal.records())


def results(folder: Path) -> dict[str, Any]:
    """The results of the completed tasks of a run, by id."""
    return {record.task_id: record.result for record in records(folder) if record.status == "completed"}
