"""Collects the events of a run's tasks until its driver asks for them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping, Sequence

from dfz_ray.journal.commit_sums import Row
from dfz_ray.protocol.columns import Completions
from dfz_ray.protocol.task_events import FailedTask, TaskEvents
from dfz_ray.specs.states import State

GATHER_S = 0.02
"""Events that come within this time of the last report are reported together: each report costs the manager 1 ms."""


class EventBuffer:
    """Collects task events until the driver asks for them; without a listener it collects nothing."""

    def __init__(self, has_listener: bool) -> None:
        self._has_listener = has_listener
        self._begun: list[int] = []
        self._completions: list[Completions] = []
        self._nodes: list[str | None] = []
        self._failures: list[FailedTask] = []
        self._cancelled: list[int] = []
        self._unsuccessful: list[int] = []
        self._given: dict[int, Sequence[int]] = {}
        """The tasks of chunks that were handed out and have not begun."""
        self._node_of: dict[int, str | None] = {}
        """By chunk: the host name of its node."""
        self._has_events = asyncio.Event()
        self._taken_at = 0.0

    def on_given(self, chunk: int, numbers: Sequence[int], node: str | None) -> None:
        """A chunk is handed out."""
        if self._has_listener:
            self._given[chunk] = numbers
            self._node_of[chunk] = node

    def on_began(self, chunk: int) -> None:
        """A worker begins a chunk."""
        if self._has_listener:
            self._begun.extend(self._given.pop(chunk, ()))
            self._has_events.set()

    def on_committed(self, written: Mapping[str, Sequence[Row]], payloads: Mapping[int, bytes]) -> None:
        """These rows are on disk, by their tables; some failed tasks have sent their exceptions as payloads."""
        if not self._has_listener:
            return
        for chunk, *columns in written["completions"]:
            self._completions.append(Completions(*columns))
            self._nodes.append(self._node_of.get(chunk))
        ran = {
            number: (began, ended, self._node_of.get(chunk))
            for number, chunk, _, _, began, ended, *_ in written["attempts"]
        }
        self._unsuccessful.extend(number for number, *_ in written["attempts"])
        for number, state, _, reason, message, traceback in written["outcomes"]:
            if state == State.CANCELLED:
                self._cancelled.append(number)
            else:
                last = ran.get(number, (None, None, None))
                payload = payloads.get(number)
                self._failures.append(FailedTask(number, reason, message, traceback, payload, *last, State(state)))
        over = {row[0] for row in written["completions"]}.union(row[1] for row in written["attempts"])
        for chunk in over:
            self._node_of.pop(chunk, None)
            self._given.pop(chunk, None)
        self._has_events.set()

    async def take(self, counts: Sequence[int], done: asyncio.Event, timeout_s: float) -> TaskEvents:
        """Take all events since the last time: as soon as there is one, or `done` is set, or after the timeout.

        `counts` are the tasks per state, in a list that is kept up to date meanwhile.
        """
        loop = asyncio.get_running_loop()
        until = loop.time() + timeout_s
        await _wait_for_one(timeout_s, self._has_events, done)
        soonest = min(until, self._taken_at + GATHER_S)
        if (gap_s := soonest - loop.time()) > 0:
            await _wait_for_one(gap_s, done)
        self._taken_at = loop.time()
        events = TaskEvents(
            list(counts),
            self._begun,
            self._completions,
            self._nodes,
            self._failures,
            self._cancelled,
            self._unsuccessful,
        )
        self._begun, self._completions, self._nodes = [], [], []
        self._failures, self._cancelled, self._unsuccessful = [], [], []
        self._has_events.clear()
        return events


async def _wait_for_one(timeout_s: float, *events: asyncio.Event) -> None:
    """Wait until one of these events is set, or the time is up."""
    if any(event.is_set() for event in events):
        return
    waiting = [asyncio.ensure_future(event.wait()) for event in events]
    try:
        await asyncio.wait(waiting, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for one in waiting:
            one.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await one
