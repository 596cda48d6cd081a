"""Collects the events of a run's tasks until its driver asks for them."""

from __future__ import annotations

import asyncio
import bisect
import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from dfz_ray.engine.messages import CommitEnds
from dfz_ray.journal.commit_sums import Row
from dfz_ray.journal.schema import ATTEMPT_SUPERSEDED
from dfz_ray.manager.later import Later
from dfz_ray.protocol.columns import Completions
from dfz_ray.protocol.reports import Ended
from dfz_ray.protocol.task_events import FailedTask, TaskEvents
from dfz_ray.specs.states import State

GATHER_S = 0.02
"""Events that come within this time of the last report are reported together: each report costs the manager 1 ms."""
BEGUN_S = 0.025
"""The beginning of a task waits so long for its end, with which it is reported."""
FEW_TASKS, FEW_GATHER_S = 64, 0.002
"""If no more tasks than these are open, their caller may wait for each of them: events are gathered for less long."""

MOST_BYTES = 2**26
"""If more bytes of results wait for the driver, which may be busy, it reads further ones in the journal."""


@dataclass(slots=True)
class _Call:
    """A call of the driver that waits for events."""

    number: int
    counts: Sequence[int]
    done: asyncio.Event
    until: float
    together_s: float
    wakes: int
    found_at: float | None = None
    """The time at which it found the first event."""
    answer: Later[TaskEvents] = field(default_factory=Later)


