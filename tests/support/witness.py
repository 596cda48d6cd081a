"""An engine whose every answer is checked."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from dfz_ray.engine.engine import LATE_S, Engine, EngineOptions
from dfz_ray.engine.lease import BEGIN_S, Lease
from dfz_ray.engine.messages import (
    AnswerEnd,
    AnswerWait,
    CancelAsked,
    Chunk,
    ChunkBegan,
    ChunkEnded,
    Command,
    CommitCancellations,
    CommitEnds,
    CommitLosses,
    Event,
    GiveChunk,
    InterruptLease,
    KillLease,
    KindEntry,
    LaneSized,
    LeaseEnded,
    LeaseLost,
    NoteAttemptsLost,
    OutcomesCommitted,
    StartLease,
    StopAsked,
    TasksSubmitted,
    TimePassed,
    WorkAsked,
    WorkerSpoiled,
)
from dfz_ray.specs.policy import Policy
from dfz_ray.specs.states import STATES, State

Answer = GiveChunk | AnswerWait | AnswerEnd

MOST_OVERVIEWED = 200
"""Up to so many tasks the view of all kinds is compared after every event: that takes time by all tasks."""
FEW_LANES_AND_KINDS = 60
"""With more of them the lanes' books are compared after every hundredth event only."""


class Handed(NamedTuple):
    """A chunk as it was handed out."""

    at: float
    lease: int
    numbers: Sequence[int]
    ahead: bool
    """The lease had another one in hand."""
    left: int
    """How many tasks waited, this chunk's included."""


def chunk_ended(lease: int, chunk: Chunk, duration_s: float = 0.001) -> ChunkEnded:
    """A worker executed a whole chunk; all tasks completed, and took as long."""
    return ChunkEnded(lease, chunk.id, list(chunk.numbers), [duration_s] * len(chunk.numbers))


