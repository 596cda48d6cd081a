"""The cost of a worker's death: which task is charged for it, and which tasks go back."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

from dfz_ray.engine.attempts import Attempts
from dfz_ray.engine.lease import HeldChunk, Lease
from dfz_ray.engine.lease_table import LeaseTable
from dfz_ray.engine.messages import Command, CommitLosses, LeaseLost, NoteAttemptsLost, WorkerSpoiled
from dfz_ray.engine.queue import Lane, Queue

DEATHS_BEFORE_START = 5
"""A lane's tasks fail when so many of its workers in a row, each started after the last one's death, never asked."""
PAUSE_S, PAUSE_DOUBLINGS = 1.0, 6
"""While other workers of the lane are there its tasks do not fail, but it starts no more for so long. The pause doubles
with each further death, so many times.
"""

UNLOADABLE = "the domain can't be loaded on any worker"


class _Loss(NamedTuple):
    """The loss of a worker."""

    reason: str
    message: str
    is_free: bool
    """True if no task is to blame."""
    has_suspects: bool
    """True if any of several tasks may be to blame: those that it executed, and those that it had executed before."""


class Losses:
    """Decides which task is charged for the death of a worker, and hands the others back."""

    def __init__(self, queue: Queue, lease_table: LeaseTable, attempts: Attempts) -> None:
        self._queue = queue
        self._lease_table = lease_table
        self._attempts = attempts

    def on_died_before_start(self, event: LeaseLost, lane: Lane, now: float) -> list[Command]:
        """Count a worker that was lost before it asked for work, e.g. as it imported; too many fail the lane's tasks.

        They fail only if no other worker of the lane is left: one that works shows that the tasks can be executed, and
        one that starts may. If workers of the lane have worked before, those of other lanes may have their places.
        """
        if event.reason == "node_lost":  # it says nothing about the lane
            return []
        if event.lease >= lane.replaced_from:  # one fault may kill many at once
            lane.deaths_before_start += 1
            lane.replaced_from = self._lease_table.next_lease
        beyond, cannot_load = lane.deaths_before_start - DEATHS_BEFORE_START, event.reason == "exception"
        if lane.leases and (beyond >= 0 or cannot_load):
            self._queue.pause(lane, now + PAUSE_S * 2 ** max(0, min(beyond, PAUSE_DOUBLINGS)))
            return []
        self._queue.resume(lane)
        if beyond < 0:
            return []
        if lane.has_begun and len(self._lease_table.leases) > self._lease_table.starting:
            lane.deaths_before_start = 0
            self._queue.pause(lane, now + PAUSE_S)
            return []
        deaths = f"{lane.deaths_before_start} workers in a row died before they could begin a task"
        message = f"{UNLOADABLE if cannot_load else deaths}: {event.message}"
        losses = dict.fromkeys(self._lease_table.clear(lane), message)
        reason = event.reason if cannot_load else "worker_crashed"
        return [CommitLosses(reason, losses, traceback=event.traceback)] if losses else []

    def on_lost(self, lease: Lease, event: LeaseLost, is_free: bool, now: float) -> list[Command]:
        """Charge the task that the worker executed, if it is to blame; all others go back.

        If nobody knows which task that was, every task that the worker may have begun is suspect, also of the next
        chunk, because the worker may have died before its report of that beginning was sent. Suspects are run in halves
        until the guilty task is alone. If the worker executed several tasks, these are the suspects, unless the guilty
        ones are known: those whose deadlines ended it. If it crashed, those that it had executed before are suspects,
        too, if their results were not reported: what a task has broken may kill its worker when the next one is
        executed. A task that was charged before is taken for the guilty one. A task that was alone where threads of
        others were left is charged only once that has happened to it several times. If the loss is free, as when the
        run is stopped and the manager itself kills workers, no task is charged.
        """
        reason = lease.killed or event.reason
        if reason == "timeout":
            reason, event = _judge_late(lease, event)
        is_free = is_free or reason in ("preempted", "cancelled")
        executing = self._find_executing(lease, event, is_free)
        has_suspects = (
            not (is_free or event.are_guilty)
            and executing is not None
            and (len(executing) > 1 or (reason == "worker_crashed" and self._is_doubtful(lease, executing)))
        )
        lost = _Loss(reason, event.message, is_free, has_suspects)
        commands: list[Command] = []
        back: list[tuple[Sequence[int], bool]] = []
        for position, held in enumerate(lease.held.values()):
            mine = [number for number in executing or () if number in held.chunk.numbers]
            begun = held.begun_at is not None or bool(mine)
            if has_suspects and reason == "worker_crashed" and not held.has_order:
                begun = True  # idle threads begin it at once, and the report of that died with the worker
            if begun:
                self._lease_table.begin(held, now)
                over = self._find_superseded(held, mine)
                commands.append(NoteAttemptsLost(held.chunk.id, over, reason, event.message, superseded=True))
            wanted = self._lease_table.release(held)
            if executing is None:
                commands.append(NoteAttemptsLost(held.chunk.id, wanted, reason, event.message))
                if position == 0 or begun:
                    self._lease_table.suspect(wanted, begun)
                    continue
            elif begun:
                executed = list(set(wanted).intersection(_find_executed(held, mine)))
                commands.append(NoteAttemptsLost(held.chunk.id, executed, reason, event.message))
                commands.extend(self._on_executing_lost(held.chunk.id, set(mine).intersection(wanted), lost, now))
                if has_suspects and reason == "worker_crashed":
                    self._lease_table.suspect(sorted(executed), True)
                    mine = [*mine, *executed]
                gone = set(mine)
                wanted = [number for number in wanted if number not in gone]
            back.append((wanted, begun))
        for numbers, begun in reversed(back):  # so that the first of them is due first again
            self._lease_table.hand_back(numbers, begun, now)
        return [command for command in commands if not isinstance(command, NoteAttemptsLost) or command.numbers]

    def on_spoiled(self, lease: Lease, event: WorkerSpoiled, now: float) -> list[Command]:
        """No task is charged for the change of a process's state: what it changed may be what it is there for."""
        commands: list[Command] = []
        message = f"a task that shared its process changed this: {event.message}"
        for held in reversed(lease.held.values()):  # so that the first of them is due first again
            is_spoiled = held.chunk.id in event.chunks
            if is_spoiled:
                self._lease_table.begin(held, now)
            wanted = self._lease_table.release(held)
            if is_spoiled:
                commands.append(NoteAttemptsLost(held.chunk.id, wanted, "state_changed", message))
                self._lease_table.suspect_each(wanted)
            else:
                self._lease_table.hand_back(wanted, held.begun_at is not None, now)
        return [command for command in commands if isinstance(command, NoteAttemptsLost) and command.numbers]

    def _find_superseded(self, held: HeldChunk, executing: Sequence[int]) -> Sequence[int]:
        """The tasks of a chunk that were executed although they are over: cancelled, or completed elsewhere."""
        revoked = self._lease_table.revoked.intersection(held.chunk.numbers)
        return sorted(revoked if len(held.chunk.numbers) == 1 else revoked.intersection(executing))

    def _find_executing(self, lease: Lease, event: LeaseLost, is_free: bool) -> Sequence[int] | None:
        """The tasks that were executed: empty if it does not matter, None if nobody knows."""
        in_hand = [number for held in lease.held.values() for number in held.chunk.numbers]
        executing = event.executing
        if executing:
            executing = list(set(executing).intersection(in_hand))
        if is_free:
            return executing or ()
        if event.reason == "node_lost" and executing is None:  # the crash marker was lost with the node
            in_hand = [number for held in lease.begun() for number in held.chunk.numbers]
            executing = ()
        if executing:
            return executing
        forgiven = [self._attempts.forgive(number) for number in in_hand if executing is not None]
        if executing is not None and all(forgiven):
            return ()
        if len(in_hand) != 1:
            return None
        if event.had_strays and self._attempts.forgive(in_hand[0]):
            return ()
        return in_hand  # it dies again and again, perhaps of what a task leaves behind

    def _is_doubtful(self, lease: Lease, executing: Sequence[int]) -> bool:
        """True if a task that the worker had executed before may be to blame, as well as the one that it executed."""
        if not executing or any(map(self._attempts.is_charged, executing)):
            return False
        chunks = [
            held
            for held in lease.held.values()
            if held.begun_at is not None or not held.has_order or set(executing).intersection(held.chunk.numbers)
        ]
        return any(_find_executed(held, executing) for held in chunks)

    def _on_executing_lost(self, chunk: int, executing: Collection[int], lost: _Loss, now: float) -> Iterator[Command]:
        """A task that was executed is lost with its worker, and may be to blame."""
        suspects: list[int] = []
        for number in executing:
            if lost.is_free or (lost.reason == "node_lost" and self._attempts.forgive(number)):
                self._lease_table.hand_back([number], True, now)
            elif lost.has_suspects:
                suspects.append(number)
            else:
                yield self._charge(chunk, number, lost, now)
                continue
            yield NoteAttemptsLost(chunk, [number], lost.reason, lost.message)
        if suspects:
            self._lease_table.suspect(sorted(suspects), True)

    def _charge(self, chunk: int, number: int, lost: _Loss, now: float) -> Command:
        delay_s = self._attempts.charge(number, lost.reason)
        if delay_s is None:
            self._lease_table.probe_ended(number)
            return CommitLosses(lost.reason, {number: lost.message}, chunk)
        self._lease_table.delay(number, now + delay_s)
        return NoteAttemptsLost(chunk, [number], lost.reason, lost.message, charged=True)


