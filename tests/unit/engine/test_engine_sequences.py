"""The engine under any sequence of events, sensible or not, against a simple model."""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule
from support.amount import amount
from support.witness import Witness, chunk_ended

from dfz_ray.engine.messages import (
    AnswerEnd,
    AnswerWait,
    CancelAsked,
    ChunkBegan,
    ChunkEnded,
    Event,
    GiveChunk,
    KindEntry,
    LaneSized,
    LeaseEnded,
    LeaseLost,
    ManagerMeasured,
    PlacesWanted,
    StopAsked,
    TasksSubmitted,
    TimePassed,
)
from dfz_ray.specs.policy import Backoff, Policy
from dfz_ray.specs.states import State

LANES = 3
KINDS = 7
REASONS = ("exception", "timeout", "worker_crashed", "node_lost", "out_of_memory")
INDEX = st.integers(0, 10_000)
DURATION = st.sampled_from([0.0, 1e-4, 0.01, 0.3, 20.0])
POLICY = st.builds(
    Policy,
    max_attempts=st.integers(1, 3),
    retry_on=st.sets(st.sampled_from(REASONS)).map(tuple),
    backoff=st.builds(
        Backoff,
        first_s=st.sampled_from([0.0, 0.5]),
        factor=st.sampled_from([1.0, 3.0]),
        most_s=st.just(2.0),
        jitter=st.sampled_from([0.0, 1.0]),
    ),
    timeout_s=st.sampled_from([None, 1.0]),
    priority=st.sampled_from([0, 0, 3]),
    preemptible=st.booleans(),
)


