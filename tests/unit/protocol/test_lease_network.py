"""The lease protocol: its two halves, with all that a network may do between them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from support.amount import amount
from test_lease_protocol import FOREVER_S, LEASE, read_end

from dfz_ray.engine.messages import (
    AnswerEnd,
    AnswerWait,
    Chunk,
    ChunkBegan,
    ChunkEnded,
    Event,
    GiveChunk,
    WorkAsked,
)
from dfz_ray.protocol.lease_protocol import Message
from dfz_ray.protocol.manager_side import Answer, ManagerSide
from dfz_ray.protocol.orders import Order
from dfz_ray.protocol.reports import Report
from dfz_ray.protocol.worker_side import AGAIN_S, WorkerSide


class Network(RuleBasedStateMachine):
    """Both halves, with messages that overtake one another, come twice or late, or are lost with their worker."""

    @initialize(threads=st.sampled_from([0, 1, 3]))
    def begin(self, threads: int) -> None:
        """With no threads the worker executes a chunk as one task, and looks at orders only between two chunks."""
        self.threads = threads
        self.now = 0.0
        self.lease = LEASE
        self.worker = WorkerSide(LEASE)
        self.manager = ManagerSide(self.handle, self.read_end, lambda command: command.chunk.numbers, self.send)
        self.reports: list[tuple[Report, int]] = []
        """On their way, with how often each has arrived."""
        self.orders: list[tuple[Order, int]] = []
        self.chunks: list[Chunk] = []
        self.in_hand: set[int] = set()
        """As the engine knows."""
        self.lost: set[int] = set()
        """Chunks that were in hand when a worker died."""
        self.began: Counter[int] = Counter()
        self.ended: Counter[int] = Counter()
        self.executed: Counter[int] = Counter()
        self.running: list[tuple[Any, int]] = []
        self.held: Any = None
        self.is_ending = False
        self.wants: Message = Message.CHUNK
        self.lingers = self.begins = False
        """True if the engine lets a lease linger that holds nothing, or counts a chunk as begun if it may."""
        self.is_lingering = False

    def handle(self, event: Event) -> Answer | None:
        """The engine: it keeps books, and answers as was drawn, as far as it may."""
        match event:
            case ChunkBegan() | ChunkEnded() | WorkAsked() if event.lease != self.lease:  # its worker has died
                return AnswerEnd(event.lease) if isinstance(event, WorkAsked) else None
            case ChunkBegan():
                assert event.chunk in self.in_hand
                self.began[event.chunk] += 1
            case ChunkEnded():
                self.in_hand.remove(event.chunk)
                self.ended[event.chunk] += 1
            case WorkAsked():
                if self.is_ending or self.wants is Message.END:
                    self.is_ending = True
                    return AnswerEnd(self.lease)
                if self.wants is Message.WAIT and self.in_hand:
                    return AnswerWait(self.lease, max(1, self.threads))
                self.is_lingering = self.lingers and not self.in_hand
                return None if self.is_lingering else self.give_next()
        return None

    def give_next(self) -> GiveChunk:
        first = 100 * len(self.chunks)
        chunk = Chunk(len(self.chunks), range(first, first + 1 + len(self.chunks) % 3), FOREVER_S)
        is_begun = self.begins and self.threads == 0 and not self.in_hand
        self.chunks.append(chunk)
        self.in_hand.add(chunk.id)
        return GiveChunk(self.lease, chunk, max(1, self.threads), is_begun)

    def send(self, lease: int, order: Order) -> None:
        """The manager sends an order later than it could."""
        if lease == self.lease:
            self.orders.append((order, 0))

    def read_end(self, lease: int, chunk: int, executed: Sequence[int]) -> ChunkEnded:
        assert sorted(executed) == list(self.chunks[chunk].numbers), "all tasks of a chunk are executed"
        return read_end(lease, chunk, executed)

    @rule(
        wants=st.sampled_from([Message.CHUNK, Message.CHUNK, Message.WAIT, Message.END]),
        lingers=st.booleans(),
        begins=st.booleans(),
    )
    def decide(self, wants: Message, lingers: bool, begins: bool) -> None:
        self.wants, self.lingers, self.begins = wants, lingers, begins

    @precondition(lambda self: self.is_lingering)
    @rule(is_end=st.booleans())
    def linger_no_longer(self, is_end: bool) -> None:
        """There is work for a lease that lingers, or its place is wanted."""
        self.is_lingering = False
        self.is_ending = is_end
        self.manager.answer(AnswerEnd(self.lease) if is_end else self.give_next())

    @rule(seconds=st.sampled_from([0.1, AGAIN_S]))
    def let_time_pass(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def report(self) -> None:
        """The worker sends what is due; one that executes chunk by chunk begins the next one before."""
        if self.threads == 0 and self.held is None:
            self.held = self.worker.begin_task(self.now)
        report = self.worker.find_report(self.now)
        if report is not None:
            waiting = [one for one, arrived in self.reports if not arrived and one.lease == self.lease]
            assert not waiting, "one report is out at a time"
            self.reports.append((report, 0))

    @precondition(lambda self: self.reports)
    @rule(data=st.data(), is_last=st.booleans())
    def deliver_report(self, data: st.DataObject, is_last: bool) -> None:
        """A report arrives; it may do so again."""
        report, arrived = self.reports.pop(data.draw(st.integers(0, len(self.reports) - 1)))
        order = self.manager.exchange(report)
        if report.lease == self.lease and order is not None:
            self.orders.append((order, 0))
        if not is_last and arrived < 3:
            self.reports.append((report, arrived + 1))

    @precondition(lambda self: self.orders)
    @rule(data=st.data(), is_last=st.booleans())
    def deliver_order(self, data: st.DataObject, is_last: bool) -> None:
        """An order arrives; who executes chunk by chunk looks at it between two chunks only."""
        if self.threads == 0 and self.held is not None:
            return
        order, arrived = self.orders.pop(data.draw(st.integers(0, len(self.orders) - 1)))
        self.take_order(order)
        if not is_last and arrived < 3:
            self.orders.append((order, arrived + 1))

    @rule(data=st.data())
    def execute(self, data: st.DataObject) -> None:
        """A chunk ends, or a task begins or ends."""
        if self.threads == 0:
            self.end_chunk()
        elif (begun := self.worker.begin_task(self.now)) is not None:
            self.running.append(begun)
            assert len(self.running) <= self.threads
        elif self.running:
            held, number = self.running.pop(data.draw(st.integers(0, len(self.running) - 1)))
            self.executed[number] += 1
            self.worker.end_task(held, [number])

    @rule(is_heard=st.booleans())
    def die(self, is_heard: bool) -> None:
        """The worker dies, and another lease begins; what the first one had sent may still arrive."""
        self.manager.close(self.lease)
        self.lost |= self.in_hand
        self.in_hand = set()
        self.lease += 1
        self.worker = WorkerSide(self.lease)
        self.orders, self.running, self.held = [], [], None
        self.is_ending = self.is_lingering = False
        if not is_heard:
            self.reports = []

    def take_order(self, order: Order) -> None:
        self.worker.on_order(order if self.threads else order._replace(works=[order.works]), self.now)

    def end_chunk(self) -> None:
        if self.held is not None:
            held, numbers = self.held
            self.executed.update(numbers)
            self.worker.end_task(held, numbers)
            self.held = None

    @invariant()
    def check(self) -> None:
        """Nothing is executed, begun or ended twice."""
        for counter in (self.executed, self.began, self.ended):
            assert max(counter.values(), default=0) <= 1

    def teardown(self) -> None:
        """When the manager ends the lease everything comes to rest, and whatever was given is executed and reported."""
        if not hasattr(self, "worker"):
            return
        self.wants, self.lingers = Message.END, False
        if self.is_lingering:
            self.linger_no_longer(is_end=True)
        for _ in range(1_000):
            if self.worker.is_over:
                break
            self.report()
            for order, _ in self.orders if self.threads or self.held is None else ():
                self.take_order(order)
            if self.threads or self.held is None:
                self.orders = []
            answers = [(report.lease, self.manager.exchange(report)) for report, _ in self.reports]
            self.orders += [(order, 0) for lease, order in answers if lease == self.lease and order is not None]
            self.reports = []
            self.now += AGAIN_S
            while self.running or (self.threads and (begun := self.worker.begin_task(self.now))):
                if self.running:
                    held, number = self.running.pop()
                    self.executed[number] += 1
                    self.worker.end_task(held, [number])
                else:
                    self.running.append(begun)
            self.end_chunk()
        assert self.worker.is_over
        assert not self.in_hand, "a lease that is over has reported all that it was given"
        whole = [chunk for chunk in self.chunks if chunk.id not in self.lost]
        assert self.executed.keys() >= {number for chunk in whole for number in chunk.numbers}
        self.check()


TestNetwork = Network.TestCase
TestNetwork.settings = settings(max_examples=amount(200), stateful_step_count=40, deadline=None)
