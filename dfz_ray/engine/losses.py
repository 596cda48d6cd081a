"""What follows from the death of a worker for the tasks in its hands."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from dfz_ray.engine.attempts import Attempts
from dfz_ray.engine.lease import HeldChunk, Lease
from dfz_ray.engine.lease_table import LeaseTable
from dfz_ray.engine.messages import Command, CommitLosses, LeaseLost, NoteAttemptsLost
from dfz_ray.engine.queue import Lane, Queue

STILLBORN_LIMIT = 5
"""A lane is given up when so many of its workers in a row, each started after the last one's death, never asked."""
FRUITLESS_LIMIT = 5
"""After so many deaths of workers in a row that no task is to blame for, a lane's tasks are tried in halves."""


class _Loss(NamedTuple):
    """How a worker was lost."""

    reason: str
    message: str
    is_free: bool
    """No task is to blame."""
    has_suspects: bool
    """It executed several tasks, and any of them may be to blame."""


class Losses:
    """Decides which task is charged for the death of a worker, and hands the others back.

    Args:
        queue: what waits.
        hands: what is in the hands of leases.
        attempts: what has been charged.
    """

    def __init__(self, queue: Queue, hands: LeaseTable, attempts: Attempts) -> None:
        self._queue = queue
        self._hands = hands
        self._attempts = attempts

    def on_stillborn(self, event: LeaseLost, lane: Lane) -> list[Command]:
        """Where worker after worker dies before it asks for work, as its domain is loaded, say, no task can begin."""
        if event.lease < lane.replaced_from or event.reason == "node_lost":
            return []  # one fault may kill many at once, and a node's is not theirs
        lane.stillborn += 1
        lane.replaced_from = self._hands.next_lease
        numbers = self._queue.clear(lane) if lane.stillborn >= STILLBORN_LIMIT else []
        message = f"{lane.stillborn} workers in a row died before they could begin a task: {event.message}"
        return [CommitLosses("worker_crashed", dict.fromkeys(numbers, message))] if numbers else []

    def on_lost(self, lease: Lease, event: LeaseLost, is_stopped: bool, now: float) -> list[Command]:
        """The task that the worker executed is charged, where it is to blame; all others go back.

        Where it is not known which one that was, everything that the worker may have begun is suspect, and is run in
        halves until the guilty task is alone: the message that it had begun the next chunk may have died with it. Where
        the worker executed several, these are the suspects; but it may be known whose deadlines ended it.

        Args:
            lease: the lease, which has no slot any more.
            event: its loss.
            is_stopped: whether the manager itself kills what has not ended: then no task is charged.
            now: the time.
        """
        reason = lease.killed or event.reason
        if reason == "timeout" and (event.reason != "worker_crashed" or len(event.executing or ()) > 1):
            reason = event.reason  # it died of something else before it was killed
        is_free = is_stopped or reason in ("preempted", "cancelled")
        executing = self._find_executing(lease, event, is_free)
        has_suspects = len(executing or ()) > 1 and not (is_free or event.are_guilty)
        lost = _Loss(reason, event.message, is_free, has_suspects)
        commands: list[Command] = []
        back: list[tuple[Sequence[int], bool]] = []
        for position, held in enumerate(lease.held.values()):
            mine = [number for number in executing or () if number in held.chunk.numbers]
            begun = held.begun_at is not None or bool(mine)
            if begun:
                self._hands.begin(held, now)
            wanted = self._hands.release(held)
            if executing is None:
                commands.append(NoteAttemptsLost(held.chunk.id, wanted, reason, event.message))
                if position == 0 or begun:
                    self._hands.suspect(wanted, begun)
                    continue
            elif begun:
                commands.extend(self._on_begun_lost(held, wanted, mine, lost, now))
                wanted = [number for number in wanted if number not in mine]
            back.append((wanted, begun))
        for numbers, begun in reversed(back):  # so that the first of them is due first again
            self._hands.hand_back(numbers, begun, now)
        return [command for command in commands if not isinstance(command, NoteAttemptsLost) or command.numbers]

    def _find_executing(self, lease: Lease, event: LeaseLost, is_free: bool) -> Sequence[int] | None:
        """The tasks that were executed, none where it does not matter, None where nobody knows."""
        in_hand = [number for held in lease.held.values() for number in held.chunk.numbers]
        executing = event.executing
        if executing:
            executing = list(set(executing).intersection(in_hand))
        if is_free:
            return executing or ()
        if event.reason == "node_lost" and executing is None:  # a node takes with it what could have told
            forgiven = [self._attempts.forgive(number) for held in lease.begun() for number in held.chunk.numbers]
            return () if all(forgiven) else None
        lane = self._queue.lanes[lease.lane]
        is_fruitless = executing is not None and not executing
        lane.fruitless += is_fruitless and bool(in_hand)
        if executing is None or (is_fruitless and lane.fruitless > FRUITLESS_LIMIT):
            return in_hand if len(in_hand) == 1 else None
        return executing

    def _on_begun_lost(
        self, held: HeldChunk, wanted: Sequence[int], executing: Sequence[int], lost: _Loss, now: float
    ) -> list[Command]:
        """What was executed of a chunk is lost with its worker, and who executed may be to blame for that."""
        chunk = held.chunk
        before = chunk.numbers
        if executing:  # tasks are begun in order
            before = chunk.numbers[: max(map(chunk.numbers.index, executing))]
        chosen = set(wanted)
        executed = [number for number in before if number in chosen and number not in executing]
        commands: list[Command] = [NoteAttemptsLost(chunk.id, executed, lost.reason, lost.message)]
        suspects: list[int] = []
        for number in executing:
            if number not in chosen:
                continue
            if lost.is_free or (lost.reason == "node_lost" and self._attempts.forgive(number)):
                self._hands.hand_back([number], True, now)
            elif lost.has_suspects:
                suspects.append(number)
            else:
                commands.append(self._charge(chunk.id, number, lost, now))
                continue
            commands.append(NoteAttemptsLost(chunk.id, [number], lost.reason, lost.message))
        if suspects:
            self._hands.suspect(sorted(suspects), True)
        return commands

    def _charge(self, chunk: int, number: int, lost: _Loss, now: float) -> Command:
        delay_s = self._attempts.charge(number, lost.reason)
        if delay_s is None:
            self._hands.probe_ended(number)
            return CommitLosses(lost.reason, {number: lost.message}, chunk)
        self._hands.delay(number, now + delay_s)
        return NoteAttemptsLost(chunk, [number], lost.reason, lost.message, charged=True)
