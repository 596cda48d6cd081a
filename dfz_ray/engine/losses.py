"""What follows from the death of a worker for the tasks in its hands."""

from __future__ import annotations

from collections.abc import Sequence

from dfz_ray.engine.attempts import Attempts
from dfz_ray.engine.hands import Hands
from dfz_ray.engine.lease import HeldChunk, Lease
from dfz_ray.engine.messages import NO_TASK, Command, CommitLosses, LeaseLost, NoteAttemptsLost
from dfz_ray.engine.queue import Lane, Queue

STILLBORN_LIMIT = 5
"""A lane is given up when so many of its workers in a row, each started after the last one's death, never asked."""
FRUITLESS_LIMIT = 5
"""After so many deaths of workers in a row that no task is to blame for, a lane's tasks are tried in halves."""


class Losses:
    """Decides which task is charged for the death of a worker, and hands the others back.

    Args:
        queue: what waits.
        hands: what is in the hands of leases.
        attempts: what has been charged.
    """

    def __init__(self, queue: Queue, hands: Hands, attempts: Attempts) -> None:
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
        halves until the guilty task is alone: the message that it had begun the next chunk may have died with it.

        Args:
            lease: the lease, which has no slot any more.
            event: its loss.
            is_stopped: whether the manager itself kills what has not ended: then no task is charged.
            now: the time.
        """
        reason = lease.killed or event.reason
        is_free = is_stopped or reason in ("preempted", "cancelled")
        executing = self._find_executing(lease, event, is_free)
        commands: list[Command] = []
        back: list[tuple[Sequence[int], bool]] = []
        for position, held in enumerate(lease.held.values()):
            begun = held.begun_at is not None or executing in held.chunk.numbers
            if begun:
                self._hands.begin(held, now)
            wanted = self._hands.release(held)
            if executing is None:
                commands.append(NoteAttemptsLost(held.chunk.id, wanted, reason, event.message))
                if position == 0 or begun:
                    self._hands.suspect(wanted, begun)
                    continue
            elif begun:
                commands.extend(self._on_begun_lost(held, wanted, executing, event.message, reason, is_free, now))
                wanted = [number for number in wanted if number != executing]
            back.append((wanted, begun))
        for numbers, begun in reversed(back):  # so that the first of them is due first again
            self._hands.hand_back(numbers, begun, now)
        return [command for command in commands if not isinstance(command, NoteAttemptsLost) or command.numbers]

    def _find_executing(self, lease: Lease, event: LeaseLost, is_free: bool) -> int | None:
        """The task that was executed, NO_TASK where there was none or it does not matter, None where nobody knows."""
        in_hand = [number for held in lease.held.values() for number in held.chunk.numbers]
        executing = event.executing
        if executing is not None and executing not in in_hand:
            executing = NO_TASK
        if is_free:
            return NO_TASK if executing is None else executing
        if event.reason == "node_lost" and executing is None:  # a node takes with it what could have told
            forgiven = [self._attempts.forgive(number) for held in lease.begun() for number in held.chunk.numbers]
            return NO_TASK if all(forgiven) else None
        lane = self._queue.lanes[lease.lane]
        lane.fruitless += executing == NO_TASK and bool(in_hand)
        if executing is None or (executing == NO_TASK and lane.fruitless > FRUITLESS_LIMIT):
            return in_hand[0] if len(in_hand) == 1 else None
        return executing

    def _on_begun_lost(
        self,
        held: HeldChunk,
        wanted: Sequence[int],
        executing: int,
        message: str,
        reason: str,
        is_free: bool,
        now: float,
    ) -> list[Command]:
        """What was executed of a chunk is lost with its worker, and one task may be to blame for that."""
        chunk = held.chunk
        before = chunk.numbers[: chunk.numbers.index(executing)] if executing in chunk.numbers else chunk.numbers
        chosen = set(wanted)
        executed = [number for number in before if number in chosen]
        commands: list[Command] = [NoteAttemptsLost(chunk.id, executed, reason, message)]
        if executing not in chosen:
            return commands
        if is_free or (reason == "node_lost" and self._attempts.forgive(executing)):
            self._hands.hand_back([executing], True, now)
            return [*commands, NoteAttemptsLost(chunk.id, [executing], reason, message)]
        delay_s = self._attempts.charge(executing, reason)
        if delay_s is None:
            self._hands.probe_ended(executing)
            return [*commands, CommitLosses(reason, {executing: message}, chunk.id)]
        self._hands.delay(executing, now + delay_s)
        return [*commands, NoteAttemptsLost(chunk.id, [executing], reason, message, charged=True)]