class Witness:
    """An engine, and books about it that are kept from its events and commands alone and compared after every event."""

    def __init__(self, slots: int, target_s: float = 0.1, lease_s: float = 2.0, **options: Any) -> None:
        self.engine = Engine(EngineOptions(slots, target_s, lease_s, **options))
        self.kind_of: list[int] = []
        self.lane_of_kind: list[int] = []
        self.policies: list[Policy] = []
        self.lane_of_lease: dict[int, int] = {}
        """Of every lease that was ever started."""
        self.out: set[int] = set()
        """Leases that hold a slot."""
        self.placed: set[int] = set()
        """Leases that have asked for work."""
        self.lingering: set[int] = set()
        """Leases that have asked for work, and have no answer yet."""
        self.held: dict[int, dict[int, Chunk]] = {}
        self.chunk_of: dict[int, int] = {}
        """Task: the one chunk in hand that it is in; not of cancelled ones."""
        self.second_of: dict[int, int] = {}
        """Task: the chunk in hand of its second attempt, which began while that of `chunk_of` was executed."""
        self.repeated: set[int] = set()
        """The tasks that had a second attempt."""
        self.running: set[int] = set()
        self.capacity: dict[int, float] = {}
        self.outcome: dict[int, str] = {}
        """Task: `completed`, `cancelled` or why it failed, from the moment at which that is to be committed."""
        self.states: Counter[State] = Counter()
        self.charged: Counter[int] = Counter()
        self.forgiven: Counter[int] = Counter()
        """Task: how often it was executed as its node was lost, and not charged."""
        self.attempts_lost: Counter[int] = Counter()
        self.superseded: Counter[int] = Counter()
        self.handed: list[Handed] = []
        self.kills: list[KillLease] = []
        self.messages: dict[int, str] = {}
        """Task: the message of its loss."""
        self.stopped = False
        self.slots_before = slots
        """The cap, or what was in use beyond it when it was lowered."""
        self.events = 0
        self._owed: dict[int, str] = {}
        self._due: dict[int, float] = {}
        """Task: no attempt before that."""
        self._begun_at: dict[int, float] = {}
        self._given_at: dict[int, float] = {}
        self._looked_at = 0.0
        """The last time that was reported as such."""
        """Of chunks."""
        self._revoked_at: dict[int, float] = {}
        self._revoked_in: dict[int, set[int]] = {}
        """Task: the chunks in hand that it is still in, although it was cancelled or has ended."""
        self._chunk_ids: set[int] = set()

    def tell(self, event: Event, now: float = 0.0) -> list[Command]:
        """Tell the engine something, check what it answers, and hand that on."""
        self._to_interrupt: set[int] = set()
        """The tasks of which one attempt has won, and whose other one is to be interrupted at once."""
        ended = self._note_event(event, now)
        commands = self.engine.handle(event, now)
        self._check_answers(event, commands)
        for command in commands:
            self._note_command(command, event, ended, now)
        self._check_counts()
        assert not self._to_interrupt
        if isinstance(event, TimePassed):
            if self._revoked_at and not self.stopped and now - self._looked_at <= LATE_S:
                self._check_revoked(now)
            self._looked_at = now
        self.events += 1
        if len(self.lane_of_kind) + len(self.capacity) <= FEW_LANES_AND_KINDS or self.events % 100 == 0:
            self.check_lanes()
        return commands

    def note_slots(self) -> None:
        """There are fewer slots from now on: calls that Ray has not placed hold none any more."""
        gone = self.out - self.engine.lease_table.leases.keys()
        assert not gone & self.placed, "who has begun ends by itself"
        self.out -= gone
        self.slots_before = max(self.slots_before, self.engine.slots)

    def ask(self, lease: int, now: float = 0.0, busy: int = 0) -> Answer:
        """Ask for work, for a lease that gets an answer at once."""
        answer = self.ask_and_wait(lease, now, busy)
        assert answer is not None
        return answer

    def ask_and_wait(self, lease: int, now: float = 0.0, busy: int = 0) -> Answer | None:
        """Ask for work; None if the lease lingers."""
        commands = self.tell(WorkAsked(lease, busy), now)
        return next((one for one in commands if isinstance(one, Answer) and one.lease == lease), None)

    def commit(self, now: float = 0.0) -> None:
        """Report that the outcomes which are owed are on disk."""
        groups: dict[State, list[int]] = {}
        for number, outcome in self._owed.items():
            groups.setdefault(State[outcome.upper()] if outcome in STATES else State.FAILED, []).append(number)
        if groups:
            self.tell(OutcomesCommitted(groups), now)

    # --- books from events ------------------------------------------------------------------------------------------

    def _note_event(self, event: Event, now: float) -> set[int]:
        """Returns, of a chunk that ended, the tasks that were in its lease's hands and are still wanted."""
        match event:
            case TasksSubmitted():
                self._note_submission(event)
            case WorkAsked():
                self.placed.update({event.lease} & self.out)
            case ChunkBegan():
                self._begin(self.held.get(event.lease, {}).get(event.chunk), now)
            case ChunkEnded():
                chunk = self.held.get(event.lease, {}).pop(event.chunk, None)
                mine = {number for number in chunk.numbers if number in self.chunk_of} if chunk else set()
                self._begin(chunk, now)
                # One attempt of two that does not complete is superseded by the other one.
                left = {number for number in mine.intersection(event.failures) if self._has_rival(number)}
                for number in mine.intersection(event.numbers) - left if chunk else ():
                    self._win(number, chunk.id, now)
                back = left | (mine - set(event.numbers))
                self._release(chunk, lambda number: number in back)
                return mine - left
            case LeaseEnded() | LeaseLost() | WorkerSpoiled():
                self.out.discard(event.lease)
                for chunk in self.held.pop(event.lease, {}).values():
                    self._release(chunk, lambda number: True)
            case LaneSized():
                self.capacity[event.lane] = event.capacity
                mine = {one for one in self.out if self.lane_of_lease[one] == event.lane}
                unplaced = sorted(mine - self.placed)
                # A call that Ray has not placed, and can't, holds no slot.
                self.out.difference_update(
                    unplaced[max(0, math.ceil(len(unplaced) - max(0, len(mine) - event.capacity))) :]
                )
            case OutcomesCommitted():
                for number in itertools.chain.from_iterable(event.ended.values()):
                    self.states[State.RUNNING if number in self.running else State.PENDING] -= 1
                    self.running.discard(number)
                    del self._owed[number]
                for state, numbers in event.ended.items():
                    self.states[state] += len(numbers)
            case StopAsked():
                self.stopped = True
        return set()

    def _note_submission(self, event: TasksSubmitted) -> None:
        self.lane_of_kind.extend(kind.lane for kind in event.kinds)
        self.policies.extend(kind.policy for kind in event.kinds)
        self.kind_of.extend(event.kind_of)
        self.states[State.PENDING] += len(event.kind_of) - len(event.settled)
        for number, state in event.settled.items():
            self.states[State(state)] += 1
            self.outcome[number] = State(state).label
        self.charged.update(event.charged)
        self.forgiven.update(event.free_losses)

    def _begin(self, chunk: Chunk | None, now: float) -> None:
        if chunk:
            self._begun_at.setdefault(chunk.id, now)
            self._run({number for number in chunk.numbers if number in self.chunk_of} - self.running)

    def _run(self, numbers: set[int]) -> None:
        self.running |= numbers
        self.states[State.PENDING] -= len(numbers)
        self.states[State.RUNNING] += len(numbers)

    def _rest(self, numbers: set[int]) -> None:
        self.running -= numbers
        self.states[State.RUNNING] -= len(numbers)
        self.states[State.PENDING] += len(numbers)

    def _release(self, chunk: Chunk | None, goes_back: Callable[[int], bool]) -> None:
        for number in chunk.numbers if chunk else ():
            if chunk.id in self._revoked_in.get(number, ()):
                self._revoked_in[number].discard(chunk.id)
                if not self._revoked_in[number]:
                    del self._revoked_in[number], self._revoked_at[number]
            elif self.second_of.get(number) == chunk.id:
                del self.second_of[number]
            elif self.chunk_of.get(number) == chunk.id:
                del self.chunk_of[number]
                other = self.second_of.pop(number, None)
                if other is not None:
                    self.chunk_of[number] = other
                if goes_back(number) and number in self.running and other not in self._begun_at:
                    self._rest({number})

    def _has_rival(self, number: int) -> bool:
        """True if a task has two attempts, of which one may still wait."""
        return number in self.second_of or (number in self.chunk_of and number in self._suspects)

    def _win(self, number: int, chunk: int, now: float) -> None:
        """One attempt of two has ended the task: the other one is to be interrupted."""
        both = {self.chunk_of.get(number), self.second_of.pop(number, None)} - {None}
        if len(both) == 2:
            self.chunk_of[number] = chunk
            self._revoke(number, both - {chunk}, now)
            self._to_interrupt.add(number)

    def _revoke(self, number: int, chunks: set[int | None], now: float) -> None:
        self._revoked_at[number] = now
        self._revoked_in[number] = {chunk for chunk in chunks if chunk is not None}

    @property
    def _suspects(self) -> set[int]:
        """The tasks that wait to be executed by themselves."""
        return {number for lane in self.engine.queue.lanes for group in lane.suspects for number in group.numbers}

    # --- books from commands ----------------------------------------------------------------------------------------

    def _check_answers(self, event: Event, commands: Sequence[Command]) -> None:
        """Who asks for work gets one answer, at once or after a while; who is cancelled is so at once."""
        answered = [command.lease for command in commands if isinstance(command, Answer)]
        asking = self.lingering | ({event.lease} if isinstance(event, WorkAsked) else set())
        assert asking.issuperset(answered), (event, commands)
        assert len(answered) == len(set(answered)), (event, commands)
        self.lingering = asking.difference(answered) & self.engine.lease_table.leases.keys()
        assert self.lingering == self.engine.lease_table.lingering.keys(), (event, commands)
        assert not self.lingering or self.engine.options.linger_s > 0
        for lease in self.lingering:
            lane = self.engine.queue.lanes[self.lane_of_lease[lease]]
            assert not self.held.get(lease), "who waits for work has none"
            assert not lane.waiting, "who waits for work finds none"
            assert not lane.suspects, "who waits for work finds none"
        cancelled = [number for one in commands if isinstance(one, CommitCancellations) for number in one.numbers]
        wanted: set[int] = set()
        if isinstance(event, CancelAsked):
            known = range(len(self.kind_of))
            wanted = set(known if event.numbers is None else event.numbers) - self.outcome.keys()
            wanted.intersection_update(known)
        assert sorted(cancelled) == sorted(wanted)

    def _note_command(self, command: Command, event: Event, ended: set[int], now: float) -> None:
        match command:
            case StartLease():
                self._note_start(command)
            case GiveChunk():
                self._note_chunk(command, now)
            case AnswerEnd():
                if not self.held.get(command.lease):
                    self.out.discard(command.lease)
            case AnswerWait():
                assert self.held[command.lease], "only who holds a chunk may be told to wait"
            case CommitEnds():
                self._note_ends(command, event, ended, now)
            case InterruptLease():
                self._to_interrupt.difference_update(command.numbers)
                in_hand = {number for chunk in self.held[command.lease].values() for number in chunk.numbers}
                assert set(command.numbers) <= in_hand & self._revoked_at.keys()
            case KillLease():
                self._note_kill(command, now)
            case _:
                self._note_loss(command, event, now)

    def _note_loss(self, command: Command, event: Event, now: float) -> None:
        match command:
            case CommitLosses():
                assert all(command.messages.values())
                self.messages.update(command.messages)
                if command.chunk is not None:  # an attempt: it runs until its loss is on disk
                    self._run(command.messages.keys() - self.running)
                    for number in command.messages:
                        self._charge(number, command.reason, now, is_last=True)
                outcome = command.reason if command.state == State.FAILED else command.state.label
                self._owe(dict.fromkeys(command.messages, outcome))
            case NoteAttemptsLost():
                (self.superseded if command.superseded else self.attempts_lost).update(command.numbers)
                if command.superseded:
                    assert not command.charged
                    return
                for number in command.numbers if command.charged else ():
                    self._charge(number, command.reason, now, is_last=False)
                if command.reason == "node_lost" and not command.charged and not self.stopped:
                    self._forgive(command, event)
            case CommitCancellations():
                for number in command.numbers:
                    chunks = {self.chunk_of.pop(number, None), self.second_of.pop(number, None)} - {None}
                    if chunks:
                        self._revoke(number, chunks, now)
                self._owe(dict.fromkeys(command.numbers, "cancelled"))

    def _note_start(self, command: StartLease) -> None:
        assert command.lease not in self.lane_of_lease
        assert not self.stopped
        leases = self.engine.lease_table.leases
        if len(self.out - leases.keys()) > 0:  # it takes the place of one that Ray has not placed
            self.out.remove(next(one for one in self.out - self.placed if one not in leases))
        self.lane_of_lease[command.lease] = command.lane
        self.out.add(command.lease)
        others = sum(self.lane_of_lease[lease] == command.lane for lease in self.out)
        assert others <= self.capacity.get(command.lane, math.inf)

    def _note_ends(self, command: CommitEnds, event: Event, ended: set[int], now: float) -> None:
        assert isinstance(event, ChunkEnded)
        accepted, reasons = [*command.completed, *command.failed, *command.retried], event.failures
        assert sorted(accepted) == sorted(set(event.numbers) & ended)
        assert sorted([*accepted, *command.superseded]) == sorted(event.numbers)
        assert not reasons.keys() & set(command.completed)
        for number in command.failed:
            self._charge(number, reasons[number], now, is_last=True)
        for number in command.retried:
            self._charge(number, reasons[number], now, is_last=False)
        self._rest(set(command.retried))
        self._owe(dict.fromkeys(command.completed, "completed"))
        self._owe({number: reasons[number] or "failed" for number in command.failed})
        self.superseded.update(command.superseded)

    def _charge(self, number: int, reason: str, now: float, is_last: bool) -> None:
        """A task is tried as often as its policy says, for the reasons that it says, and not too early."""
        policy = self.policy_of(number)
        self.charged[number] += 1
        assert self.charged[number] <= policy.max_attempts
        assert is_last == (reason not in policy.retry_on or self.charged[number] == policy.max_attempts)
        backoff = policy.backoff
        delay_s = min(backoff.most_s, backoff.first_s * backoff.factor ** min(self.charged[number] - 1, 100))
        self._due[number] = now + delay_s * (1 - backoff.jitter)

    def _forgive(self, command: NoteAttemptsLost, event: Event) -> None:
        assert isinstance(event, LeaseLost)
        for number in set(event.executing or ()).intersection(command.numbers):
            self.forgiven[number] += 1  # of several it is not known for whose sake, so none is charged
            assert self.forgiven[number] <= self.engine.options.free_losses or len(event.executing or ()) > 1

    def _note_chunk(self, command: GiveChunk, now: float) -> None:
        chunk, lane = command.chunk, self.lane_of_lease[command.lease]
        assert command.lease in self.out
        assert not self.stopped
        assert chunk.id not in self._chunk_ids
        assert chunk.budget_s > 0
        assert chunk.numbers
        assert len(set(chunk.numbers)) == len(chunk.numbers)
        for number in chunk.numbers:
            assert number not in self.outcome, "no task runs again that has an outcome"
            assert self.lane_of_kind[self.kind_of[number]] == lane, "shapes never mix in a chunk"
            assert now >= self._due.get(number, now) - 1e-9, "no attempt is made before its time"
            if number in self.chunk_of:
                assert self.policy_of(number).speculate, "only if a policy says so a task is in two chunks in hand"
                assert number in self.running
                assert number not in self.second_of, "a task has one second attempt at most"
                assert len(chunk.numbers) == 1
                assert chunk.numbers not in [one.numbers for one in self.held.get(command.lease, {}).values()]
                self.second_of[number] = chunk.id
                self.repeated.add(number)
            else:
                self.chunk_of[number] = chunk.id
        priorities = {self.policy_of(number).priority for number in chunk.numbers}
        assert len(priorities) == 1, "priorities never mix in a chunk"
        self._chunk_ids.add(chunk.id)
        self._given_at[chunk.id] = now
        own = self.held.setdefault(command.lease, {})
        self.handed.append(Handed(now, command.lease, chunk.numbers, bool(own), self.waiting + len(chunk.numbers)))
        assert not (command.is_begun and own), "what begins at once comes after all else"
        own[chunk.id] = chunk
        if command.is_begun:
            self._begin(chunk, now)
        queue = self.engine.queue
        if len(queue.kinds) <= FEW_LANES_AND_KINDS:
            still = [kind.policy.priority for kind in queue.kinds if kind.lane == lane and kind.waiting]
            still.extend(group.kind.policy.priority for group in queue.lanes[lane].suspects)
            assert max(still, default=-math.inf) <= max(priorities), "higher priorities go first"

    def _note_kill(self, command: KillLease, now: float) -> None:
        """No worker is killed without need."""
        assert command.lease in self.out
        assert all(kill.lease != command.lease for kill in self.kills), "nobody is killed twice"
        self.kills.append(command)
        options = self.engine.options
        held = self.held[command.lease].values()
        begun = [chunk for chunk in held if chunk.id in self._begun_at]
        policies = [self.policy_of(number) for chunk in begun for number in chunk.numbers]
        if command.why == "timeout":
            since = {chunk.id: self._begun_at.get(chunk.id, self._given_at[chunk.id] + BEGIN_S) for chunk in held}
            limits_s = {
                one.id: [self.policy_of(number).timeout_s or math.inf for number in one.numbers] for one in held
            }
            late = [one for one in held if now - since[one.id] > min(limits_s[one.id]) + 2 * options.grace_s - 1e-9]
            assert late, "a deadline has passed, since its task began or since it was handed out"
        elif command.why == "cancelled":
            revoked = [self._revoked_at[n] for chunk in begun for n in chunk.numbers if n in self._revoked_at]
            assert now - min(revoked) >= options.grace_s - 1e-9
        else:
            assert command.why == "preempted"
            assert options.preempt_after_s is not None
            assert all(policy.preemptible for policy in policies)
            late = [kind for kind in self.engine.queue.kinds if kind.waiting and self.capacity.get(kind.lane, 1) > 0]
            late = [kind for kind in late if now - kind.waiting_since >= options.preempt_after_s]
            assert max(kind.policy.priority for kind in late) > max(policy.priority for policy in policies)

    def _owe(self, outcomes: dict[int, str]) -> None:
        assert not outcomes.keys() & self.outcome.keys(), "every task ends once"
        assert not outcomes.keys() & self.chunk_of.keys(), "what has ended is in nobody's hands"
        self.outcome.update(outcomes)
        self._owed.update(outcomes)

    # --- invariants -------------------------------------------------------------------------------------------------

    def policy_of(self, number: int) -> Policy:
        """The policy of a task."""
        return self.policies[self.kind_of[number]]

    @property
    def waiting(self) -> int:
        """How many tasks wait in the engine's queue, those that are to be tried again later included."""
        queue = self.engine.queue
        suspects = sum(len(group.numbers) for lane in queue.lanes for group in lane.suspects)
        second = len(self._suspects & self.chunk_of.keys())
        return sum(lane.waiting for lane in queue.lanes) + suspects - second + len(queue.delayed)

    def _check_counts(self) -> None:
        counts = self.engine.tasks.counts
        assert counts == [self.states[state] for state in State]
        assert sum(counts) == len(self.engine.tasks) == len(self.kind_of)
        assert self.engine.leases == len(self.out) <= self.slots_before
        in_use = sum(lease.width for lease in self.engine.lease_table.leases.values())
        assert self.engine.slots_in_use == in_use <= self.slots_before, "the cap counts tasks"
        self.slots_before = max(self.engine.slots, in_use)
        assert sum(counts[State.COMPLETED :]) + len(self._owed) == len(self.outcome)
        assert self.engine.lease_table.revoked == self._revoked_at.keys()
        table = self.engine.lease_table
        leases = list(table.leases.values())
        assert [lease.free_at is not None for lease in leases] == [bool(lease.held) for lease in leases]
        free_at_s = math.fsum(lease.free_at or 0.0 for lease in leases)
        assert math.isclose(table.measure_held(Lease(0), 0.0).all_s, free_at_s, rel_tol=1e-9, abs_tol=1e-6)

    def _check_revoked(self, now: float) -> None:
        """A worker that has not let go of what was cancelled, although it had time to, is being killed."""
        killed = {kill.lease for kill in self.kills}
        for lease, chunks in self.held.items():
            for chunk in chunks.values():
                since = [self._revoked_at[number] for number in chunk.numbers if number in self._revoked_at]
                if since and chunk.id in self._begun_at and lease not in killed:
                    assert now < max(min(since), self._begun_at[chunk.id]) + self.engine.options.grace_s + 1e-9

    def check_lanes(self) -> None:
        """Check that those tasks wait that are neither in a chunk nor ended, and that every lane counts right."""
        queue = self.engine.queue
        assert self.waiting + len(self.chunk_of) + len(self.outcome) == len(self.kind_of), "no task is lost"
        for lane in queue.lanes:
            mine = [lease for lease in self.out if self.lane_of_lease[lease] == lane.number]
            kinds = [kind for kind in queue.kinds if kind.lane == lane.number]
            assert lane.leases == len(mine)
            assert lane.starting == len(set(mine) - self.placed)
            widths = {lease: self.engine.lease_table.leases[lease].width for lease in mine}
            assert lane.starting_slots == sum(width for lease, width in widths.items() if lease not in self.placed)
            assert lane.waiting == sum(len(kind.waiting) for kind in kinds)
            left_s = sum(len(kind.waiting) * kind.times.mean_s for kind in kinds)
            assert math.isclose(lane.left_s, left_s, rel_tol=1e-6, abs_tol=1e-6)
            assert lane.left_s > -1e-9
            assert min((kind.probing for kind in kinds), default=0) >= 0
            assert (queue.find_first(lane) is None) == (lane.waiting == 0), "what waits is found"
        if len(self.kind_of) <= MOST_OVERVIEWED:
            self._check_overview()

    def _check_overview(self) -> None:
        """The view of the kinds has every task once; one whose end is not on disk yet counts as running."""
        kinds, totals = self.engine.view_kinds(self._looked_at), Counter(self.kind_of)
        assert [sum(kind.counts) for kind in kinds] == [totals[number] for number in range(len(kinds))]
        sums = [sum(kind.counts[state] for kind in kinds) for state in State]
        ended = sum(number not in self.running for number in self._owed)
        assert sums[State.PENDING] == self.states[State.PENDING] - ended
        assert sums[State.COMPLETED :] == [self.states[state] for state in State][State.COMPLETED :]
        assert min((min(kind.counts) for kind in kinds), default=0) >= 0
        leases = self.engine.view_leases(self._looked_at)
        assert {lease.lease for lease in leases} == self.out


