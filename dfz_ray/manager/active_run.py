"""One run at work: it tells the engine what happens, and does what the engine asks for."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from dfz_ray.engine.engine import Engine
from dfz_ray.engine.messages import (
    AnswerEnd,
    AnswerWait,
    CancelAsked,
    ChunkBegan,
    ChunkEnded,
    CommitCancellations,
    CommitEnds,
    CommitLosses,
    Event,
    GiveChunk,
    InterruptLease,
    KillLease,
    KindEntry,
    LeaseEnded,
    LeaseLost,
    ManagerMeasured,
    NoteAttemptsLost,
    NotePoolChanged,
    OutcomesCommitted,
    StartLease,
    StopAsked,
    TasksSubmitted,
    TimePassed,
    WorkAsked,
)
from dfz_ray.errors import DfzError, InfrastructureLost, RunFolderRefused
from dfz_ray.journal.commit_sums import Row
from dfz_ray.journal.recovery import OpenedJournal
from dfz_ray.manager.event_buffer import EventBuffer
from dfz_ray.manager.group_commit import GroupCommit, Pending
from dfz_ray.manager.lease_calls import LeaseCalls
from dfz_ray.manager.node_watch import NodeWatch
from dfz_ray.manager.nodes import remote_options
from dfz_ray.manager.pool_reporter import PoolReporter
from dfz_ray.manager.run_journal import RunJournal
from dfz_ray.manager.status_publisher import Reading, StatusPublisher
from dfz_ray.protocol.columns import NO_WORK, unpack, unpack_works
from dfz_ray.protocol.orders import END, NOTED, Order, pack_works
from dfz_ray.protocol.reports import Ended, Report
from dfz_ray.protocol.submission import (
    OpenedRun,
    RunOptions,
    ShippedDomain,
    Submission,
    SubmittedKind,
)
from dfz_ray.protocol.task_events import TaskEvents
from dfz_ray.specs.policy import Policy
from dfz_ray.specs.resources import Resources
from dfz_ray.worker.lease import make_lease_function

logger = logging.getLogger("dfz_ray")

KILL_S = 5.0
"""How long workers that are killed may take to be gone."""
MEASURED_CHUNKS = 20
"""Over so many chunks the manager's own time per chunk is averaged before the engine is told."""