class EventBuffer:
    """Collects task events until the driver asks for them; without a listener it collects nothing."""

    def __init__(self, has_listener: bool) -> None:
        self._has_listener = has_listener
        self._begun: list[int] = []
        self._completions: list[Completions] = []
        self._nodes: list[str | None] = []
        self._results_bytes = 0
        """Of the completions."""
        self._stored: list[tuple[int, str | None]] = []
        self._failures: list[FailedTask] = []
        self._cancelled: list[int] = []
        self._unsuccessful: list[int] = []
        self._given: dict[int, Sequence[int]] = {}
        """The tasks of chunks that were handed out and have not begun."""
        self._node_of: dict[int, str | None] = {}
        """By chunk: the host name of its node."""
        self._early: dict[int, int] = {}
        """The chunks whose ends were reported before they are on disk, each with the number of its tasks that ended."""
        self._failed_early: set[int] = set()
        """The failed tasks among these."""
        self._has_timer = False
        """True if the driver's call will soon return because of chunks that have begun."""
        self._has_events = False
        self._gathering = 0
        self._calls: list[_Call] = []
        """The driver's calls that wait, two at most; the oldest one takes the next events."""
        self._timer: asyncio.TimerHandle | None = None
        """Answers the oldest one."""
        self._wakes = 0
        self._taken_at, self._taken_number = 0.0, -1
        self._taken_counts: list[int] = []

    def on_given(self, chunk: int, numbers: Sequence[int], node: str | None) -> None:
        """A chunk is handed out."""
        if self._has_listener:
            self._given[chunk] = numbers
            self._node_of[chunk] = node

    def on_began(self, chunk: int) -> None:
        """A worker begins a chunk."""
        if self._has_listener:
            self._begun.extend(self._given.pop(chunk, ()))
            if not self._has_timer:
                self._has_timer = True
                asyncio.get_running_loop().call_later(BEGUN_S, self._report_begun)

    def _report_begun(self) -> None:
        self._has_timer = False
        if self._begun:
            self.wake()

    def on_ended(self, ends: CommitEnds, ended: Ended) -> None:
        """A chunk has ended; this is not on disk yet."""
        has_new = bool(ends.completed or ends.failed)  # else it was reported before
        if not (self._has_listener and has_new) or self._is_full:
            return
        node = self._node_of.get(ends.chunk)
        if ends.completed:
            completions = ended.completions.only(set(ends.completed)) if ends.superseded else ended.completions
            self._add(completions, node)
        failed = set(ends.failed)
        for number, began, until, _, reason, message, traceback, payload in ended.failures:
            if number in failed:
                last = began or None, until or None, node
                self._failures.append(FailedTask(number, reason, message, traceback, payload, *last))
        self._failed_early |= failed
        self._early[ends.chunk] = len(ends.completed) + len(failed)
        self.wake()

    @property
    def _is_full(self) -> bool:
        return self._results_bytes > MOST_BYTES

    def _add(self, completions: Completions, node: str | None) -> None:
        self._completions.append(completions)
        self._nodes.append(node)
        self._results_bytes += len(completions.results)

    @contextlib.contextmanager
    def gathering(self) -> Iterator[None]:
        """Answer no call until the block is left: what happens in it belongs together."""
        self._gathering += 1
        try:
            yield
        finally:
            self._gathering -= 1
            self._answer()

    def wake(self) -> None:
        """Let the driver's oldest call return, once all is gathered that goes with it."""
        self._has_events = True
        self._answer()

    def wake_all(self) -> None:
        """Let all calls of the driver return that wait now."""
        self._wakes += 1
        self.wake()

    def on_committed(self, written: Mapping[str, Sequence[Row]], payloads: Mapping[int, bytes]) -> None:
        """These rows are on disk, by their tables; some failed tasks have sent their exceptions as payloads."""
        if not self._has_listener:
            return
        for chunk, *columns in written["completions"]:
            if chunk in self._early:
                continue
            node = self._node_of.get(chunk)
            if self._is_full:
                self._stored.append((chunk, node))
            else:
                self._add(Completions(*columns), node)
        decisive = [row for row in written["attempts"] if row[2] != ATTEMPT_SUPERSEDED]
        ran = {number: (began, ended, self._node_of.get(chunk)) for number, chunk, _, _, began, ended, *_ in decisive}
        self._unsuccessful.extend(number for number, *_ in written["attempts"])
        for number, state, _, reason, message, traceback in written["outcomes"]:
            if state == State.CANCELLED:
                self._cancelled.append(number)
            elif number in self._failed_early:
                self._failed_early.discard(number)
            else:
                last = ran.get(number, (None, None, None))
                payload = payloads.get(number)
                self._failures.append(FailedTask(number, reason, message, traceback, payload, *last, State(state)))
        over = {row[0] for row in written["completions"]}.union(row[1] for row in written["attempts"])
        for chunk in over:
            self._node_of.pop(chunk, None)
            self._given.pop(chunk, None)
            self._early.pop(chunk, None)
        if self._completions or self._stored or self._failures or self._cancelled or self._unsuccessful:
            self.wake()

    def take(
        self, counts: Sequence[int], done: asyncio.Event, timeout_s: float, number: int, together_s: float = 0.0
    ) -> Later[TaskEvents]:
        """Take all events since the last time: as soon as there is one, or `done` is set, or after the timeout.

        The first event waits `together_s` for the ends of all other open tasks of the run.

        `counts` are the tasks per state, in a list that is kept up to date meanwhile. Whoever sets `done` calls `wake`.
        Calls are answered in the order of their numbers, for they may overtake each other on their way here. One that
        comes after the answer to a later one is answered at once, and with nothing new: its driver reads it first.
        """
        until = asyncio.get_running_loop().time() + timeout_s
        call = _Call(number, counts, done, until, together_s, self._wakes)
        bisect.insort(self._calls, call, key=lambda call: call.number)
        self._answer()
        return call.answer

    def _answer(self) -> None:
        """Answer all calls whose time has come."""
        while self._calls and not self._gathering:
            loop = asyncio.get_running_loop()
            now = loop.time()
            due = self._find_due(self._calls[0], now)
            if due > now:
                if self._timer is None or due < self._timer.when():
                    if self._timer is not None:
                        self._timer.cancel()
                    self._timer = loop.call_at(due, self._on_time)
                return
            call = self._calls.pop(0)
            if call.number < self._taken_number:
                call.answer.set(TaskEvents(self._taken_counts))
            else:
                self._taken_number = call.number
                call.answer.set(self._take(call.counts))

    def _on_time(self) -> None:
        self._timer = None
        self._answer()

    def _find_due(self, call: _Call, now: float) -> float:
        """The time at which the oldest call is to be answered, as far as is known now."""
        is_done = call.done.is_set()
        if call.number < self._taken_number:
            return now  # it was overtaken
        if call.wakes != self._wakes or (is_done and call.counts != self._taken_counts):
            return now  # the run has ended, or the driver does not know yet that no task is open
        if not self._has_events:
            return call.until
        if call.found_at is None:
            call.found_at = now
        gather_s = self._gather_s(call.counts)
        if gather_s and now < call.found_at + call.together_s:
            return min(call.until, call.found_at + call.together_s)
        return now if is_done else min(call.until, self._taken_at + gather_s)

    def _take(self, counts: Sequence[int]) -> TaskEvents:
        self._taken_at = asyncio.get_running_loop().time()
        self._taken_counts = list(counts)
        events = TaskEvents(
            list(counts),
            self._begun,
            self._completions,
            self._nodes,
            self._failures,
            self._cancelled,
            self._unsuccessful,
            stored=self._stored,
        )
        self._begun, self._completions, self._nodes = [], [], []
        self._stored, self._results_bytes = [], 0
        self._failures, self._cancelled, self._unsuccessful = [], [], []
        self._has_events = False
        return events

    def _gather_s(self, counts: Sequence[int]) -> float:
        """The seconds for which events are gathered."""
        open_tasks = counts[State.PENDING] + counts[State.RUNNING] - sum(self._early.values())
        if open_tasks <= 0:
            return 0.0
        return FEW_GATHER_S if open_tasks <= FEW_TASKS else GATHER_S
