"""All records of a run, each made when it is accessed, and read from the journal then."""

from __future__ import annotations

import functools
import itertools
import operator
from array import array
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path, PosixPath
from typing import TYPE_CHECKING, Any, NamedTuple, overload

from dfz_ray.errors import JournalDamaged
from dfz_ray.journal.record import Record, TaskError, read_result
from dfz_ray.journal.record_pages import Open, Page, RecordPages
from dfz_ray.journal.schema import ATTEMPT_FAILED, ATTEMPT_SUPERSEDED
from dfz_ray.protocol.columns import TIMES, read_times, split_digests, unpack
from dfz_ray.specs.encoding import decode, run_digest
from dfz_ray.specs.states import STATES, UNSUCCESSFUL, State

if TYPE_CHECKING:
    import numpy as np


class UnsuccessfulAttempt(NamedTuple):
    """An attempt that ended without completing its task."""

    task: int
    chunk: int
    outcome: int
    began_at: float | None
    ended_at: float | None


OtherOutcome = tuple[int, int, str, str, str | None]
"""Number, state, reason, message and traceback of a task that ended without a result."""


class EndedRows(NamedTuple):
    """All ends of tasks in a journal, as the statements of schema.sql return them."""

    completed: Sequence[int]
    """The chunks in which tasks completed."""
    others: Sequence[OtherOutcome]
    attempts: Sequence[UnsuccessfulAttempt]
    """In the order of tasks and chunks."""
    nodes: Mapping[int, str]
    """By chunk: the host name of its worker's node."""


class Moment(NamedTuple):
    """The state of a run at one moment, without what is read on demand: its tasks, and those that completed."""

    commit: int
    """The latest commit."""
    blocks: Sequence[tuple[int, int]]
    """First task and number of tasks, in the order of submission."""
    completed: int
    """The number of completed tasks."""
    others: Sequence[OtherOutcome]
    attempts: Sequence[UnsuccessfulAttempt]
    """In the order of tasks and chunks."""
    kinds: Sequence[tuple[str, str]]
    """Domain and name, by number."""


Row = tuple[str, str, str, str, bytes | Path | None, TaskError | None, int, float | None, float | None, str | None]
"""The fields of a record."""


class ResultFile(PosixPath):
    """The file of a large result. It holds its table: the folder of a temporary run is removed with that."""

    __slots__ = ("table",)
    table: RecordTable

    def __deepcopy__(self, memo: object) -> ResultFile:
        """A path does not change: a copy of its record holds the table, too."""
        return self


