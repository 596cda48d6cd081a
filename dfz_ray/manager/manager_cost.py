"""The cost of the manager: the CPU time that its whole process takes for each chunk.

The turns of the event loop take a fifth of it; the rest is Ray's, which receives and sends, and the journal's thread.
What tasks take by themselves, whatever the size of their chunks, is left out: larger chunks would not save it.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from dfz_ray.protocol.relay_side import GATHER_S, adapt_gathering

CHUNKS = 20
EACH_S = 0.2
"""The cost is averaged over so many chunks at least, and so many seconds."""
TASK_S, SUBMITTED_S = 1.5e-6, 1e-6
"""CPU seconds for a task that ends, and for one that is submitted, as they were on one machine."""
LEAST_S, MOST_S = 5e-5, 5e-3
"""The limits of the cost of a chunk: whatever else this process does in the meantime must not blow chunks up."""
FADES = 0.95
"""The cost that a full manager was found to have is trusted by so much less with each look at which it is not full."""


class ManagerCost:
    """Measures this process. All its runs share one object: Ray's threads work for all of them."""

    def __init__(
        self, clock: Callable[[], float] = time.monotonic, cpu_clock: Callable[[], float] = time.process_time
    ) -> None:
        self._clock, self._cpu_clock = clock, cpu_clock
        self.chunk_s = LEAST_S
        """For a chunk, of late."""
        self._chunks, self._own_s = 0, 0.0
        """Chunks that have ended, and the CPU time of tasks alone, since the last look."""
        self._looked_at, self._cpu_s = clock(), cpu_clock()
        self.gather_s = GATHER_S
        """The seconds for which relays gather reports."""
        self._full: dict[str, bool] = {}
        """By run: whether its workers waited for the manager at the last look."""
        self._full_s = 0.0
        """The time between two chunks while the manager was full: so long each of them took."""
        self.waited_s, self.waits = 0.0, 0
        """The seconds for which slots have waited for the manager so far, and the number of these waits."""

    def on_submitted(self, tasks: int) -> None:
        """So many tasks were taken in."""
        self._own_s += tasks * SUBMITTED_S

    def on_chunk(self, tasks: int) -> None:
        """A chunk of so many tasks has ended."""
        self._chunks += 1
        self._own_s += tasks * TASK_S
        if self._chunks >= CHUNKS and (passed_s := self._clock() - self._looked_at) >= EACH_S:
            cpu_s = self._cpu_clock()
            self._measure(cpu_s - self._cpu_s, passed_s)
            self._looked_at, self._cpu_s = self._looked_at + passed_s, cpu_s

    def on_wait(self, seconds: float) -> None:
        """A slot has waited for the manager."""
        self.waited_s += seconds
        self.waits += 1

    def on_look(self, run: str, is_full: bool) -> None:
        """Workers of a run wait for the manager, or they do not; called about once a second for each run."""
        self._full[run] = is_full
        if not self._is_full:
            self._full_s *= FADES ** (1 / len(self._full))

    def forget(self, run: str) -> None:
        """A run is over."""
        self._full.pop(run, None)

    @property
    def _is_full(self) -> bool:
        return any(self._full.values())

    def _measure(self, cpu_s: float, passed_s: float) -> None:
        self.gather_s = adapt_gathering(self.gather_s, cpu_s / passed_s)
        if self._is_full:
            self._full_s = min(max(self._full_s, passed_s / self._chunks), MOST_S)
        spent_s = max((cpu_s - self._own_s) / self._chunks, self._full_s)
        self.chunk_s = min(max(spent_s, LEAST_S), MOST_S)
        self._chunks, self._own_s = 0, 0.0
