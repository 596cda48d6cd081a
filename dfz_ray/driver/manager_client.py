"""One run at the manager, as the driver calls it: open, submit, listen, cancel, close."""

from __future__ import annotations

import functools
import itertools
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from importlib.metadata import version
from pathlib import Path
from typing import Any

from dfz_ray.domains.registry import REGISTRY
from dfz_ray.driver.connection import boot_workers
from dfz_ray.driver.domain_shipping import ship
from dfz_ray.driver.input_store import SharedArrays, store_large
from dfz_ray.driver.manager_actor import answer_of, check_ray, get_manager
from dfz_ray.driver.run_options import make_run_options
from dfz_ray.driver.slot_plan import SlotPlan
from dfz_ray.errors import RunFolderRefused
from dfz_ray.garbage import collector_paused
from dfz_ray.journal.inputs import Notes
from dfz_ray.journal.landmark import set_landmark
from dfz_ray.journal.last_run import remember_run
from dfz_ray.journal.openings import Opening
from dfz_ray.journal.reader import JournalReader
from dfz_ray.journal.recovery import read_contents
from dfz_ray.journal.sending import MeantBatch, UnsentBatch, read_unsent
from dfz_ray.manager.nodes import live_nodes
from dfz_ray.protocol.columns import TaskColumns
from dfz_ray.protocol.message_bytes import pack_message
from dfz_ray.protocol.submission import OpenedRun, RunOptions, ShippedDomain, Submission, SubmittedKind
from dfz_ray.protocol.task_events import TaskEvents
from dfz_ray.specs.batch import Batch
from dfz_ray.specs.model_texts import ModelTexts
from dfz_ray.specs.run_config import RunConfig
from dfz_ray.specs.task import Task

BLOCK_TASKS = 5_000
"""Tasks that the driver sends at once. It sends the next ones when the manager has these on disk."""
FIRST_BLOCK_TASKS = 500
"""Tasks in the first block: workers begin with them while the next ones are packed."""
BLOCK_BYTES = 2**26
"""A block with larger parameters is halved: a column of the journal holds the parameters of a whole block."""
POLL_S = 0.5
"""Seconds between two looks at the counts while no event comes; a look takes about 2 ms of a core."""
BOOTED_AT_MOST = 64
"""With more workers than this, waiting for the first of them is not what takes the time."""


HandingOver = Callable[[], AbstractContextManager[Callable[[Any], None] | None]]