class RecordTable(Sequence[Record]):
    """The records of a run in the order of submission, as of one moment; `results` is the folder of large results."""

    def __init__(self, moment: Moment, open_journal: Open, results: Path) -> None:
        self._moment = moment
        self._open = open_journal
        self._folder = results
        self._pages = RecordPages(open_journal, moment.blocks, moment.commit)
        self._nodes: dict[int, str | None] = {}
        """By chunk, of attempts."""

    @functools.cached_property
    def counts(self) -> dict[str, int]:
        """Tasks per state. Every open task counts as pending."""
        found = Counter(state for _, state, *_ in self._moment.others)
        found[State.COMPLETED] = self._moment.completed
        found[State.PENDING] = len(self) - found.total()
        return {state.label: found[state] for state in State}

    @functools.cached_property
    def positions(self) -> dict[str, int]:
        """The position of every task, by its id."""
        ids = itertools.chain.from_iterable(page.ids for page in self._pages)
        return dict(zip(ids, range(len(self)), strict=True))

    @property
    def spans(self) -> np.ndarray[Any, Any]:
        """Start and end of every execution that ended, in Unix seconds: shape (executions, 2), ordered by start."""
        import numpy as np  # importing it takes longer than showing the state of a run

        with self._open() as journal:
            completed = [
                np.asarray(read_times(times)).reshape(-1, TIMES)[:, :2]
                for (times,) in journal.query("read_times_until", (self._moment.commit,))
            ]
        failed = [
            (one.began_at, one.ended_at)
            for one in self._moment.attempts
            if one.outcome == ATTEMPT_FAILED and one.began_at
        ]
        spans = np.concatenate([*completed, np.asarray(failed, dtype=float).reshape(-1, 2)])
        ordered: np.ndarray[Any, Any] = spans[np.argsort(spans[:, 0], kind="stable")]
        return ordered

    def digest(self) -> str:
        """The digest of the run, in hex; schema.sql defines it."""
        return run_digest(self.digests())

    def digests(self) -> Iterator[tuple[str, bytes]]:
        """The id and the digest of every completed task."""
        ids = [task_id for page in self._pages for task_id in page.ids]
        with self._open() as journal:
            for tasks, digests in journal.query("read_digests_until", (self._moment.commit,)):
                for number, own in zip(unpack(tasks), split_digests(digests), strict=True):
                    yield ids[number], own

    def unsuccessful(self) -> Iterator[Record]:
        """The records of tasks that ended without a result: failed and cancelled ones."""
        return (Record(*row) for row in self.rows(list(self._others)))

    def values(self) -> list[Any]:
        """The results of all tasks; None for each that did not complete."""
        values: list[Any] = [None] * len(self)
        with self._open() as journal:
            for tasks, results in journal.query("read_results_until", (self._moment.commit,)):
                for number, stored in zip(unpack(tasks), unpack(results), strict=True):
                    content = stored if type(stored) is bytes else read_result(self._folder / stored)
                    values[number] = decode(content)
        return values

    def __len__(self) -> int:
        return self._pages.tasks

    def __iter__(self) -> Iterator[Record]:
        return (Record(*row) for row in self.rows(range(len(self))))

    @overload
    def __getitem__(self, index: int) -> Record: ...
    @overload
    def __getitem__(self, index: slice) -> list[Record]: ...
    def __getitem__(self, index: int | slice) -> Record | list[Record]:
        numbers = range(len(self))[index]
        if not isinstance(numbers, int):
            return [Record(*row) for row in self.rows(numbers)]
        page = self._pages.page_of(numbers)
        return Record(*self._row(page, numbers - page.first, goes_on=False))

    def find(
        self, states: Collection[str] = (), domains: Collection[str] = (), kinds: Collection[str] = ()
    ) -> ChosenRecords:
        """The records of tasks in one of these states, of one of these domains and kinds; none given: any."""
        numbers: Sequence[int] = range(len(self))
        if states and set(states) <= {state.label for state in UNSUCCESSFUL}:
            numbers = [number for number, (state, _) in self._others.items() if STATES[state] in states]
            states = ()  # nothing else is read
        wanted = {
            kind
            for kind, (domain, name) in enumerate(self._moment.kinds)
            if (not domains or domain in domains) and (not kinds or name in kinds)
        }
        if not states and len(wanted) == len(self._moment.kinds):
            return ChosenRecords(self, numbers)
        found = array("q")
        for page, positions in self._by_page(numbers):
            found.extend(
                page.first + at
                for at in positions
                if page.kinds[at] in wanted and (not states or STATES[self._state(page, at)] in states)
            )
        return ChosenRecords(self, found)

    def rows(self, numbers: Sequence[int]) -> Iterator[Row]:
        """The fields of the records of these tasks, in order."""
        for page, positions in self._by_page(numbers):
            for at in positions:
                yield self._row(page, at, goes_on=True)

    def state_of(self, number: int) -> str:
        """The state of a task."""
        page = self._pages.page_of(number)
        return STATES[self._state(page, number - page.first)]

    def _by_page(self, numbers: Sequence[int]) -> Iterator[tuple[Page, Sequence[int]]]:
        """The pages of tasks, and the positions of the tasks in each."""
        begin = 0
        while begin < len(numbers):
            page = self._pages.page_of(numbers[begin])
            end, until = begin, page.first + len(page.ids)
            while end < len(numbers) and page.first <= numbers[end] < until:
                end += 1
            if end == begin:
                raise _damage(numbers[begin])
            yield page, [number - page.first for number in numbers[begin:end]]
            begin = end

    @functools.cached_property
    def _others(self) -> dict[int, tuple[int, TaskError]]:
        return {
            number: (state, TaskError(reason, message, traceback))
            for number, state, reason, message, traceback in self._moment.others
        }

    @functools.cached_property
    def _attempts(self) -> dict[int, list[UnsuccessfulAttempt]]:
        return {number: list(own) for number, own in itertools.groupby(self._moment.attempts, lambda one: one.task)}

    def _state(self, page: Page, at: int) -> int:
        other = self._others.get(page.first + at)
        if other is not None:
            return other[0]
        return State.COMPLETED if page.completed.chunk_of[at] >= 0 else State.PENDING

    def _row(self, page: Page, at: int, *, goes_on: bool) -> Row:
        number = page.first + at
        other = self._others.get(number)
        position = -1 if other is not None else page.completed.chunk_of[at]
        attempts = self._attempts.get(number, ())
        task_id, (domain, kind) = page.ids[at], self._moment.kinds[page.kinds[at]]
        if position >= 0:
            completed = page.completed.chunks[position]
            began_at, ended_at = completed.span(page.completed.place_of[at])
            stored = self._pages.result_of(page, at, goes_on=goes_on)
            content = stored if isinstance(stored, bytes) else ResultFile(self._folder, stored)
            if isinstance(content, ResultFile):
                content.table = self
            tries = len(attempts) + 1
            return task_id, domain, kind, _COMPLETED, content, None, tries, began_at, ended_at, completed.node
        state, error = (State.PENDING, None) if other is None else other
        if not attempts:
            return task_id, domain, kind, STATES[state], None, error, 0, None, None, None
        decisive = [attempt for attempt in attempts if attempt[2] != ATTEMPT_SUPERSEDED] or attempts
        _, chunk, _, began, ended = decisive[-1]
        return task_id, domain, kind, STATES[state], None, error, len(attempts), began, ended, self._find_node(chunk)

    def _find_node(self, chunk: int) -> str | None:
        if chunk not in self._nodes:
            with self._open() as journal:
                self._nodes[chunk] = next(journal.query("read_node_of_chunk", (chunk,)), (None,))[0]
        return self._nodes[chunk]


