"""Listening to a run: its listener, and the decoder of its events.

Results are read from the journal, which is on the driver's own disk. The manager sends the columns of completed tasks
only to drivers that listen, and not those of many at once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from dfz_ray.errors import JournalDamaged
from dfz_ray.journal.folder import RunFolder
from dfz_ray.journal.reader import JournalReader
from dfz_ray.journal.record import read_result
from dfz_ray.journal.schema import ATTEMPT_SUPERSEDED
from dfz_ray.protocol.columns import TIMES, Completions, read_times, unpack
from dfz_ray.protocol.task_events import FailedTask, TaskEvents
from dfz_ray.specs.states import State

CountsListener = Callable[[dict[str, int]], None]
"""Is called with the number of tasks in each state."""
Completed = tuple[int, Any, float, float]
"""A task that has completed: its number, its result as bytes (or a Path), and its start and end in Unix seconds."""


class RunListener:
    """Listens to a run. Its methods do nothing; a subclass overrides those that it needs.

    The session calls them one at a time. Tasks are given by their numbers, and each end is reported once.
    """

    wants_files = False
    """True if a large result comes as the path of its file, not as its content."""

    def on_known(self, names: Sequence[tuple[str, str, str]]) -> None:
        """The run that was opened has tasks already: id, domain and kind of each."""

    def on_begun(self, numbers: Iterable[int]) -> None:
        """A worker has begun these tasks, or is about to."""

    def on_unsuccessful(self, numbers: Iterable[int], is_whole: bool) -> None:
        """Attempts have ended without completing their tasks; a task's number comes once for each attempt.

        If `is_whole`, these are all such attempts of the run, and not only the latest ones.
        """

    def on_completed(self, completed: Iterable[Completed], node: str | None) -> None:
        """Tasks of a chunk have completed, on a node of that host name."""

    def on_failed(self, failures: Sequence[FailedTask]) -> None:
        """Tasks have ended without a result, and nobody cancelled them."""

    def on_cancelled(self, numbers: Sequence[int]) -> None:
        """Tasks were cancelled."""

    def on_counts(self, counts: dict[str, int]) -> None:
        """The number of tasks in each state may have changed."""

    def on_end(self, failure: BaseException | None) -> None:
        """The run is closed, because of a failure or on purpose. Nothing is reported after this."""


class EventDecoder:
    """Decodes the events of a run's tasks, and reports each task's end to a listener once.

    A manager that takes a run over reports the whole run, so an end may come here twice.
    """

    def __init__(self, listener: RunListener, folder: Path) -> None:
        self._listener = listener
        self._folder, self._results = folder, RunFolder(folder).results
        self.reported = 0
        """The number of tasks whose end was reported."""
        self._ended = bytearray()
        """1 at the number of each task whose end is known."""

    def decode(self, events: TaskEvents) -> None:
        """Report events to the listener."""
        listener = self._listener
        listener.on_begun(events.begun)
        listener.on_unsuccessful(events.unsuccessful, events.is_whole)
        for completions, node in zip(events.completions, events.nodes, strict=True):
            listener.on_completed(self._decode_completions(completions, node), node)
        for node, completions in self._read_stored(events.stored):
            listener.on_completed(self._decode_completions(completions, node), node)
        if failures := [failed for failed in events.failures if self._is_new(failed.number)]:
            listener.on_failed(failures)
        if cancelled := [number for number in events.cancelled if self._is_new(number)]:
            listener.on_cancelled(cancelled)

    def _read_stored(self, stored: Sequence[tuple[int, str | None]]) -> Iterator[tuple[str | None, Completions]]:
        """Read the completed tasks of chunks, one chunk at a time."""
        if stored:
            with JournalReader(self._folder) as journal:
                for chunk, node in stored:
                    yield node, journal.completion(chunk)

    def _decode_completions(self, columns: Completions, node: str | None) -> Iterator[Completed]:
        numbers, times = columns.numbers(), read_times(columns.times)
        self._make_room(max(numbers, default=0))
        ended = self._ended
        for row in zip(numbers, unpack(columns.results), times[0::TIMES], times[1::TIMES], strict=True):
            number, result = row[0], row[1]
            if ended[number]:
                continue
            ended[number] = 1
            self.reported += 1
            if not isinstance(result, str):
                yield row
                continue
            file = self._results / result  # the result is too large for the journal
            if self._listener.wants_files:
                yield number, file, *row[2:]
                continue
            try:
                content = read_result(file)
            except JournalDamaged as error:
                failed = FailedTask(
                    number, "exception", f"its result can't be read: {error}", None, None, *row[2:], node
                )
                self._listener.on_failed([failed])
            else:
                yield number, content, *row[2:]

    def _is_new(self, number: int) -> bool:
        """True if the end of a task was not known. From now on it is."""
        self._make_room(number)
        is_new = not self._ended[number]
        self._ended[number] = 1
        self.reported += is_new
        return is_new

    def _make_room(self, number: int) -> None:
        missing = number + 1 - len(self._ended)
        if missing > 0:
            self._ended.extend(bytes(missing))


def read_events(journal: JournalReader, next_chunk: float = math.inf) -> TaskEvents:
    """The ends of all tasks in a journal, as events, as they were when the run was opened with this next chunk.

    A manager reports what has happened since: an attempt that was read here, too, would count twice.
    """
    rows = journal.ends()
    since = {one.task for one in rows.attempts if one.chunk >= next_chunk}
    in_order = sorted(rows.attempts, key=lambda one: one.outcome != ATTEMPT_SUPERSEDED)  # the others count, if any
    ran = {one.task: (one.began_at, one.ended_at, rows.nodes.get(one.chunk)) for one in in_order}
    failures = [
        FailedTask(number, reason, message, traceback, None, *ran.get(number, (None, None, None)), State(state))
        for number, state, reason, message, traceback in rows.others
        if state != State.CANCELLED and number not in since
    ]
    stored = [(chunk, rows.nodes.get(chunk)) for chunk in rows.completed if chunk < next_chunk]
    cancelled = [number for number, state, *_ in rows.others if state == State.CANCELLED and number not in since]
    unsuccessful = [one.task for one in rows.attempts if one.chunk < next_chunk]
    counts = list(journal.counts().values())
    return TaskEvents(counts, (), (), (), failures, cancelled, unsuccessful, is_whole=True, stored=stored)
