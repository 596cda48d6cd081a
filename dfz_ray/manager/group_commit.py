"""Commits in groups: rows that come while one group is on its way to the disk go with the next.

Rows are added many at a time, and the manager's threads take turns every half millisecond. For each statement SQLite
releases the GIL: row by row a commit took fifty times as long while the event loop was busy.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from dfz_ray.errors import InfrastructureLost
from dfz_ray.journal.commit_sums import Row
from dfz_ray.journal.writer import Group, JournalWriter
from dfz_ray.specs.states import State

MOST_BYTES = 2**26
"""Bytes of results that may wait for the next commit before workers wait, too."""
LONGEST_S = 5.0
"""Seconds that they wait at most: one that gets no answer for long would end."""


@dataclass(slots=True)
class Pending:
    """The group that is committed next, and the futures of its waiters."""

    rows: Group = field(default_factory=Group)
    ended: defaultdict[State, list[int]] = field(default_factory=lambda: defaultdict(list))
    """The tasks that get an outcome, by their final state."""
    payloads: dict[int, bytes] = field(default_factory=dict)
    """By failed task, the exception that it has sent; it is not written down."""
    results_bytes: int = 0
    """Of all results in the rows."""
    waiters: list[asyncio.Future[None]] = field(default_factory=list)


Committed = Callable[[Pending, Mapping[str, Sequence[Row]]], None]


class GroupCommit:
    """Writes a run's journal in a separate thread, one group after the other.

    `on_committed` receives each group that is on disk: as it was pending, and its rows as they were written. If a group
    can't be committed, `on_failure` receives the error, and no further group is committed. A group for which nobody
    waits is committed no earlier than `delay_s` after it is due, so that more goes with it.
    """

    def __init__(
        self,
        writer: JournalWriter,
        on_committed: Committed,
        on_failure: Callable[[Exception], None],
        delay_s: float = 0.0,
    ) -> None:
        self._writer = writer
        self._on_committed = on_committed
        self._on_failure = on_failure
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="journal")
        self._dirty = asyncio.Event()
        self._delay_s = delay_s
        self._timer: asyncio.TimerHandle | None = None
        self.pending = Pending()
        self.commits, self.commit_s = 0, 0.0
        """The number of groups that this object has committed, and the seconds that all of them took."""
        self._loop = asyncio.create_task(self._commit_groups())

    def soon(self, delay_s: float = 0.0) -> None:
        """Commit what is pending, at once or after a while."""
        delay_s = max(delay_s, self._delay_s)
        if not delay_s:
            self._dirty.set()
            return
        loop = asyncio.get_running_loop()
        due = loop.time() + delay_s
        if self._timer is None or due < self._timer.when():
            if self._timer is not None:
                self._timer.cancel()
            self._timer = loop.call_at(due, self._on_time)

    def _on_time(self) -> None:
        self._timer = None
        self._dirty.set()

    async def wait(self) -> None:
        """Wait until everything up to now is on disk.

        Raises:
            InfrastructureLost: it can't be written.
        """
        if self._loop.done():
            raise InfrastructureLost("the run can't go on: its journal can't be written any more")
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.pending.waiters.append(waiter)
        self._dirty.set()
        await waiter

    @property
    def is_behind(self) -> bool:
        """True if many bytes of results wait for the disk: workers could fill the memory with more."""
        return self.pending.results_bytes > MOST_BYTES

    async def keep_up(self) -> None:
        """Wait until what was added up to now is on disk, but not for long.

        Raises:
            InfrastructureLost: it can't be written.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LONGEST_S):
                await self.wait()

    def give_up(self, error: BaseException) -> None:
        """Notify the waiters that no further commit will come."""
        _notify(self.pending.waiters, error)

    async def close(self) -> None:
        """Commit no more, and close the journal."""
        self._loop.cancel()
        await asyncio.get_running_loop().run_in_executor(self._thread, self._writer.close)
        self._thread.shutdown(wait=False)

    async def _commit_groups(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._dirty.wait()
            self._dirty.clear()
            pending, self.pending = self.pending, Pending()
            if not pending.rows and not pending.waiters:
                continue
            begun = loop.time()
            try:
                written = await loop.run_in_executor(self._thread, self._writer.commit, pending.rows)
                if pending.rows:
                    self.commits, self.commit_s = self.commits + 1, self.commit_s + loop.time() - begun
                self._on_committed(pending, written)
            except Exception as error:
                _notify(pending.waiters, error)
                self.give_up(error)  # later waiters wait for a group that will never be committed
                self._on_failure(error)
                return
            for waiter in pending.waiters:
                if not waiter.done():
                    waiter.set_result(None)


def _notify(waiters: list[asyncio.Future[None]], error: BaseException) -> None:
    for waiter in waiters:
        if not waiter.done():
            waiter.set_exception(InfrastructureLost(f"the run can't go on: {error}"))
    waiters.clear()
