"""Collects the events of a run's tasks until its driver asks for them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping, Sequence

from dfz_ray.engine.messages import CommitEnds
from dfz_ray.journal.commit_sums import Row
from dfz_ray.journal.schema import ATTEMPT_SUPERSEDED
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
        self._has_events = asyncio.Event()
        self._turn = asyncio.Lock()
        """Is held by the driver's oldest call, which takes the next events."""
        self._wakes = 0
        self._taken_at = 0.0
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
            self._has_events.set()

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
        self._has_events.set()

    @property
    def _is_full(self) -> bool:
        return self._results_bytes > MOST_BYTES

    def _add(self, completions: Completions, node: str | None) -> None:
        self._completions.append(completions)
        self._nodes.append(node)
        self._results_bytes += len(completions.results)

    def wake(self) -> None:
        """Let the driver's oldest call return, although nothing has happened to a task."""
        self._has_events.set()

    def wake_all(self) -> None:
        """Let all calls of the driver return that wait now."""
        self._wakes += 1
        self._has_events.set()

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
            self._has_events.set()

    async def take(
        self, counts: Sequence[int], done: asyncio.Event, timeout_s: float, together_s: float = 0.0
    ) -> TaskEvents:
        """Take all events since the last time: as soon as there is one, or `done` is set, or after the timeout.

        The first event waits `together_s` for the ends of all other open tasks of the run.

        `counts` are the tasks per state, in a list that is kept up to date meanwhile. Whoever sets `done` calls `wake`.
        Calls are answered in the order in which they came.
        """
        until, wakes = asyncio.get_running_loop().time() + timeout_s, self._wakes
        async with self._turn:
            is_news = done.is_set() and counts != self._taken_counts  # the driver does not know yet that it is done
            if not is_news and self._wakes == wakes:
                await _wait(self._has_events, until)
                await self._gather(counts, done, until, together_s, wakes)
            return self._take(counts)

    async def _gather(
        self, counts: Sequence[int], done: asyncio.Event, until: float, together_s: float, wakes: int
    ) -> None:
        """Wait for further events, which are reported with the first one."""
        loop = asyncio.get_running_loop()
        end = min(until, loop.time() + together_s)
        while self._gather_s(counts) and self._wakes == wakes and loop.time() < end:
            self._has_events.clear()
            await _wait(self._has_events, end)
        await _wait(done, min(until, self._taken_at + self._gather_s(counts)))

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
        self._has_events.clear()
        return events

    def _gather_s(self, counts: Sequence[int]) -> float:
        """The seconds for which events are gathered."""
        open_tasks = counts[State.PENDING] + counts[State.RUNNING] - sum(self._early.values())
        if open_tasks <= 0:
            return 0.0
        return FEW_GATHER_S if open_tasks <= FEW_TASKS else GATHER_S


async def _wait(event: asyncio.Event, until: float) -> None:
    """Wait until an event is set, or it is so late by the loop's clock. A caller waits for this: it makes no task."""
    if not event.is_set() and until > asyncio.get_running_loop().time():
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(until):
                await event.wait()