def serve(witness: Witness, lease: int, chunks: int, duration_s: float = 0.001) -> GiveChunk:
    """Let a lease run so many chunks to their end; returns the next one, given and not begun."""
    for _ in range(chunks):
        answer = witness.ask(lease)
        assert isinstance(answer, GiveChunk)
        witness.tell(chunk_ended(lease, answer.chunk, duration_s))
    answer = witness.ask(lease)
    assert isinstance(answer, GiveChunk)
    return answer


def submitted(count: int, slots: int = 1) -> Witness:
    """An engine with tasks of one kind, each of which is tried once, and its leases started."""
    witness = Witness(slots, lease_s=1000)
    witness.tell(TasksSubmitted([KindEntry("k", 0, Policy(max_attempts=1))], [0] * count))
    return witness


def with_chunk(policy: Policy = Policy(), **options: Any) -> tuple[Witness, int, Chunk]:  # noqa: B008  it is frozen
    """An engine, and a lease that executes a chunk of eight tasks or more."""
    witness = Witness(1, lease_s=1000, **options)
    witness.tell(TasksSubmitted([KindEntry("k", 0, policy)], [0] * 300))
    (lease,) = witness.out
    chunk = serve(witness, lease, chunks=4).chunk
    witness.tell(ChunkBegan(lease, chunk.id))
    assert len(chunk.numbers) >= 8
    return witness, lease, chunk
