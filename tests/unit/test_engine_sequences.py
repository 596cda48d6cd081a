"""The engine under any sequence of events, sensible or not, against a simple model."""

from __future__ import annotations

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule
from witness import Witness

from dfz_ray.engine.lifecycle import State
from dfz_ray.engine.messages import (
    AnswerEnd,
    AnswerWait,
    ChunkBegan,
    ChunkEnded,
    Event,
    GiveChunk,
    KindEntry,
    LaneSized,
    LeaseEnded,
    LeaseLost,
    ManagerMeasured,
    StopAsked,
    TaskEnd,
    TasksSubmitted,
)

LANES = 3
KINDS = 7
INDEX = st.integers(0, 10_000)
DURATION = st.sampled_from([0.0, 1e-4, 0.01, 0.3, 20.0])


class AnySequence(RuleBasedStateMachine):
    """Leases that ask, begin, end, die and repeat themselves in any order.

    The Witness checks the engine after every event. The model is one line for each task: what a worker first said of
    it while it had it in its hands, or why the engine gave it up, is what it ends with.
    """

    def __init__(self) -> None:
        super().__init__()
        self.witness = Witness(3, lease_s=1.0)
        self.now = 0.0
        self.told: dict[int, str] = {}
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

    @rule(kinds=st.lists(st.integers(0, KINDS - 1), min_size=1, max_size=20), times=st.integers(1, 40))
    def tasks_are_submitted(self, kinds: list[int], times: int) -> None:
        new = [KindEntry(f"kind {kind}", kind % LANES) for kind in range(self.known_kinds, max(kinds) + 1)]
        self.known_kinds += len(new)
        self.witness.tell(TasksSubmitted(new, kinds * times), self.now)

    @rule(index=INDEX)
    def work_is_asked(self, index: int) -> None:
        self.witness.ask(self.pick_lease(index), self.now)

    @rule(index=INDEX)
    def chunk_begins(self, index: int) -> None:
        if held := self.pick_chunk(index):
            self.tell(ChunkBegan(*held))

    @rule(index=INDEX, share=st.floats(0, 1), failed=st.sets(st.integers(0, 5)), duration_s=DURATION)
    def chunk_ends(self, index: int, share: float, failed: set[int], duration_s: float) -> None:
        if held := self.pick_chunk(index):
            numbers = self.witness.held[held[0]][held[1]].numbers
            executed = numbers[: max(1, round(share * len(numbers)))]
            ends = [TaskEnd(number, position not in failed, duration_s) for position, number in enumerate(executed)]
            for end in ends:
                self.told[end.number] = "completed" if end.succeeded else "failed"
            self.tell(ChunkEnded(*held, ends))

    @rule(index=INDEX, chunks=st.integers(1, 12), duration_s=st.sampled_from([0.0, 1e-4, 1e-3]))
    def worker_works(self, index: int, chunks: int, duration_s: float) -> None:
        """As workers do: the next chunk is asked for as one begins, and its end is told as the next begins."""
        lease = self.pick_lease(index)
        for _ in range(chunks):
            for chunk_id, chunk in sorted(self.witness.held.get(lease, {}).items())[:1]:
                self.tell(ChunkBegan(lease, chunk_id))
                self.witness.ask(lease, self.now)
                self.told.update(dict.fromkeys(chunk.numbers, "completed"))
                self.tell(ChunkEnded(lease, chunk_id, [TaskEnd(number, True, duration_s) for number in chunk.numbers]))
            if not self.witness.held.get(lease):
                self.witness.ask(lease, self.now)

    @rule(index=INDEX)
    def lease_returns(self, index: int) -> None:
        self.tell(LeaseEnded(self.pick_lease(index)))

    @rule(index=INDEX)
    def worker_dies(self, index: int) -> None:
        self.tell(LeaseLost(self.pick_lease(index), "it died"))

    @precondition(lambda self: self.said)
    @rule(index=INDEX)
    def something_is_said_again(self, index: int) -> None:
        self.witness.tell(self.said[index % len(self.said)], self.now)

    @rule()
    def outcomes_are_on_disk(self) -> None:
        self.witness.commit(self.now)

    @rule(lane=st.integers(0, LANES - 1), capacity=st.sampled_from([1, 2, 3, 4, 0]))
    def lane_is_sized(self, lane: int, capacity: int) -> None:
        self.witness.tell(LaneSized(lane, capacity, "" if capacity else "no node has it"), self.now)

    @rule(per_chunk_s=st.floats(0, 0.1))
    def manager_is_measured(self, per_chunk_s: float) -> None:
        self.witness.tell(ManagerMeasured(per_chunk_s), self.now)

    @rule(seconds=st.floats(0, 2))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @precondition(lambda self: len(self.said) > 25)
    @rule()
    def stop_is_asked(self) -> None:
        self.witness.tell(StopAsked(), self.now)

    def teardown(self) -> None:
        """From wherever it stands, the run comes to its end when workers behave."""
        for lane in range(LANES):
            self.witness.tell(LaneSized(lane, 2), self.now)
        for _ in range(len(self.witness.kind_of) * 4 + 50):
            if not self.witness.out:
                break
            self._serve(min(self.witness.out, key=lambda lease: (len(self.witness.held.get(lease, {})) > 1, lease)))
        self.witness.commit(self.now)
        self._compare()

    def _serve(self, lease: int) -> None:
        self.now += 0.01
        for chunk_id, chunk in list(self.witness.held.get(lease, {}).items()):
            self.witness.tell(ChunkBegan(lease, chunk_id), self.now)
            self.told.update(dict.fromkeys(chunk.numbers, "completed"))
            ends = [TaskEnd(number, True, 0.01) for number in chunk.numbers]
            self.witness.tell(ChunkEnded(lease, chunk_id, ends), self.now)
        answer = self.witness.ask(lease, self.now)
        assert isinstance(answer, GiveChunk | AnswerEnd) or (isinstance(answer, AnswerWait) and self.witness.held)
        if isinstance(answer, AnswerEnd):
            self.witness.tell(LeaseEnded(lease), self.now)

    def _compare(self) -> None:
        witness, final = self.witness, {"completed": State.COMPLETED}
        for number, outcome in witness.outcome.items():
            assert witness.engine.tasks.get_state(number) == final.get(outcome, State.FAILED)
            assert outcome == self.told.get(number, outcome)
            assert number in self.told or outcome in ("worker_crashed", "infeasible")
        assert not witness.chunk_of
        assert witness.engine.leases == 0
        if not witness.stopped:
            assert witness.engine.tasks.open == 0
            assert sorted(witness.outcome) == list(range(len(witness.kind_of)))


AnySequence.TestCase.settings = settings(
    max_examples=120, stateful_step_count=60, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)


class TestAnySequence(AnySequence.TestCase):
    """Under any sequence of events each task ends once, as it was first told, and none is lost."""
