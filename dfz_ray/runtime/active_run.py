"""One run at work: it tells the engine what happens, and does what the engine asks for."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError

from dfz_ray.domains.execution import Execution, Work
from dfz_ray.engine.engine import Engine
from dfz_ray.engine.lifecycle import State
from dfz_ray.engine.messages import (
    AnswerEnd,
    AnswerWait,
    ChunkBegan,
    ChunkEnded,
    CommitEnds,
    CommitLosses,
    Event,
    GiveChunk,
    KindEntry,
    LaneSized,
    LeaseEnded,
    LeaseLost,
    ManagerMeasured,
    NoteAttemptsLost,
    OutcomesCommitted,
    StartLease,
    StopAsked,
    TaskEnd,
    TasksSubmitted,
    WorkAsked,
)
from dfz_ray.errors import DfzError, InfrastructureLost
from dfz_ray.journal.recovery import OpenedJournal
from dfz_ray.journal.writer import (
    ATTEMPT_COMPLETED,
    ATTEMPT_FAILED,
    ATTEMPT_LOST,
    ATTEMPT_SUPERSEDED,
)
from dfz_ray.runtime.group_commit import GroupCommit
from dfz_ray.runtime.losses import describe_loss
from dfz_ray.runtime.nodes import capacity, live_nodes, remote_options, request_of, why_none
from dfz_ray.runtime.submission import OpenedRun, RunOptions, ShippedDomain, Submission
from dfz_ray.runtime.worker import END, WAIT, Order, Report, make_lease_function
from dfz_ray.specs.encoding import encode
from dfz_ray.specs.resources import Resources

logger = logging.getLogger("dfz_ray")

LOOK_AT_NODES_S = 5.0
"""How often the run looks for nodes that came or went."""
KILL_S = 5.0
"""How long workers that are killed may take to be gone."""
CHUNK_ROW_DELAY_S = 0.05
"""How long the row of a chunk that was handed out may wait for a commit."""
MEASURED_CHUNKS = 20
"""Over so many chunks the manager's own time per chunk is averaged before the engine is told."""


@dataclass(slots=True)
class _Lane:
    """Tasks of one domain and one shape: the remote function that runs them, and how it is called."""

    domain: str
    resources: Resources
    function: Any


