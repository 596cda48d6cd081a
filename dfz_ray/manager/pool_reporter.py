"""The slots of a run if their number follows the throughput: limits go to the engine, changes to the journal."""

from __future__ import annotations

from collections.abc import Callable

from dfz_ray.engine.messages import NotePoolChanged, PoolLimited
from dfz_ray.manager.run_journal import RunJournal
from dfz_ray.protocol.submission import RunOptions


class PoolReporter:
    """Informs the engine of the slots that the cluster holds, and writes down every change."""

    def __init__(self, options: RunOptions, journal: RunJournal, handle: Callable[[PoolLimited], object]) -> None:
        self.why = ""
        """The reason for the number of slots; empty if it is fixed."""
        self.is_auto = options.engine.pool is not None
        self._limits = options.engine.pool
        self._most = options.most_slots
        self._width = options.engine.width
        self._journal = journal
        self._handle = handle
        self._reported: PoolLimited | None = None
        if self._limits is not None:
            slots = max(self._limits.least, min(options.engine.slots, self._limits.most))
            self.note(NotePoolChanged(slots, f"begins with {slots}"))

    def note(self, command: NotePoolChanged) -> None:
        """The number of slots has changed."""
        self.why = command.reason
        self._journal.add_pool_change(command)

    def on_held(self, held: float) -> None:
        """The nodes hold so many tasks of the smallest shape, with a process for each."""
        if self._limits is None:
            return
        processes = max(1, int(held))
        most = processes * self._width if self._most is None else min(processes * self._width, self._most)
        limits = PoolLimited(self._limits.least, max(most, self._limits.least), processes)
        if limits != self._reported:
            self._reported = limits
            self._handle(limits)
