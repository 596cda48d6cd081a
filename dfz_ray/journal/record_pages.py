"""Reads the tasks of a run in pages, so that a reader of all of them holds a few at a time."""

from __future__ import annotations

import bisect
import functools
import threading
from array import array
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, NamedTuple

from dfz_ray.protocol.columns import TIMES, read_times, unpack

if TYPE_CHECKING:
    from dfz_ray.journal.reader import JournalReader

PAGE_TASKS = 5_000
"""A page has as many blocks of tasks as reach this number."""
KEPT_PAGES = 4
KEPT_BYTES = 2**25
"""Results of more chunks are not kept."""
AHEAD_BYTES = 2**22
"""The results of so many bytes are read together where all records are gone through."""

Open = Callable[[], "AbstractContextManager[JournalReader]"]
"""Opens the journal, or returns the reader that is open anyway."""


class CompletedTasks:
    """The tasks of a chunk that completed."""

    def __init__(self, chunk: int, times: bytes, node: str | None) -> None:
        self.chunk, self.node = chunk, node
        self._times = read_times(times)

    def span(self, place: int) -> tuple[float, float]:
        """Start and end of the execution of the task at this place."""
        at = TIMES * place
        return self._times[at], self._times[at + 1]


class Completed(NamedTuple):
    """The completed tasks of a page."""

    chunks: Sequence[CompletedTasks]
    chunk_of: array[int]
    """By task of the page the position in `chunks`, or -1."""
    place_of: array[int]
    """By task of the page its position among the tasks of its chunk."""


class Page:
    """Tasks of consecutive numbers, from `first` on."""

    def __init__(self, first: int, ids: Sequence[str], kinds: Sequence[int], read: Callable[[], Completed]) -> None:
        self.first, self.ids, self.kinds = first, ids, kinds
        self._read = read

    @functools.cached_property
    def completed(self) -> Completed:
        """The completed ones among them, read when they are first asked for."""
        return self._read()


class RecordPages:
    """The tasks of a run as of one commit, in pages, and the results of its chunks."""

    def __init__(self, open_journal: Open, blocks: Sequence[tuple[int, int]], commit: int) -> None:
        self._open, self._commit = open_journal, commit
        self._firsts = array("q")
        """The first task of each page."""
        self.tasks = 0
        for first, tasks in blocks:
            if not self._firsts or first - self._firsts[-1] >= PAGE_TASKS:
                self._firsts.append(first)
            self.tasks = first + tasks
        self._lock = threading.Lock()
        self._pages: OrderedDict[int, Page] = OrderedDict()
        self._results: OrderedDict[int, tuple[list[Any], int]] = OrderedDict()
        """By chunk its results, unpacked, and their bytes."""
        self._result_bytes = 0

    def __iter__(self) -> Iterator[Page]:
        return map(self._get, range(len(self._firsts)))

    def page_of(self, number: int) -> Page:
        """The page that has this task."""
        return self._get(bisect.bisect_right(self._firsts, number) - 1)

    def result_of(self, page: Page, at: int, *, goes_on: bool = False) -> bytes | str:
        """The result of the completed task at a position of a page, or the name of its file.

        If the caller goes on with the next tasks, the results of the next chunks are read as well.
        """
        chunks, chunk_of, place_of = page.completed
        position = chunk_of[at]
        found = self._results.get(chunks[position].chunk)
        if found is None:
            found = self._read_results(chunks[position:] if goes_on else chunks[position : position + 1])
        result: bytes | str = found[0][place_of[at]]
        return result

    def _get(self, index: int) -> Page:
        with self._lock:
            page = self._pages.get(index)
            if page is None:
                page = self._pages[index] = self._read(index)
                while len(self._pages) > KEPT_PAGES:
                    self._pages.popitem(last=False)
            return page

    def _read(self, index: int) -> Page:
        first = self._firsts[index]
        last = (self._firsts[index + 1] if index + 1 < len(self._firsts) else self.tasks) - 1
        ids: list[str] = []
        kinds: list[int] = []
        with self._open() as journal:
            for some_ids, some_kinds in journal.query("read_names_between", (first, last)):
                ids.extend(unpack(some_ids))
                kinds.extend(unpack(some_kinds))
        return Page(first, ids, kinds, lambda: self._read_completed(first, last))

    def _read_completed(self, first: int, last: int) -> Completed:
        chunk_of, place_of = array("q", [-1]) * (last + 1 - first), array("q", [0]) * (last + 1 - first)
        chunks: list[CompletedTasks] = []
        with self._open() as journal:
            for chunk, tasks, times, node in journal.query("read_chunks_of", (first, last, self._commit)):
                for place, number in enumerate(unpack(tasks)):
                    if first <= number <= last:
                        chunk_of[number - first], place_of[number - first] = len(chunks), place
                chunks.append(CompletedTasks(chunk, times, node))
        return Completed(chunks, chunk_of, place_of)

    def _read_results(self, chunks: Sequence[CompletedTasks]) -> tuple[list[Any], int]:
        """Read results of the first of these chunks, and of those that follow it up to AHEAD_BYTES."""
        first: tuple[list[Any], int] | None = None
        read_bytes = 0
        with self._lock, self._open() as journal:
            for chunk in chunks:
                if chunk.chunk in self._results:
                    break
                column: bytes = next(journal.query("read_chunk_results", (chunk.chunk,)))[0]
                found = self._results[chunk.chunk] = unpack(column), len(column)
                first = first or found
                read_bytes += len(column)
                if read_bytes >= AHEAD_BYTES:
                    break
            self._result_bytes += read_bytes
            while self._result_bytes > KEPT_BYTES and len(self._results) > 1:
                _, (_, size) = self._results.popitem(last=False)
                self._result_bytes -= size
            # If another thread has read it meanwhile, it is still here: nothing was pushed out for what is not read.
            return self._results[chunks[0].chunk] if first is None else first
