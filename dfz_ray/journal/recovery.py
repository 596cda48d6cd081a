"""Opening a run for work: a new run, or one that a dead process left.

There is one way into a run: take the lock, take an epoch, read the tasks without an outcome. So the death of a driver,
a manager or a cluster is no special case. Domains are shipped anew by the driver: nothing in a run folder is ever
unpickled.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from dfz_ray.journal.domain_versions import find_latest_volatile
from dfz_ray.journal.folder import RunFolder
from dfz_ray.journal.lock import RunLock
from dfz_ray.journal.reader import JournalReader
from dfz_ray.journal.sending import read_meant
from dfz_ray.journal.writer import JournalWriter
from dfz_ray.protocol.columns import NO_WORK, unpack, unpack_works
from dfz_ray.specs.policy import Policy


@dataclass(frozen=True)
class Recovered:
    """The last committed state of a run."""

    meta: dict[str, str]
    """The table of that name: facts about the run, from its start."""
    kinds: list[tuple[str, str, str, str]]
    """Domain, name, resources (JSON) and policy (JSON) of every kind, in the order of their numbers."""
    kind_of: list[int]
    """For every task, the number of its kind."""
    works: list[tuple[int, bytes]]
    """For every open task its seed and its parameters; NO_WORK for every other task."""
    settled: dict[int, int]
    """The tasks in a final state: number and state."""
    charged: dict[int, int]
    """For open tasks, if any: how many attempts have been charged since the task was last reopened."""
    free_losses: dict[int, int]
    """For open tasks, if any: how many attempts were lost with their node since then, and not charged."""
    volatile: dict[str, str]
    """By domain the keys (JSON) of its results that the digest leaves out, as of its latest version."""
    files: dict[str, bytes]
    next_chunk: int
    next_cancel: int
    next_pool_change: int
    next_batch: int
    is_new: bool = False
    """True if this process has made the run."""

    @classmethod
    def of_new(cls, meta: Mapping[str, str]) -> Recovered:
        """That of a run that was just made, and has no tasks; `meta` may announce its first batch."""
        announced = read_meant(lambda _: [item for item in meta.items() if item[0].startswith("meant/")])
        return cls(
            meta=dict(meta),
            kinds=[],
            kind_of=[],
            works=[],
            settled={},
            charged={},
            free_losses={},
            volatile={},
            files={},
            next_chunk=0,
            next_cancel=0,
            next_pool_change=0,
            next_batch=len(announced),
            is_new=True,
        )


def read_recovered(folder: Path) -> Recovered:
    """Read everything that a run needs to continue."""
    with JournalReader(folder) as journal:
        kind_of: list[int] = []
        works: list[tuple[int, bytes]] = []
        for _, _, kinds, packed in journal.query("read_tasks"):
            kind_of.extend(unpack(kinds))
            works.extend(unpack_works(packed))
        settled: dict[int, int] = dict(journal.query("read_settled"))
        for number in settled:
            works[number] = NO_WORK
        return Recovered(
            meta=journal.meta,
            kinds=list(journal.query("read_kinds")),
            kind_of=kind_of,
            works=works,
            settled=settled,
            charged=dict(journal.query("read_charged")),
            free_losses=dict(journal.query("read_free_losses")),
            volatile=find_latest_volatile(journal.meta, journal.query("read_domains")),
            files=dict(journal.query("read_files")),
            next_chunk=next(journal.query("next_chunk"))[0],
            next_cancel=next(journal.query("next_cancel"))[0],
            next_pool_change=next(journal.query("next_pool_change"))[0],
            next_batch=max(next(journal.query("last_batch"))[0], *read_meant(journal.query), -1) + 1,
        )


def read_contents(folder: Path) -> dict[str, tuple[Any, ...]]:
    """By task id the content of the task: domain, resources (JSON), seed, parameters and policy (JSON)."""
    with JournalReader(folder) as journal:
        kinds = [
            # A key of the policy that has been added since has its default.
            (domain, name, resources, Policy.model_validate_json(policy).model_dump_json())
            for domain, name, resources, policy in journal.query("read_kinds")
        ]
        contents: dict[str, tuple[Any, ...]] = {}
        for _, *columns in journal.query("read_tasks"):
            for task_id, kind, (seed, parameters) in zip(*map(unpack, columns), strict=True):
                domain, _, resources, policy = kinds[kind]
                contents[task_id] = (domain, resources, seed, parameters, policy)
        return contents


class OpenedJournal(NamedTuple):
    """A run's journal, opened by the only process that may work on the run."""

    lock: RunLock
    writer: JournalWriter
    recovered: Recovered


def open_for_work(
    folder: Path,
    meta: Mapping[str, str],
    inline_bytes: int = 262_144,
    retry_failed: bool = False,
    durable: bool = True,
    opening: str = "",
) -> OpenedJournal:
    """Open a run to work on it. New runs and runs that a dead process left are opened in the same way.

    A new run notes `meta` in the table of that name. `JournalWriter` explains the other arguments.

    Raises:
        RunFolderRefused: the folder holds anything else, links, or the run of another user, or a live process works on
            the run.
        JournalDamaged: its journal can't be read or written, or is damaged, or is of another schema.
    """
    run_folder = RunFolder(folder)
    run_folder.refuse_irregular(writes=True)
    if not run_folder.holds_run():
        run_folder.make(durable)
    lock = RunLock(folder)
    try:
        if run_folder.holds_run():
            writer = JournalWriter(folder, inline_bytes, durable, opening)
        else:
            writer = JournalWriter.create(folder, meta, inline_bytes, durable, opening)
            return OpenedJournal(lock, writer, Recovered.of_new(meta))
        if retry_failed:
            writer.reopen_failed()
        return OpenedJournal(lock, writer, read_recovered(folder))
    except BaseException:
        lock.close()
        raise