class ActiveRun:
    """A run that this manager works on.

    Args:
        run_id: its name for workers.
        journal: the run's journal, which this manager has opened for work.
        options: how it runs.
        manager: the handle of the actor that this object lives in; workers report to it.
    """

    def __init__(self, run_id: str, journal: OpenedJournal, options: RunOptions, manager: Any) -> None:
        self._id = run_id
        self._manager = manager
        self._lock, self._writer, self._recovered = journal
        first_chunk = self._recovered.next_chunk
        self._engine = Engine(options.slots, options.chunk_target_s, options.lease_s, first_chunk)
        self._lanes: list[_Lane] = []
        self._functions: dict[str, Any] = {}
        self._files: dict[str, bytes] = dict(self._recovered.files)
        self._holds: dict[int, float] = {}
        self._works: dict[int, Work] = {}
        self._submitted = 0
        self._calls: dict[int, ray.ObjectRef[Any]] = {}
        self._placed: set[int] = set()
        self._orders: dict[int, Order] = {}
        self._ended: dict[int, Sequence[Execution]] = {}
        self._commits = GroupCommit(self._writer, self._on_committed, self._fail)
        self._done = asyncio.Event()
        """No task is open, or the run can't go on."""
        self._failure: BaseException | None = None
        self._spent_s, self._spent_chunks = 0.0, 0
        self._lease_watchers: dict[int, asyncio.Task[None]] = {}
        self._node_watcher = asyncio.create_task(self._watch_nodes())
        self._executors: dict[type, Callable[[Any], None]] = {
            StartLease: self._start_lease,
            GiveChunk: self._give_chunk,
            AnswerWait: self._answer_wait,
            AnswerEnd: self._answer_end,
            CommitEnds: self._commit_ends,
            CommitLosses: self._commit_losses,
            NoteAttemptsLost: self._note_attempts_lost,
        }

    # --- what the driver asks ---------------------------------------------------------------------------------------

    def describe(self) -> OpenedRun:
        """What is known of the run so far."""
        lanes = list(dict.fromkeys((domain, resources) for domain, _, resources in self._recovered.kinds))
        kinds = [(name, lanes.index((domain, resources))) for domain, name, resources in self._recovered.kinds]
        return OpenedRun(lanes, kinds, self._recovered.batches, len(self._recovered.kind_of))

    def go_on(self, domains: Sequence[ShippedDomain]) -> None:
        """Let the tasks wait that the journal has no outcome of.

        Args:
            domains: those that its tasks are of; what a journal holds is never unpickled.
        """
        known, recovered = self.describe(), self._recovered
        for domain in domains:
            self._functions[domain.name] = make_lease_function(domain.name, domain.pickled)
        for name, resources in known.lanes:
            self._lanes.append(_Lane(name, Resources.model_validate_json(resources), self._functions[name]))
        self._works = {number: Work(number, seed, parameters) for number, seed, parameters in recovered.open_tasks}
        self._submitted = len(recovered.kind_of)
        if self._lanes:
            self._size_lanes(range(len(self._lanes)))
        kinds = [KindEntry(*kind) for kind in known.kinds]
        self._handle(TasksSubmitted(kinds, recovered.kind_of, recovered.settled))
        self._note_done()

    async def submit(self, submission: Submission) -> None:
        """Take in new tasks; returns when they are on disk."""
        self._raise_failure()
        first, first_kind = self._submitted, submission.first_kind
        self._submitted += len(submission.tasks)
        group = self._commits.pending.rows
        group.batches.extend(submission.batches)
        group.files.extend(submission.files.items())
        self._files.update(submission.files)
        for domain in submission.domains:
            self._functions[domain.name] = make_lease_function(domain.name, domain.pickled)
            group.domains.append((domain.name, domain.volatile))
        for name, resources in submission.lanes:
            self._lanes.append(_Lane(name, resources, self._functions[name]))
        for number, (name, lane) in enumerate(submission.kinds, first_kind):
            shape = self._lanes[lane].resources.model_dump_json()
            group.kinds.append((number, self._lanes[lane].domain, name, shape))
        batch = submission.batch
        for number, (task_id, kind, seed, parameters, description) in enumerate(submission.tasks, first):
            group.tasks.append((number, task_id, batch, kind, seed, parameters, description))
            self._works[number] = Work(number, seed, parameters)
        if submission.lanes:
            self._size_lanes(range(len(self._lanes) - len(submission.lanes), len(self._lanes)))
        await self._commits.wait()
        kinds = [KindEntry(name, lane) for name, lane in submission.kinds]
        self._handle(TasksSubmitted(kinds, [task[1] for task in submission.tasks]))
        self._note_done()

    async def progress(self, timeout_s: float) -> list[int]:
        """Tasks per state, in the order of State: after a while, or as soon as all are in a final state.

        Raises:
            DfzError: the run can't go on.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._done.wait()
        self._raise_failure()
        return list(self._engine.tasks.counts)

    async def close(self, grace_s: float) -> None:
        """Stop handing out work, let what runs end for a while, commit what ended, and close the journal."""
        self._handle(StopAsked())
        # Leases that Ray has not placed yet are left alone: when they come they find the run closed, and return. To
        # cancel one could hit a worker in the middle of an import, which spoils the process for everyone after it.
        await self._placed_leases_ended(grace_s)
        for lease in self._placed:
            ray.cancel(self._calls[lease], force=True)
        await self._placed_leases_ended(KILL_S)
        with contextlib.suppress(DfzError):
            await self._commits.wait()
        self._node_watcher.cancel()
        await self._commits.close()
        self._lock.close()

    async def _placed_leases_ended(self, timeout_s: float) -> None:
        watchers = [self._lease_watchers[lease] for lease in self._placed]
        if watchers:
            await asyncio.wait(watchers, timeout=timeout_s)

    # --- what workers report ----------------------------------------------------------------------------------------

    def exchange(self, report: Report) -> Order:
        """Take in what a lease reports, and answer what it does next.

        Raises:
            DfzError: the run can't go on; the lease ends with it.
        """
        self._raise_failure()
        begun = time.thread_time()
        if report.worker:
            self._placed.add(report.lease)
            row = (self._writer.epoch, report.lease, report.node, report.worker, time.time())
            self._commits.pending.rows.leases.append(row)
        if report.ended is not None:
            self._ended[report.ended] = report.executions
            ends = [TaskEnd(e.number, e.failure is None, e.ended_at - e.began_at) for e in report.executions]
            self._handle(ChunkEnded(report.lease, report.ended, ends))
        if report.began is not None:
            self._handle(ChunkBegan(report.lease, report.began))
        self._orders.pop(report.lease, None)
        self._handle(WorkAsked(report.lease))
        order = self._orders.pop(report.lease)
        self._measure_manager(time.thread_time() - begun, report.ended is not None)
        return order

    def get_file(self, sha256: str) -> bytes | None:
        """The content of a file that parameters name."""
        return self._files.get(sha256)

    # --- what the engine asks for -----------------------------------------------------------------------------------

    def _handle(self, event: Event) -> None:
        try:
            for command in self._engine.handle(event, time.monotonic()):
                self._executors[type(command)](command)
        except Exception as error:
            self._fail(error)
            raise

    def _start_lease(self, command: StartLease) -> None:
        lane = self._lanes[command.lane]
        name = lane.domain if command.kind == lane.domain else f"{lane.domain}: {command.kind}"
        call = lane.function.options(name=name, **remote_options(lane.resources)).remote(
            self._manager, self._id, command.lease, lane.resources.threads
        )
        self._calls[command.lease] = call
        self._lease_watchers[command.lease] = asyncio.create_task(self._watch_lease(command.lease, call))

    def _give_chunk(self, command: GiveChunk) -> None:
        chunk = command.chunk
        works = [self._works[number] for number in chunk.numbers]
        row = (chunk.id, self._writer.epoch, command.lease, time.time(), encode(list(chunk.numbers)))
        self._commits.pending.rows.chunks.append(row)
        # What is handed out may be written with what ends soon; a result may not wait.
        self._commits.soon(CHUNK_ROW_DELAY_S)
        self._orders[command.lease] = Order(chunk.id, works, chunk.budget_s)

    def _answer_wait(self, command: AnswerWait) -> None:
        self._orders[command.lease] = WAIT

    def _answer_end(self, command: AnswerEnd) -> None:
        self._orders[command.lease] = END

    def _commit_ends(self, command: CommitEnds) -> None:
        executions = self._ended.pop(command.chunk)
        superseded = set(command.superseded)
        rows, epoch = self._commits.pending.rows, self._writer.epoch
        attempts, outcomes = rows.attempts, rows.outcomes
        for number, began, ended, cpu, result, digest, failure in executions:
            times = (began or None, ended or None, cpu)
            if number in superseded:
                attempts.append((number, command.chunk, ATTEMPT_SUPERSEDED, *times, None))
            elif failure is None:
                attempts.append((number, command.chunk, ATTEMPT_COMPLETED, *times, None))
                outcomes.append((number, State.COMPLETED, epoch, result, None, digest, None, None, None))
            else:
                attempts.append((number, command.chunk, ATTEMPT_FAILED, *times, None))
                outcomes.append((number, State.FAILED, epoch, None, None, None, *failure))
        self._commits.pending.completed.extend(command.completed)
        self._commits.pending.failed.extend(command.failed)
        self._commits.soon()

    def _commit_losses(self, command: CommitLosses) -> None:
        group, epoch = self._commits.pending.rows, self._writer.epoch
        for number, message in command.messages.items():
            if command.chunk is not None:
                group.attempts.append((number, command.chunk, ATTEMPT_FAILED, None, None, None, message))
            group.outcomes.append((number, State.FAILED, epoch, None, None, None, command.reason, message, None))
        self._commits.pending.failed.extend(command.messages)
        self._commits.soon()

    def _note_attempts_lost(self, command: NoteAttemptsLost) -> None:
        rows = ((n, command.chunk, ATTEMPT_LOST, None, None, None, command.message) for n in command.numbers)
        self._commits.pending.rows.attempts.extend(rows)
        self._commits.soon()

    # --- what goes on beside ----------------------------------------------------------------------------------------

    async def _watch_lease(self, lease: int, call: Any) -> None:
        """Wait for the end of a lease's call, and tell the engine how it came."""
        lost = None
        try:
            await call
        except RayTaskError as error:
            if self._failure is None:
                self._fail(InfrastructureLost(f"a lease failed, which is a defect of dfz_ray: {error}"))
        except RayError as error:
            lost = LeaseLost(lease, describe_loss(error))
        except Exception as error:
            self._fail(error)
        del self._calls[lease], self._lease_watchers[lease]
        self._placed.discard(lease)
        if self._failure is None:
            self._handle(lost or LeaseEnded(lease))

    def _on_committed(self, completed: Sequence[int], failed: Sequence[int]) -> None:
        if completed or failed:
            self._handle(OutcomesCommitted(completed, failed))
            for number in itertools.chain(completed, failed):
                self._works.pop(number, None)
            self._note_done()

    def _note_done(self) -> None:
        """Whoever waits for the end is told when no task is open; a new one may come afterwards."""
        if self._engine.tasks.open and self._failure is None:
            self._done.clear()
        else:
            self._done.set()

    async def _watch_nodes(self) -> None:
        while True:
            await asyncio.sleep(LOOK_AT_NODES_S)
            try:
                self._size_lanes(range(len(self._lanes)))
            except Exception:
                logger.warning("the nodes of the cluster can't be seen; looking again", exc_info=True)

    def _size_lanes(self, numbers: Iterable[int]) -> None:
        """Tell the engine how many leases of each lane the cluster can run at once."""
        nodes = live_nodes()
        for number in numbers:
            shape = self._lanes[number].resources
            holds = capacity(request_of(shape), nodes)
            if holds == 0 != self._holds.get(number, 0):
                logger.warning("run %s waits for a node: %s", self._id, why_none(shape, nodes))
            self._holds[number] = holds
            self._handle(LaneSized(number, holds, "" if holds else why_none(shape, nodes)))

    def _measure_manager(self, spent_s: float, ended: bool) -> None:
        self._spent_s += spent_s
        self._spent_chunks += ended
        if self._spent_chunks >= MEASURED_CHUNKS:
            self._handle(ManagerMeasured(self._spent_s / self._spent_chunks))
            self._spent_s, self._spent_chunks = 0.0, 0

    def _fail(self, error: BaseException) -> None:
        """Remember the first thing that makes it impossible to go on; whoever asks next is told."""
        if self._failure is None:
            self._failure = error
            logger.error("run %s stops: %s", self._id, error)
            self._commits.give_up(error)
            self._done.set()

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise InfrastructureLost(f"the run can't go on: {self._failure}") from None
