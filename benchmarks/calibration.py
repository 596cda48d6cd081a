"""Calibration: the core time of one step of `burn`, measured just before and after each measurement."""

from __future__ import annotations

import multiprocessing
import statistics
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection

from workloads import burn

SLICE_ITERATIONS = 100_000
SLICES = 15


class Calibrators:
    """As many processes as there are workers, as nice as they, which run the loop at one time; a context manager.

    What a core does in a second depends on what its neighbours do: a single process would be faster than workers are.
    """

    def __init__(self, workers: int) -> None:
        spawn = multiprocessing.get_context("spawn")
        pairs = [spawn.Pipe() for _ in range(workers)]
        self._connections = [ours for ours, _ in pairs]
        self._processes = [spawn.Process(target=_serve, args=(theirs,), daemon=True) for _, theirs in pairs]
        for process in self._processes:
            process.start()

    def measure(self) -> float:
        """Seconds of a core that one step takes."""
        for connection in self._connections:
            connection.send(SLICES)
        return combine([connection.recv() for connection in self._connections])

    def __enter__(self) -> Calibrators:
        self.measure()  # the first takes longer: imports, and code that is not specialised yet
        return self

    def __exit__(self, *exception: object) -> None:
        for connection, process in zip(self._connections, self._processes, strict=True):
            connection.close()
            process.join()


def combine(slices_s: Sequence[Sequence[float]]) -> float:
    """Seconds per step from the slices of all processes: of each the median, of those the mean."""
    return statistics.fmean(statistics.median(slices) / SLICE_ITERATIONS for slices in slices_s)


def useful_seconds(iterations: int, before_s: float, after_s: float) -> float:
    """Core time that so many steps need, where a step took so long before a measurement and so long after it."""
    return iterations * (before_s + after_s) / 2


def _serve(connection: Connection) -> None:
    """Answer each question, how many slices, with the core time of each; end when nobody asks any more."""
    while True:
        try:
            slices = connection.recv()
        except EOFError:
            return
        times = []
        for _ in range(slices):
            begun = time.thread_time()  # not the wall clock: a slice that waits for a core does no work meanwhile
            burn(SLICE_ITERATIONS)
            times.append(time.thread_time() - begun)
        connection.send(times)