def _judge_late(lease: Lease, event: LeaseLost) -> tuple[str, LeaseLost]:
    """Why a worker was lost that was killed for being late, and its loss without a task that can't be late.

    A worker may be late by no fault of its tasks: its reports may have been lost with a relay.
    """
    known = set(event.executing or ())
    if event.reason != "worker_crashed" or len(known) > 1:
        return event.reason, event  # it died of another cause before it was killed, or nobody knows who is late
    for held in lease.held.values():
        if known.intersection(held.chunk.numbers):
            has_deadline = held.taken.limit_s < math.inf
            return ("timeout", event) if has_deadline else (event.reason, replace(event, executing=()))
    has_begun = any(held.is_reported or event.executing is None for held in lease.begun())
    return "timeout" if has_begun else event.reason, event


def _find_executed(held: HeldChunk, executing: Sequence[int]) -> Sequence[int]:
    """The tasks of a chunk that its worker had executed: those before the ones that it executed, if these are in it.

    Threads begin tasks in that order, but end them in any: there it may be any other task.
    """
    numbers = held.chunk.numbers
    places = [numbers.index(number) for number in set(executing).intersection(numbers)]  # tasks are begun in order
    before = numbers[: max(places)] if places and held.has_order else numbers
    return [number for number in before if number not in executing]