class ManagerClient:
    """A run at this process's manager: a new one, or one that was left, which goes on at once.

    `domains` are those that only this process has, ready to travel. `has_listener` allows calls of `ask_for_events`. A
    new run notes how many tasks of `batch`, which is submitted next, are meant. `driver` is an id of the caller, the
    same for each manager that works on the run for it. If the run `lingers`, workers wait a while for further batches.
    If it `reports_early`, the listener receives ends of tasks that are not on disk yet. Its tasks find the `shared`
    arrays.

    Raises:
        RunFolderRefused: the folder holds something else, or a live process works on the run, or the run shares other
            arrays under the same names.
        JournalDamaged: its journal can't be read or written, or is of another schema.
        ClusterUnusable: the manager sees other files than this process.
        DfzError: the run has tasks of a domain that is not known here.
    """

    def __init__(
        self,
        config: RunConfig,
        folder: Path,
        plan: SlotPlan,
        *,
        has_listener: bool = False,
        domains: Mapping[str, ShippedDomain] | None = None,
        batch: Batch | None = None,
        driver: str = "",
        lingers: bool = False,
        reports_early: bool = False,
        shared: SharedArrays | None = None,
    ) -> None:
        self.folder = folder.absolute()
        self._config = config
        self.slots = plan.slots
        self.id = uuid.uuid4().hex
        self._manager = get_manager()
        opening = Opening(driver or self.id, config.imports, plan.slots).to_json()
        options = make_run_options(plan, config, has_listener, lingers, reports_early, opening)
        meant = None if batch is None else MeantBatch(batch.name, len(batch.tasks), config.command)
        opened = self._open(options, meant)
        self.tasks = opened.tasks
        """The number of the run's tasks."""
        self._texts = ModelTexts()
        self._takes = itertools.count()
        """Numbers the calls that take events: they may overtake each other on their way."""
        self._sent = opened.tasks
        """The number of these that the manager has, or that are on their way."""
        self.next_chunk = opened.next_chunk
        """The number of the first chunk that this manager hands out."""
        self._is_first = True
        """True until a batch is submitted: the run may have some of its tasks since before it was opened."""
        self._next_batch = opened.next_batch
        self._is_new = opened.is_new
        self._announced = None if meant is None else UnsentBatch(0, 0, meant)
        """The first batch of a new run, which has its number already."""
        self._kinds: dict[SubmittedKind, int] = {kind: number for number, kind in enumerate(opened.kinds)}
        self._domains = {kind.domain for kind in opened.kinds}
        try:
            if shared is not None:
                self._note_inputs(shared.store(self.folder, config.settings.journal.durable))
            if self._domains:
                self._go_on(domains or {})
        except BaseException:
            self.close()
            raise
        if batch is None or not self.tasks:  # else the batch may still be refused
            self._note_begun()

    def _open(self, options: RunOptions, meant: MeantBatch | None) -> OpenedRun:
        """Open the run; a new one notes what it is, and the tasks that are meant."""
        meta = {
            "run_id": self.id,
            "name": self._config.name,
            "created_at": repr(time.time()),
            "dfz_ray": _find_version(),
            "slots": str(self.slots),
        }
        if meant is not None:
            meta["meant/0/0"] = meant.to_json()
        with set_landmark(self.folder) as landmark:
            given = str(self.folder), options, meta, self._config.retry_failed, landmark
            opened: OpenedRun = self._answer(self._actor.open_run.remote(self.id, *given))
        return opened

    def _go_on(self, own: Mapping[str, ShippedDomain]) -> None:
        """Let the manager queue the tasks that the run has already, given their domains."""
        known = [own.get(domain) or ship(REGISTRY.get(domain)) for domain in sorted(self._domains)]
        self._answer(self._actor.go_on.remote(self.id, known))

    def submit(
        self,
        batch: Batch,
        domains: Mapping[str, ShippedDomain],
        on_accepted: Callable[[int], None] = lambda tasks: None,
        is_wanted: Callable[[], bool] = lambda: True,
        is_awaited: bool = True,
        handing_over: HandingOver | None = None,
    ) -> None:
        """Send a batch's tasks; returns when all of them are on disk, or, if they are not awaited, at the manager.

        With `handing_over` a batch of one block is sent, if possible, by a call that takes the next events, too: the
        function that `handing_over` yields receives that call, for `read_events`, and this returns at once.

        A task that the run had already when it was opened, equal to this one, is left out; so a batch may be submitted
        again, once, to send the rest. Whenever a block has been written, or sent if it is not awaited, `on_accepted`
        receives the number of the run's tasks so far. Between blocks `is_wanted` is called; the rest is not sent if it
        returns False.

        Raises:
            RunFolderRefused: the run has another task of the same id.
        """
        new, begun, is_added = self._find_new(batch)
        if not new and begun is None:
            return
        blocks = _split(new)
        first_two = list(itertools.islice(blocks, 2))
        number, sent = (begun.number, begun.sent) if begun else (self._next_batch, 0)
        self._next_batch = max(self._next_batch, number + 1)
        meant = MeantBatch(batch.name, sent + len(new), self._config.command)
        # A block comes whole or not at all: a batch of one block needs no note, except where a run waits for it.
        if meant != begun.meant if begun else is_added or len(first_two) > 1:
            note = Submission(number, len(self._kinds), meant=meant.to_json(), before=self._sent)
            self._answer(self._actor.submit.remote(self.id, note.pack()))
        self.tasks += len(new)
        batches: tuple[Any, ...] = () if sent else ((number, batch.name, batch.seed, time.time()),)
        files, notes = store_large(self.folder, batch.files, self._config.settings.journal.durable)
        self._note_inputs(notes)
        calls = batch.calls
        on_its_way: tuple[Any, int] | None = None
        for tasks in itertools.chain(first_two, blocks):
            if not is_wanted():
                break
            with collector_paused():
                submission = self._submission(tasks, number, batches, files, calls, domains, is_awaited)
            self._sent += len(tasks)
            is_whole = len(first_two) == 1
            if is_whole and handing_over is not None and self._hand_over(submission, handing_over, on_accepted):
                return
            batches, files, calls = (), {}, ()
            # One block at a time: messages overtake each other, and numbers follow the order of submission.
            if on_its_way is not None:
                self._answer(on_its_way[0])
                on_accepted(on_its_way[1])
            on_its_way = self._actor.submit.remote(self.id, submission.pack()), self._sent
            if not is_awaited:
                on_accepted(self._sent)  # so that the driver listens as soon as it has sent them
        if on_its_way is not None:
            self._answer(on_its_way[0])
            on_accepted(on_its_way[1])

    def _find_new(self, batch: Batch) -> tuple[Sequence[Task], UnsentBatch | None, bool]:
        """The tasks of a batch that the run lacks, the batch whose rest they are, and whether the run had any tasks."""
        if not self._is_first:
            return batch.tasks, None, False
        self._is_first, is_added = False, self.tasks > 0
        new: Sequence[Task] = batch.tasks
        if is_added:
            new = self._without_known(new)
            self._note_begun()
        return new, self._find_begun(batch), is_added

    def _hand_over(self, block: Submission, handing_over: HandingOver, on_accepted: Callable[[int], None]) -> bool:
        """Send a block by a call that takes the next events, too; returns False if nobody takes such a call now."""
        with handing_over() as hand_over:
            if hand_over is not None:
                on_accepted(self._sent)
                message = self.id, POLL_S, next(self._takes), block.pack()
                hand_over(self._actor.submit_and_take.remote(pack_message(message)))
        return hand_over is not None

    def cancel(self, numbers: set[int] | None, scope: str) -> None:
        """Cancel those of these tasks, or of all, that are open; returns when that is on disk.

        `scope` describes the cancelled tasks in a few words, for the journal.
        """
        self._answer(self._actor.cancel.remote(self.id, numbers, scope, self._sent))

    def ask_for_progress(self) -> Any:
        """Make the call for `read_progress`."""
        return self._actor.progress.remote(self.id, POLL_S)

    def read_progress(self, call: Any) -> list[int]:
        """Tasks per state, in the order of the states: after POLL_S, or as soon as all are final.

        Raises:
            InfrastructureLost: the run can't go on.
        """
        counts: list[int] = self._answer(call)
        return counts

    def ask_for_events(self) -> Any:
        """Make a call for `read_events`, as `submit` does where it hands one over."""
        return self._actor.take_events.remote(self.id, POLL_S, next(self._takes))

    def read_events(self, call: Any) -> TaskEvents:
        """The events since those of the call before: as soon as there is one, or after POLL_S.

        Raises:
            InfrastructureLost: the run can't go on.
        """
        return TaskEvents.unpack(self._answer(call))

    def close(self, grace_s: float = 1.0) -> None:
        """End the run's work. Tasks that run have a grace, in seconds, before their workers are killed."""
        self._answer(self._actor.close_run.remote(self.id, grace_s))

    def replace_workers(self) -> None:
        """Make Ray start worker processes while a lost manager is replaced: the run's old ones died with it.

        They take as long to start as the manager does, which would ask for them only after that.
        """
        cores = sum(node.get("CPU", 0.0) for node in live_nodes())
        boot_workers(min(self.slots, int(cores), BOOTED_AT_MOST))

    @property
    def _actor(self) -> Any:
        """The manager. Without the check a call would start another Ray, which does not know this manager."""
        check_ray()
        return self._manager

    def _answer(self, reference: Any) -> Any:
        return answer_of(self._manager, reference)

    def _note_inputs(self, notes: Notes) -> None:
        if notes:
            self._answer(self._actor.add_inputs.remote(self.id, dict(notes)))

    def _note_begun(self) -> None:
        if self._config.becomes_last:
            remember_run(self.folder, self._config.settings)

    def _find_begun(self, batch: Batch) -> UnsentBatch | None:
        """The batch that an earlier driver did not send to its end, and that this one is: it has all that was sent."""
        if self._is_new:
            return self._announced
        with JournalReader(self.folder) as journal:
            for unsent in read_unsent(journal.query):
                ids = {task.id for task in batch.tasks} if unsent.sent else set()
                if ids.issuperset(journal.batch_ids(unsent.number)) and (ids or unsent.meant.name == batch.name):
                    return unsent
        return None

    def _without_known(self, tasks: Sequence[Task]) -> Sequence[Task]:
        known = read_contents(self.folder)
        texts = ModelTexts()
        new: list[Task] = []
        differing: list[str] = []
        for task in tasks:
            content = (task.domain, texts[task.resources], task.seed, task.parameters, texts[task.policy])
            if task.id not in known:
                new.append(task)
            elif known[task.id] != content:
                differing.append(task.id)
        if differing:
            raise RunFolderRefused(
                f"{self.folder} has other tasks under {len(differing)} of these ids, such as {differing[0]!r}; "
                "submitted tasks can't be changed: name a new folder, or give the tasks new ids"
            )
        return new

    def _submission(
        self,
        tasks: Sequence[Task],
        batch: int,
        batches: tuple[Any, ...],
        files: Mapping[str, bytes],
        calls: Sequence[int],
        domains: Mapping[str, ShippedDomain],
        is_awaited: bool,
    ) -> Submission:
        first_kind, texts = len(self._kinds), self._texts
        ids, domain_of, names, seeds, shapes, parameters, descriptions, policies = zip(*tasks, strict=True)
        # Tasks that are alike share these objects; to compare their addresses takes a fraction of comparing them.
        keys = list(zip(domain_of, names, map(id, shapes), map(id, policies), strict=True))
        numbers = dict.fromkeys(keys, 0)
        for key, task in dict(zip(keys, tasks, strict=True)).items():
            kind = SubmittedKind(task.domain, task.kind, texts[task.resources], texts[task.policy])
            numbers[key] = self._kinds.setdefault(kind, len(self._kinds))
        kinds = list(itertools.islice(self._kinds, first_kind, None))
        new = [name for name in dict.fromkeys(kind.domain for kind in kinds) if name not in self._domains]
        self._domains.update(new)
        kind_of = [numbers[key] for key in keys]
        columns = TaskColumns.of(ids, kind_of, list(zip(seeds, parameters, strict=True)), descriptions)
        shipped = [domains[name] for name in new]
        return Submission(
            batch, first_kind, batches, shipped, kinds, files, calls, columns, is_awaited, before=self._sent
        )


@functools.cache
def _find_version() -> str:
    return version("dfz_ray")


def _split(tasks: Sequence[Task]) -> Iterator[Sequence[Task]]:
    """Tasks in blocks that may be sent at once; each block is made when it is asked for."""
    limits = [0, *range(FIRST_BLOCK_TASKS, len(tasks), BLOCK_TASKS), len(tasks)]
    for begin, end in itertools.pairwise(limits):
        blocks = [tasks[begin:end]]
        while blocks:
            block = blocks.pop()
            if len(block) > 1 and sum([len(task.parameters) for task in block]) > BLOCK_BYTES:
                half = len(block) // 2
                blocks += [block[half:], block[:half]]
            else:
                yield block