class ActiveRun:
    """A run that this manager works on.

    Args:
        run_id: its name for workers.
        folder: of the run.
        journal: the run's journal, which this manager has opened for work.
        options: how it runs.
        manager: the handle of the actor that this object lives in; workers report to it.
        meta: what the journal notes about the run.
    """

    def __init__(
        self, run_id: str, folder: Path, journal: OpenedJournal, options: RunOptions, manager: Any, meta: dict[str, str]
    ) -> None:
        self._id = run_id
        self._manager = manager
        self._grace_s = options.engine.grace_s
        self._lock, self._writer, self._recovered = journal
        self._engine = Engine(replace(options.engine, first_chunk=self._recovered.next_chunk))
        self._lanes: dict[tuple[str, str], int] = {}
        """Domain and resources (JSON): number."""
        self._shapes: list[Resources] = []
        self._domain_of: list[str] = []
        self._functions: dict[str, Any] = {}
        self._exclusive: set[str] = set()
        """Domains of which each task needs a process of its own."""
        self._width = options.engine.width
        self._timeouts: list[float | None] = []
        """By kind."""
        self._files: dict[str, bytes] = dict(self._recovered.files)
        self._works: list[tuple[int, bytes]] = []
        """By task: seed and parameters; NO_WORK once it is final."""
        self._deadlines: dict[int, float] = {}
        """Of the tasks that have one."""
        self._orders: dict[int, Order] = {}
        self._ended: dict[int, Ended] = {}
        """The chunks that have just ended."""
        self._scope = ""
        """Of the cancellation that is being handled."""
        commits = GroupCommit(self._writer, self._on_committed, self._fail)
        self._journal = RunJournal(self._writer, commits, self._recovered.next_cancel, self._recovered.next_pool_change)
        self._pool = PoolReporter(options, self._journal, self._handle)
        self._leases = LeaseCalls(self._grace_s, self._on_lease_over, self._fail)
        self._nodes = NodeWatch(
            self._shapes, self._handle, self._pool.on_held, self._engine.find_needs, options.node_wait_s
        )
        self._desk = EventBuffer(options.tells)
        self._bulletin = StatusPublisher(folder, meta, self._writer.epoch, self._read, self.cancel)
        self._done = asyncio.Event()
        """No task is open, or the run can't go on."""
        self._done.set()
        self._failure: BaseException | None = None
        self._spent_s, self._spent_chunks = 0.0, 0
        self._timer: asyncio.TimerHandle | None = None
        self._executors: dict[type, Callable[[Any], None]] = {
            StartLease: self._start_lease,
            GiveChunk: self._give_chunk,
            AnswerWait: self._answer_wait,
            AnswerEnd: self._answer_end,
            CommitEnds: self._commit_ends,
            CommitLosses: self._commit_losses,
            NoteAttemptsLost: self._journal.add_lost_attempts,
            NotePoolChanged: self._pool.note,
            CommitCancellations: self._commit_cancellations,
            InterruptLease: self._leases.interrupt,
            KillLease: self._leases.kill,
        }

    # --- what the driver asks ---------------------------------------------------------------------------------------

    def describe(self) -> OpenedRun:
        """What is known of the run so far."""
        kinds = [SubmittedKind(*kind) for kind in self._recovered.kinds]
        return OpenedRun(kinds, self._recovered.batches, len(self._recovered.kind_of))

    def go_on(self, domains: Sequence[ShippedDomain]) -> None:
        """Let the tasks wait that the journal has no outcome of.

        Args:
            domains: those that its tasks are of; what a journal holds is never unpickled.

        Raises:
            RunFolderRefused: one of them has changed what its digests are made of.
        """
        recovered = self._recovered
        for domain in domains:
            before = recovered.volatile.get(domain.name, domain.volatile)
            if before != domain.volatile:
                raise RunFolderRefused(
                    f"domain {domain.name!r} calls {domain.volatile} volatile, and called {before} so when the run was "
                    "begun: results could not be compared; undo that, or begin a new run"
                )
        self._load_domains(domains)
        kinds = self._add_kinds(self.describe().kinds)
        self._works = recovered.works
        self._note_deadlines(0, recovered.kind_of)
        charged, lost = recovered.charged, recovered.free_losses
        self._handle(TasksSubmitted(kinds, recovered.kind_of, recovered.settled, charged, lost))
        self._note_done()

    async def submit(self, submission: Submission) -> None:
        """Take in new tasks; returns when they are on disk."""
        self._raise_failure()
        first, kind_of = len(self._works), unpack(submission.tasks.kinds)
        self._works.extend(unpack_works(submission.tasks.works))
        self._files.update(submission.files)
        self._load_domains(submission.domains)
        kinds = self._add_kinds(submission.kinds)
        self._journal.add_submission(submission, first)
        self._note_deadlines(first, kind_of)
        # They may be handed out at once: what comes of them is committed after them, so all results are of known tasks.
        self._handle(TasksSubmitted(kinds, kind_of))
        self._note_done()
        await self._journal.commits.wait()

    def _note_deadlines(self, first: int, kind_of: Sequence[int]) -> None:
        if any(timeout_s is not None for timeout_s in self._timeouts):
            timeouts = enumerate((self._timeouts[kind] for kind in kind_of), first)
            self._deadlines.update((number, timeout_s) for number, timeout_s in timeouts if timeout_s is not None)

    def _load_domains(self, domains: Sequence[ShippedDomain]) -> None:
        for domain in domains:
            self._functions[domain.name] = make_lease_function(domain.name, domain.pickled)
            if domain.exclusive:
                self._exclusive.add(domain.name)

    def _add_kinds(self, kinds: Sequence[SubmittedKind]) -> list[KindEntry]:
        """Make kinds known, and the lanes that are new with them; returns them as the engine takes them."""
        entries = []
        before = len(self._shapes)
        for kind in kinds:
            lane = self._lanes.setdefault(kind.lane, len(self._lanes))
            if lane == len(self._shapes):
                self._shapes.append(Resources.model_validate_json(kind.resources))
                self._domain_of.append(kind.domain)
            policy = Policy.model_validate_json(kind.policy)
            self._timeouts.append(policy.timeout_s)
            entries.append(KindEntry(kind.name, lane, policy, kind.domain in self._exclusive))
        if len(self._shapes) > before:
            self._nodes.size(range(before, len(self._shapes)))
        return entries

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

    async def news(self, timeout_s: float) -> TaskEvents:
        """What has happened since the last time: as soon as there is something, or after a while.

        Raises:
            DfzError: the run can't go on.
        """
        told = await self._desk.tell(self._engine.tasks.counts, self._done, timeout_s)
        self._raise_failure()
        return told

    async def cancel(self, numbers: set[int] | None, scope: str) -> None:
        """Cancel what is open of these tasks, or of all; returns when that is on disk."""
        self._raise_failure()
        self._scope = scope
        self._handle(CancelAsked(None if numbers is None else sorted(numbers)))
        await self._journal.commits.wait()

    async def close(self, grace_s: float) -> None:
        """Stop handing out work, let what runs end for a while, commit what ended, and close the journal."""
        self._handle(StopAsked())
        # Leases that Ray has not placed yet are left alone: when they come they find the run closed, and return. To
        # cancel one could hit a worker in the middle of an import, which spoils the process for everyone after it.
        await self._leases.end_placed(grace_s, KILL_S)
        with contextlib.suppress(DfzError):
            await self._journal.commits.wait()
        self._nodes.close()
        self._bulletin.close()
        await self._journal.commits.close()
        self._lock.close()

    # --- what workers report ----------------------------------------------------------------------------------------

    def exchange(self, report: Report) -> Order:
        """Take in what a lease reports, and answer what it does next.

        Raises:
            DfzError: the run can't go on; the lease ends with it.
        """
        self._raise_failure()
        begun = time.thread_time()
        if report.place is not None and self._leases.place(report.lease, report.place):
            self._journal.add_lease(report.lease, report.place)
        if report.ended is not None:
            completions, failed = report.executions.completions, unpack(report.executions.failures)
            self._ended[report.ended] = Ended(completions, failed)
            numbers = completions.numbers() + [row[0] for row in failed]
            durations_s = completions.durations_s() + [row[2] - row[1] for row in failed]
            failures = {row[0]: row[4] for row in failed}
            cpu_s = completions.cpu_s() + sum(row[3] for row in failed) if self._pool.is_auto else None
            self._handle(ChunkEnded(report.lease, report.ended, numbers, durations_s, failures, cpu_s))
        if report.began is not None:
            self._handle(ChunkBegan(report.lease, report.began))
            self._desk.on_began(report.began)
        order = NOTED
        if report.asks:
            self._orders.pop(report.lease, None)
            self._handle(WorkAsked(report.lease, report.busy))
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
        due = self._engine.wake_at
        if due is not None and (self._timer is None or due < self._timer.when()):
            if self._timer is not None:
                self._timer.cancel()
            self._timer = asyncio.get_running_loop().call_at(due, self._on_time)  # its clock is time.monotonic()

    def _on_time(self) -> None:
        self._timer = None
        if self._failure is None:
            self._handle(TimePassed())

    def _start_lease(self, command: StartLease) -> None:
        domain, shape = self._domain_of[command.lane], self._shapes[command.lane]
        name = domain if command.kind == domain else f"{domain}: {command.kind}"
        function = self._functions[domain].options(name=name, **remote_options(shape))
        width = 1 if domain in self._exclusive else self._width
        call = function.remote(self._manager, self._id, command.lease, shape.threads, self._grace_s, width)
        self._leases.watch(command.lease, call)

    def _give_chunk(self, command: GiveChunk) -> None:
        numbers = command.chunk.numbers
        timeouts_s = [self._deadlines.get(number) for number in numbers] if self._deadlines else None
        works = pack_works(numbers, [self._works[number] for number in numbers], timeouts_s)
        self._journal.add_chunk(command)
        self._desk.on_given(command.chunk.id, numbers, self._leases.host_of(command.lease))
        self._orders[command.lease] = Order(command.chunk.id, works, command.chunk.budget_s, threads=command.threads)

    def _answer_wait(self, command: AnswerWait) -> None:
        self._orders[command.lease] = Order(threads=command.threads)

    def _answer_end(self, command: AnswerEnd) -> None:
        self._orders[command.lease] = END

    def _commit_ends(self, command: CommitEnds) -> None:
        self._journal.add_ends(command, self._ended.pop(command.chunk))

    def _commit_losses(self, command: CommitLosses) -> None:
        self._journal.add_losses(command, lambda number: self._leases.tracebacks.pop(number, None))

    def _commit_cancellations(self, command: CommitCancellations) -> None:
        self._journal.add_cancellations(command, self._scope)

    # --- what goes on beside ----------------------------------------------------------------------------------------

    def _on_lease_over(self, event: LeaseEnded | LeaseLost) -> None:
        if self._failure is None:
            self._handle(event)

    def _on_committed(self, pending: Pending, written: Mapping[str, Sequence[Row]]) -> None:
        completed, failed, cancelled = pending.completed, pending.failed, pending.cancelled
        self._desk.on_committed(written, pending.payloads)
        if completed or failed or cancelled:
            self._handle(OutcomesCommitted(completed, failed, cancelled))
            for number in itertools.chain(completed, failed, cancelled):
                self._works[number] = NO_WORK
                if self._deadlines:
                    self._deadlines.pop(number, None)
            self._note_done()

    def _note_done(self) -> None:
        """Whoever waits for the end is told when no task is open; a new one may come afterwards."""
        if self._engine.tasks.open and self._failure is None:
            self._done.clear()
        else:
            self._done.set()

    def _read(self) -> Reading:
        engine, notices = self._engine, list(self._nodes.notices.values())
        commits = self._writer.commits
        return Reading(engine.tasks.counts, engine.slots, self._pool.why, engine.slots_in_use, commits, notices)

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
            self._journal.commits.give_up(error)
            self._done.set()

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise InfrastructureLost(f"the run can't go on: {self._failure}") from None