def _damage(number: int) -> JournalDamaged:
    return JournalDamaged(f"the journal names task {number}, but does not have it")


_COMPLETED = State.COMPLETED.label


class ChosenRecords(Sequence[Record]):
    """Some of the records of a table, by the numbers of their tasks; each is made when it is accessed."""

    def __init__(self, table: RecordTable, numbers: Sequence[int]) -> None:
        self.table, self.numbers = table, numbers

    def __len__(self) -> int:
        return len(self.numbers)

    def __iter__(self) -> Iterator[Record]:
        return (Record(*row) for row in self.rows())

    @overload
    def __getitem__(self, index: int) -> Record: ...
    @overload
    def __getitem__(self, index: slice) -> list[Record]: ...
    def __getitem__(self, index: int | slice) -> Record | list[Record]:
        if isinstance(index, slice):
            return [Record(*row) for row in self.table.rows(self.numbers[index])]
        number = self.numbers[operator.index(index)]
        if number >= len(self.table):
            raise _damage(number)
        return self.table[number]

    def rows(self) -> Iterator[Row]:
        """The fields of the records."""
        return self.table.rows(self.numbers)

    def find(
        self, states: Collection[str] = (), domains: Collection[str] = (), kinds: Collection[str] = ()
    ) -> ChosenRecords:
        """Those of the records of tasks in one of these states, of one of these domains and kinds; none given: any."""
        found = self.table.find(states, domains, kinds).numbers
        if self.numbers == range(len(self.table)):
            return ChosenRecords(self.table, found)
        mine = set(self.numbers)
        return ChosenRecords(self.table, [number for number in found if number in mine])

    def count_states(self) -> Counter[str]:
        """The number of tasks in each state."""
        return Counter(map(self.table.state_of, self.numbers))