class AnySequence(RuleBasedStateMachine):
    """Leases that ask, begin, end, die and repeat themselves in any order.

    The Witness checks the engine after every event. The model is one line for each task: what was last said of it by a
    worker that had it in its hands, or why it was given up, is what it ends with; and what is cancelled first, is.
    """

    linger_s = 0.0

    def __init__(self) -> None:
        super().__init__()
        self.witness = Witness(3, lease_s=1.0, linger_s=self.linger_s, grace_s=0.5, preempt_after_s=1.0, free_losses=1)
        self.now = 0.0
        self.reported: dict[int, str] = {}
        self.said: list[Event] = []
        self.known_kinds = 0

    def tell(self, event: Event) -> None:
        self.witness.tell(event, self.now)
        self.said.append(event)

    def pick_lease(self, index: int) -> int:
        """One of the leases that are out, if any is; now and then one that is not."""
        out = sorted(self.witness.out)
        return out[index % len(out)] if out and index % 10 else index % 50

    def pick_chunk(self, index: int) -> tuple[int, int] | None:
        held = [(lease, chunk) for lease, chunks in sorted(self.witness.held.items()) for chunk in sorted(chunks)]
        return held[index % len(held)] if held else None

    def ask(self, lease: int) -> None:
        """Ask for work, unless the lease has asked and waits for the answer."""
        if lease not in self.witness.lingering:
            self.witness.ask_and_wait(lease, self.now)

    def end_chunk(self, event: ChunkEnded) -> None:
        for number in event.numbers:
            if number in self.witness.chunk_of:  # what is cancelled is not asked any more
                self.reported[number] = event.failures.get(number, "completed")
        self.tell(event)

    @rule(
        kinds=st.lists(st.integers(0, KINDS - 1), min_size=1, max_size=20),
        times=st.integers(1, 40),
        policies=st.lists(POLICY, min_size=KINDS, max_size=KINDS),
    )
    def tasks_are_submitted(self, kinds: list[int], times: int, policies: list[Policy]) -> None:
        new = [KindEntry(f"kind {n}", n % LANES, policies[n]) for n in range(self.known_kinds, max(kinds) + 1)]
        self.known_kinds += len(new)
        self.witness.tell(TasksSubmitted(new, kinds * times), self.now)

    @rule(index=INDEX)
    def work_is_asked(self, index: int) -> None:
        self.ask(self.pick_lease(index))

    @rule(places=st.integers(0, 3))
    def places_are_wanted(self, places: int) -> None:
        self.witness.tell(PlacesWanted(places), self.now)

        assert not places or len(self.witness.lingering) <= 3 - places, "who lingers makes room at once"

    @rule(index=INDEX)
    def chunk_begins(self, index: int) -> None:
        if held := self.pick_chunk(index):
            self.tell(ChunkBegan(*held))

    @rule(
        index=INDEX,
        share=st.floats(0, 1),
        failed=st.sets(st.integers(0, 5)),
        reason=st.sampled_from(REASONS),
        duration_s=DURATION,
    )
    def chunk_ends(self, index: int, share: float, failed: set[int], reason: str, duration_s: float) -> None:
        if held := self.pick_chunk(index):
            numbers = self.witness.held[held[0]][held[1]].numbers
            executed = numbers[: max(1, round(share * len(numbers)))]
            failures = {number: reason for position, number in enumerate(executed) if position in failed}
            self.end_chunk(ChunkEnded(*held, executed, [duration_s] * len(executed), failures))

    @rule(index=INDEX, chunks=st.integers(1, 12), duration_s=st.sampled_from([0.0, 1e-4, 1e-3]))
    def worker_works(self, index: int, chunks: int, duration_s: float) -> None:
        """As workers do: they ask for the next chunk as one begins, and report its end as the next one begins."""
        lease = self.pick_lease(index)
        for _ in range(chunks):
            for chunk_id, chunk in sorted(self.witness.held.get(lease, {}).items())[:1]:
                self.tell(ChunkBegan(lease, chunk_id))
                self.ask(lease)
                self.end_chunk(chunk_ended(lease, chunk, duration_s))
            if not self.witness.held.get(lease):
                self.ask(lease)

    @rule(index=INDEX)
    def lease_returns(self, index: int) -> None:
        self.tell(LeaseEnded(self.pick_lease(index)))

    @rule(
        index=INDEX,
        reason=st.sampled_from(REASONS[1:]),
        blame=st.sampled_from(["known", "unknown", "nothing", "wrong"]),
        position=INDEX,
    )
    def worker_dies(self, index: int, reason: str, blame: str, position: int) -> None:
        """Of a task that is told, of nobody knows what, of none, or of one that it never had."""
        lease = self.pick_lease(index)
        in_hand = [number for chunk in self.witness.held.get(lease, {}).values() for number in chunk.numbers]
        executing = {"nothing": (), "wrong": (position,)}.get(blame)
        if blame == "known" and in_hand:
            executing = (in_hand[position % len(in_hand)],)
        before = self.witness.charged.copy()

        self.tell(LeaseLost(lease, "it died", reason, executing))

        charged = [number for number in self.witness.charged if self.witness.charged[number] > before[number]]
        assert len(charged) <= 1
        assert set(charged) <= set(in_hand)
        if executing and executing[0] in in_hand:
            assert charged in ([], [*executing]), "only who is to blame is charged"
        elif executing is not None and len(in_hand) > 1:
            assert charged == [], "who is not to blame is not charged"

    @precondition(lambda self: self.said)
    @rule(index=INDEX)
    def something_is_said_again(self, index: int) -> None:
        event = self.said[index % len(self.said)]
        self.witness.tell(event, self.now)

    @rule()
    def outcomes_are_on_disk(self) -> None:
        self.witness.commit(self.now)

    @rule(lane=st.integers(0, LANES - 1), capacity=st.sampled_from([1, 2, 3, 4, 0]), is_awaited=st.booleans())
    def lane_is_sized(self, lane: int, capacity: int, is_awaited: bool) -> None:
        before = dict(self.witness.outcome)
        why = "" if capacity or is_awaited else "no node has it"

        self.witness.tell(LaneSized(lane, capacity, why), self.now)

        assert why or self.witness.outcome == before, "what waits for a node waits"

    @rule(per_chunk_s=st.floats(0, 0.1))
    def manager_is_measured(self, per_chunk_s: float) -> None:
        self.witness.tell(ManagerMeasured(per_chunk_s), self.now)

    @rule(seconds=st.floats(0, 2), is_reported=st.booleans())
    def time_passes(self, seconds: float, is_reported: bool) -> None:
        self.now += seconds
        if is_reported:
            self.witness.tell(TimePassed(), self.now)

    @rule(numbers=st.lists(st.integers(0, 300), max_size=20))
    def some_are_cancelled(self, numbers: list[int]) -> None:
        self.witness.tell(CancelAsked(numbers), self.now)

    @precondition(lambda self: len(self.said) > 20)
    @rule()
    def all_are_cancelled(self) -> None:
        self.witness.tell(CancelAsked(), self.now)

        assert len(self.witness.outcome) == len(self.witness.kind_of), "nothing is left to be done"

    @precondition(lambda self: len(self.said) > 25)
    @rule()
    def stop_is_asked(self) -> None:
        self.witness.tell(StopAsked(), self.now)

    def teardown(self) -> None:
        """From wherever it stands, the run comes to its end when workers behave."""
        for lane in range(LANES):
            self.witness.tell(LaneSized(lane, 2), self.now)
        self._until(lambda: not self.witness.out and not self.witness.engine.queue.delayed)
        self.witness.commit(self.now)
        self._compare()

    def _until(self, is_over: Callable[[], bool]) -> None:
        for _ in range(len(self.witness.kind_of) * 4 + 50):
            if is_over() or (self.witness.stopped and not self.witness.out):
                return
            self.now += 0.01
            self.witness.tell(TimePassed(), self.now)
            if asking := self.witness.out - self.witness.lingering:
                self._serve(min(asking, key=lambda one: (len(self.witness.held.get(one, {})) > 1, one)))
            else:
                self.now += 2.0  # only retries are due
        raise AssertionError("it does not come to an end")

    def _serve(self, lease: int) -> None:
        for chunk_id, chunk in list(self.witness.held.get(lease, {}).items()):
            self.witness.tell(ChunkBegan(lease, chunk_id), self.now)
            self.end_chunk(chunk_ended(lease, chunk, 0.01))
        answer = self.witness.ask_and_wait(lease, self.now)
        if answer is None:
            return
        assert isinstance(answer, GiveChunk | AnswerEnd) or (isinstance(answer, AnswerWait) and self.witness.held)
        if isinstance(answer, AnswerEnd):
            self.witness.tell(LeaseEnded(lease), self.now)

    def _compare(self) -> None:
        witness = self.witness
        final = {"completed": State.COMPLETED, "cancelled": State.CANCELLED}
        for number, outcome in witness.outcome.items():
            assert witness.engine.tasks.get_state(number) == final.get(outcome, State.FAILED)
            assert outcome in (self.reported.get(number, outcome), "cancelled", "infeasible", *REASONS[1:])
            assert outcome != "completed" or self.reported[number] == "completed"
            assert outcome != "exception" or self.reported[number] == "exception"
        for number, said in self.reported.items():
            assert said != "completed" or witness.outcome[number] == "completed", "what completed stays so"
        assert not witness.chunk_of
        assert witness.engine.leases == 0
        if not witness.stopped:
            assert witness.engine.tasks.open == 0
            assert sorted(witness.outcome) == list(range(len(witness.kind_of)))


class AnyLingeringSequence(AnySequence):
    """The same, with leases that wait for work."""

    linger_s = 0.7


for machine in (AnySequence, AnyLingeringSequence):
    machine.TestCase.settings = settings(
        max_examples=amount(80), stateful_step_count=60, deadline=None, suppress_health_check=[HealthCheck.too_slow]
    )


class TestAnySequence(AnySequence.TestCase):
    """Under any sequence of events each task ends once, as reported or as it was given up, and none is lost."""


class TestAnyLingeringSequence(AnyLingeringSequence.TestCase):
    """The same is true if leases linger, and others want their places."""
