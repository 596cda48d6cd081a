"""One run at work: it brings events to the engine, and executes the engine's commands.

Tasks may be handed out while their block is on its way to the disk: their results are committed after it, so no result
belongs to a task that the journal does not have. A task is cancelled once that is on disk. The worker is asked to end
the task afterwards, and its later reports of the task are superseded.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import itertools
import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from dfz_ray.engine.engine import Engine
from dfz_ray.engine.messages import (
    CancelAsked,
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
    NoteAttemptsLost,
    NotePoolChanged,
    OutcomesCommitted,
    PlacesWanted,
    StartLease,
    StopAsked,
    TasksSubmitted,
    TimePassed,
    WorkAsked,
)
from dfz_ray.errors import DfzError, InfrastructureLost
from dfz_ray.journal.commit_sums import Row
from dfz_ray.journal.domain_versions import find_versions, refuse_other_volatile
from dfz_ray.journal.recovery import OpenedJournal
from dfz_ray.manager.event_buffer import EventBuffer
from dfz_ray.manager.group_commit import GroupCommit, Pending
from dfz_ray.manager.lanes import Lanes
from dfz_ray.manager.later import Later
from dfz_ray.manager.lease_calls import LeaseCalls
from dfz_ray.manager.loop_thread import read_busy_s
from dfz_ray.manager.manager_cost import ManagerCost
from dfz_ray.manager.node_watch import NodeWatch
from dfz_ray.manager.place_watch import PlaceWatch
from dfz_ray.manager.pool_reporter import PoolReporter
from dfz_ray.manager.relays import Relays
from dfz_ray.manager.run_files import RunFiles
from dfz_ray.manager.run_journal import RunJournal
from dfz_ray.manager.run_metrics import RunMetrics
from dfz_ray.manager.run_watch import RunWatch
from dfz_ray.manager.status_publisher import Reading, StatusPublisher
from dfz_ray.manager.task_inputs import TaskInputs
from dfz_ray.manager.worker_reports import WorkerReports
from dfz_ray.protocol.columns import unpack, unpack_works
from dfz_ray.protocol.manager_side import Answer
from dfz_ray.protocol.submission import (
    OpenedRun,
    RunOptions,
    ShippedDomain,
    Submission,
    SubmittedKind,
)
from dfz_ray.protocol.task_events import TaskEvents

logger = logging.getLogger("dfz_ray")

EARLY_COMMITS_S = 0.02
"""Seconds between two commits of a run that reports ends before they are on disk: a chain of calls shares them."""
ROOM_S = 0.03
"""Seconds after which a lease that Ray has not placed makes leases of other runs end that linger."""


class ActiveRun:
    """A run that this manager works on.

    It takes the driver's calls; `reports` takes those of its workers. `manager` is the Ray handle of the actor.
    `make_room` lets leases of other runs end that linger; it is called if Ray has no place for a lease.
    """

    def __init__(
        self,
        run_id: str,
        folder: Path,
        journal: OpenedJournal,
        options: RunOptions,
        manager: Any,
        meta: dict[str, str],
        cost: ManagerCost,
        relays: Relays,
        is_nested: bool = False,
        make_room: Callable[[], None] = lambda: None,
    ) -> None:
        self._id = run_id
        self._lock, self._writer, self._recovered = journal
        self._engine = Engine(replace(options.engine, first_chunk=self._recovered.next_chunk))
        self._lanes = Lanes(run_id, manager, options.engine.grace_s, options.engine.width, is_nested)
        self._inputs = TaskInputs()
        self._files = RunFiles(folder, meta, self._recovered.files)
        self._scope = ""
        """The scope of the cancellation that is being handled."""
        delay_s = EARLY_COMMITS_S if options.reports_early else 0.0
        commits = GroupCommit(self._writer, self._on_committed, self._fail, delay_s)
        recovered, self._versions = self._recovered, find_versions(meta)
        self._journal = RunJournal(
            self._writer, commits, recovered.next_cancel, recovered.next_pool_change, self._versions
        )
        self._pool = PoolReporter(options, self._journal, self._handle)
        self._reports_early = options.reports_early
        self._make_room = make_room
        self._room_timer: asyncio.TimerHandle | None = None
        on_over, spare, relay_leases = self._on_lease_over, self._spare, options.relay_leases
        self._leases = LeaseCalls(options.engine.grace_s, on_over, spare, self._fail, relays, relay_leases)
        find_needs, node_wait_s, held = self._engine.find_needs, options.node_wait_s, options.held
        self._nodes = NodeWatch(self._lanes.shapes, self._handle, self._pool.on_held, find_needs, node_wait_s, held)
        may_make_room, count_unplaced = self._engine.may_make_room, self._leases.count_unplaced
        self._places = PlaceWatch(may_make_room, self._lanes.shapes, count_unplaced, self._handle)
        self._buffer = EventBuffer(options.has_listener)
        find_place = self._leases.find_place
        self._watch = RunWatch(self._engine, self._lanes.domains, find_place, busy_clock=read_busy_s)
        self.reports = WorkerReports(
            self._handle,
            self._raise_failure,
            lambda given: self._inputs.pack(given.chunk.numbers),
            self._leases,
            self._journal,
            self._buffer,
            self._watch,
            cost,
            has_cpu=self._pool.is_auto,
        )
        metrics = RunMetrics(meta.get("name", ""), meta.get("run_id", run_id), self._watch)
        self._publisher = StatusPublisher(folder, meta, self._writer.epoch, self._read, self.cancel, metrics.publish)
        self._done = asyncio.Event()
        """Set while no task is open, or the run can't go on."""
        self._done.set()
        self._has_more = asyncio.Event()
        """Wakes whoever waits for tasks that are on their way."""
        self._is_closing = False
        self._failure: BaseException | None = None
        self._cost = cost
        self._timer: asyncio.TimerHandle | None = None
        self._executors = self._make_executors()

    def _make_executors(self) -> dict[type, Callable[[Any], None]]:
        """The function that executes each command of the engine, but for the answers to leases."""
        return {
            StartLease: self._start,
            CommitEnds: self._on_ends,
            CommitLosses: lambda losses: self._journal.add_losses(losses, self._leases.tracebacks),
            NoteAttemptsLost: self._journal.add_lost_attempts,
            NotePoolChanged: self._pool.note,
            CommitCancellations: lambda cancelled: self._journal.add_cancellations(cancelled, self._scope),
            InterruptLease: self._leases.interrupt,
            KillLease: self._leases.kill,
        }

    # --- calls of the driver ---------------------------------------------------------------------------------------

    def describe(self) -> OpenedRun:
        """The kinds, batches and tasks that are known so far."""
        recovered = self._recovered
        kinds = [SubmittedKind(*kind) for kind in recovered.kinds]
        return OpenedRun(kinds, recovered.next_batch, recovered.next_chunk, len(recovered.kind_of), recovered.is_new)

    def look_ahead(self) -> None:
        """Prepare for tasks that come soon."""
        self._nodes.look_ahead()

    def go_on(self, domains: Sequence[ShippedDomain]) -> None:
        """Queue the tasks without an outcome in the journal. Nothing from a journal is ever unpickled.

        Raises:
            RunFolderRefused: one of the domains now computes its digests in another way.
        """
        recovered = self._recovered
        refuse_other_volatile(domains, recovered.volatile, self._versions)
        self._journal.note_versions(domains)
        self._lanes.load_domains(domains)
        kinds = self._add_kinds(self.describe().kinds)
        self._inputs.add(kinds, recovered.works, recovered.kind_of)
        self._files.forget(recovered.settled)
        recovered.works.clear()  # so that the inputs of tasks that are final are not kept
        charged, lost = recovered.charged, recovered.free_losses
        self._handle(TasksSubmitted(kinds, recovered.kind_of, recovered.settled, charged, lost))
        self._note_done()

    async def add_inputs(self, notes: Mapping[str, str]) -> None:
        """Take in notes on inputs that are in the run folder; returns when they are on disk.

        Raises:
            RunFolderRefused: the run shares another array under one of the names.
        """
        self._raise_failure()
        new = self._files.add_large(notes)
        if new:
            self._journal.add_notes(new)
            await self._journal.commits.wait()

    async def submit(self, submission: Submission) -> None:
        """Take in new tasks; returns when they are on disk, or, if they are not awaited, at once."""
        await self._wait_for_tasks(submission.before)
        self._take_in(submission)
        if submission.is_awaited:
            await self._journal.commits.wait()
        else:
            self._journal.commits.soon()

    def submit_at_once(self, submission: Submission) -> bool:
        """Take in new tasks; False if they are awaited, or others that were sent before them are on their way."""
        if submission.is_awaited or len(self._inputs) < submission.before:
            return False
        self._take_in(submission)
        self._journal.commits.soon()
        return True

    def _take_in(self, submission: Submission) -> None:
        self._raise_failure()
        try:
            self._add_tasks(submission)
        except Exception as error:  # whatever was sent after these tasks waits for them
            self._fail(error)
            raise

    def _add_tasks(self, submission: Submission) -> None:
        first, kind_of = len(self._inputs), unpack(submission.tasks.kinds)
        self._cost.on_submitted(len(kind_of))
        self._files.add(submission.files, submission.calls)
        self._lanes.load_domains(submission.domains)
        kinds = self._add_kinds(submission.kinds)
        self._inputs.add(kinds, unpack_works(submission.tasks.works), kind_of)
        self._journal.add_submission(submission, first)
        # They may be handed out at once: their ends are committed after them, so all results are of known tasks.
        self._handle(TasksSubmitted(kinds, kind_of))
        self._note_done()
        self._has_more.set()  # this wakes those that wait now
        self._has_more.clear()

    async def _wait_for_tasks(self, count: int) -> None:
        """Wait until the run has so many tasks."""
        while len(self._inputs) < count and self._failure is None:
            if self._is_closing:
                raise InfrastructureLost("the run was closed")
            await self._has_more.wait()

    def _add_kinds(self, kinds: Sequence[SubmittedKind]) -> list[KindEntry]:
        before = len(self._lanes.shapes)
        entries = self._lanes.add_kinds(kinds)
        if len(self._lanes.shapes) > before:
            self._nodes.size(range(before, len(self._lanes.shapes)))
        return entries

    async def progress(self, timeout_s: float) -> list[int]:
        """Tasks per state, in the order of State: after the timeout, or as soon as all are in a final state.

        Raises:
            DfzError: the run can't go on.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._done.wait()
        self._raise_failure()
        return list(self._engine.tasks.counts)

    def take_events(self, timeout_s: float, number: int, together_s: float = 0.0) -> Later[TaskEvents]:
        """All task events since the last call: as soon as there is one, or after the timeout.

        Calls are numbered. The first event waits `together_s` for the ends of all other open tasks.

        Raises:
            DfzError: the run can't go on.
        """

        def check(events: TaskEvents) -> TaskEvents:
            self._raise_failure()
            return events

        return self._buffer.take(self._engine.tasks.counts, self._done, timeout_s, number, together_s).then(check)

    async def cancel(self, numbers: set[int] | None, scope: str, before: int = 0) -> None:
        """Cancel those of these tasks, or of all, that are open, once the run has the `before` tasks that were sent.

        Returns when that is on disk.
        """
        await self._wait_for_tasks(before)
        self._raise_failure()
        self._scope = scope
        self._handle(CancelAsked(None if numbers is None else sorted(numbers)))
        await self._journal.commits.wait()

    async def close(self, grace_s: float) -> None:
        """Stop handing out work, wait a while for running tasks to end, commit all ends, and close the journal.

        Whatever fails here, the journal is closed, and the run's lock is released.
        """
        self._is_closing = True
        self._has_more.set()
        async with contextlib.AsyncExitStack() as at_end:  # the last one is called first
            at_end.callback(self._lock.close)
            at_end.push_async_callback(self._files.close)
            at_end.push_async_callback(self._journal.commits.close)
            at_end.callback(self._cost.forget, self._id)  # after the last look
            at_end.push_async_callback(self._publisher.close)
            at_end.callback(self._places.close)
            at_end.callback(self._nodes.close)
            try:
                with contextlib.suppress(*[Exception] if self._failure is not None else []):
                    self._handle(StopAsked())
            finally:
                self._buffer.wake_all()
                # Leases that Ray has not placed yet are left alone: once placed they find the run closed, and return.
                # To cancel one could hit a worker in the middle of an import, which spoils it for every later lease.
                table = self._engine.lease_table
                if not table.has_wanted:  # cancelled tasks have the time that they were promised
                    grace_s = max(grace_s, self._engine.options.grace_s)
                await self._leases.end_placed(table.find_busy, grace_s)
                with contextlib.suppress(DfzError):
                    await self._journal.commits.wait()

    def gathering(self) -> contextlib.AbstractContextManager[None]:
        """Tell the driver nothing until the block is left."""
        return self._buffer.gathering()

    def make_room(self, most: float = math.inf) -> None:
        """Let leases end that linger, so many at most: another run waits for a place, or too many calls wait."""
        if self._failure is None and (lingering := len(self._engine.lease_table.lingering)):
            self._handle(PlacesWanted(int(min(lingering, most))))

    def note_lease_error(self, lease: int, message: str, traceback: str | None) -> None:
        """Note the error that ends a lease."""
        self._leases.note_error(lease, message, traceback)

    async def get_file(self, name: str) -> bytes | list[Any] | None:
        """A file of the run, as RunFiles gives it."""
        return await self._files.get(name)

    # --- commands of the engine -----------------------------------------------------------------------------------

    def _handle(self, event: Event) -> Answer | None:
        """Bring an event to the engine, and execute its commands; returns its answer to a lease that asks for work."""
        answer: Answer | None = None
        try:
            for command in self._engine.handle(event, time.monotonic()):
                if not isinstance(command, Answer):
                    self._executors[type(command)](command)
                    continue
                if isinstance(command, GiveChunk):
                    self._note_given(command)
                if isinstance(event, WorkAsked) and command.lease == event.lease:
                    answer = command
                else:
                    self.reports.answer(command)
        except Exception as error:
            self._fail(error)
            raise
        due = self._engine.wake_at
        if due is not None and (self._timer is None or due < self._timer.when()):
            if self._timer is not None:
                self._timer.cancel()
            self._timer = asyncio.get_running_loop().call_at(due, self._on_time)  # its clock is time.monotonic()
        return answer

    def _note_given(self, given: GiveChunk) -> None:
        chunk = given.chunk
        self._journal.add_chunk(given)
        self._watch.on_given(len(chunk.numbers))
        self._buffer.on_given(chunk.id, chunk.numbers, self._leases.host_of(given.lease))
        if given.is_begun:
            self._buffer.on_began(chunk.id)

    def _start(self, start: StartLease) -> None:
        self._leases.start(start.lease, start.lane, functools.partial(self._lanes.call, start))
        if self._room_timer is None:
            self._room_timer = asyncio.get_running_loop().call_later(ROOM_S, self._look_for_room)

    def _look_for_room(self) -> None:
        self._room_timer = None
        if self._failure is None and self._engine.lease_table.starting:
            self._make_room()

    def _on_ends(self, ends: CommitEnds) -> None:
        ended = self.reports.pop_ended(ends.chunk)
        self._journal.add_ends(ends, ended)
        if self._reports_early:
            self._buffer.on_ended(ends, ended)

    def _on_time(self) -> None:
        self._timer = None
        if self._failure is None:
            self._handle(TimePassed())

    # --- everything else -------------------------------------------------------------------------------------------

    def _on_lease_over(self, event: LeaseEnded | LeaseLost) -> None:
        self.reports.forget(event.lease)
        if self._failure is None:
            self._handle(event)

    def _spare(self, lease: int) -> bool:
        return self._engine.spare(lease, time.monotonic())

    def _on_committed(self, pending: Pending, written: Mapping[str, Sequence[Row]]) -> None:
        with self._buffer.gathering():
            self._buffer.on_committed(written, pending.payloads)
            self._watch.on_committed(written)
            if pending.ended:
                self._handle(OutcomesCommitted(pending.ended))
                self._inputs.forget(itertools.chain.from_iterable(pending.ended.values()))
                self._files.forget(itertools.chain.from_iterable(pending.ended.values()))
                self._note_done()

    def _note_done(self) -> None:
        """Note if no task is open, which `progress` and `take_events` wait for; a new task may come afterwards."""
        if self._engine.tasks.open and self._failure is None:
            self._done.clear()
        elif not self._done.is_set():
            self._done.set()
            self._buffer.wake()

    def _read(self) -> Reading:
        engine, notices = self._engine, list(self._nodes.notices.values())
        commits, groups = self._writer.commits, self._journal.commits
        activity = self._watch.view(groups.commits, groups.commit_s)
        if activity.load is not None:
            self._cost.on_look(self._id, activity.load.is_full)
            notices.extend(activity.load.describe_limits())
        slots = engine.slots, self._pool.why, engine.slots_in_use
        return Reading(engine.tasks.counts, *slots, commits, notices, activity)

    def _fail(self, error: BaseException) -> None:
        """Stop the run, and keep the first error: every later call raises it."""
        if self._failure is None:
            self._failure = error
            logger.error("run %s stops: %s", self._id, error, exc_info=None if isinstance(error, DfzError) else error)
            self._journal.commits.give_up(error)
            self._leases.start_no_more()
            self._done.set()
            self._has_more.set()
            self._buffer.wake_all()
            self.reports.fail(error)

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise InfrastructureLost(f"the run can't go on: {self._failure}") from None
