"""A contestant in a process of its own: opened, warmed up, and then timed as often as it is asked."""

from __future__ import annotations

import gc
import multiprocessing
import os
import sys
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

import psutil
from contestants import CONTESTANTS, DfzRay
from workloads import foretell

NICENESS = 15
"""The niceness of all contestants: it is that of Ray's workers."""
OPEN_LIMIT_S = 120.0
RUN_LIMIT_S = 300.0
WARM_TASK_S, WARM_TASKS = 0.005, 40
"""For each worker; repeated until it gets no faster."""
WARM_ROUNDS, WARM_AT_MOST = 3, 12


class Timed(NamedTuple):
    """One batch, run."""

    makespan_s: float
    """On the caller's clock, from the call until all results are in hand."""
    called_at: float
    returned_at: float
    run_dir: str | None


class Failed(NamedTuple):
    """The answer of a contestant that failed."""

    error: str


@dataclass(frozen=True)
class Opened:
    """A contestant that was opened and warmed up."""

    open_s: float
    niceness: list[int]
    """Of its process and all under it."""


def become_nice(niceness: int = NICENESS) -> None:
    """Make this process, and whatever it starts, as nice as Ray's workers, or otherwise nice."""
    os.nice(niceness - os.nice(0))
    os.environ["RAY_worker_niceness"] = "0"  # noqa: SIM112 - on top of what they inherit
    here = str(Path(__file__).parent)
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [here, os.environ.get("PYTHONPATH")]))


class Session:
    """The process; a context manager. After a failure it is of no use any more.

    Args:
        name: of the contestant.
        workers: how many tasks may execute at once.
        folder: where it may write; the caller removes it.
        iteration_s: how long a step of the loop takes.
    """

    def __init__(self, name: str, workers: int, folder: Path, iteration_s: float) -> None:
        spawn = multiprocessing.get_context("spawn")
        self._connection, theirs = spawn.Pipe()
        self._process = spawn.Process(target=_serve, args=(theirs, name, workers, folder, iteration_s))
        self._process.start()
        theirs.close()
        self.opened: Opened | Failed = self._receive(OPEN_LIMIT_S)

    def time(
        self, iterations: Sequence[int], kinds: Sequence[str] | None = None, durable: bool = True
    ) -> Timed | Failed:
        """Run a batch, and time it."""
        try:
            self._connection.send((list(iterations), kinds, durable))
        except OSError:
            return Failed("its process is gone")
        answer: Timed | Failed = self._receive(RUN_LIMIT_S)
        return answer

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *exception: object) -> None:
        self._connection.close()
        self._process.join(30)
        if self._process.is_alive():
            kill_tree(self._process.pid or 0)
            self._process.join()

    def _receive(self, limit_s: float) -> Any:
        if not self._connection.poll(limit_s):
            kill_tree(self._process.pid or 0)
            return Failed(f"no answer within {limit_s:g} s")
        try:
            return self._connection.recv()
        except EOFError:
            self._process.join()
            return Failed(f"its process died (exit code {self._process.exitcode})")


def kill_tree(pid: int) -> None:
    """End a process of ours and all that it started."""
    try:
        top = psutil.Process(pid)
        victims = [*top.children(recursive=True), top]
    except psutil.NoSuchProcess:
        return
    for victim in victims:
        try:
            victim.kill()
        except psutil.NoSuchProcess:
            continue


def _serve(connection: Connection, name: str, workers: int, folder: Path, iteration_s: float) -> None:
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), sys.stdout.fileno())  # the contestants' output must not mix with the table
        os.dup2(nowhere.fileno(), sys.stderr.fileno())
    try:
        contestant = CONTESTANTS[name](workers, folder)
        begun = time.perf_counter()
        contestant.open()
        opened = time.perf_counter()
        _warm_up(contestant, workers, iteration_s)
        family = [psutil.Process(), *psutil.Process().children(recursive=True)]
        niceness = sorted({process.nice() for process in family if process.is_running()})
        connection.send(Opened(opened - begun, niceness))
        while True:
            try:
                iterations, kinds, contestant.durable = connection.recv()
            except EOFError:
                contestant.close()
                return
            connection.send(_time(contestant, iterations, kinds))
    except BaseException:
        connection.send(Failed(traceback.format_exc(limit=-3)))
        raise


def _warm_up(contestant: Any, workers: int, iteration_s: float) -> None:
    """Run small batches until they get no faster: every worker has started and imported what it needs."""
    batch = [round(WARM_TASK_S / iteration_s)] * (WARM_TASKS * workers)
    best_s = float("inf")
    for number in range(WARM_AT_MOST):
        wall_s = _time(contestant, batch, None).makespan_s
        if number >= WARM_ROUNDS and wall_s > 0.9 * best_s:
            return
        best_s = min(best_s, wall_s)


def _time(contestant: Any, iterations: list[int], kinds: Sequence[str] | None) -> Timed:
    expected = [foretell(length) for length in iterations]
    prepared = contestant.prepare(iterations, kinds)
    gc.collect()
    called_at, begun = time.time(), time.perf_counter()
    results = contestant.run(prepared)
    makespan_s = time.perf_counter() - begun
    if list(results) != expected:
        raise AssertionError(f"{contestant.label} returned wrong results")
    run_dir = str(contestant.last_run) if isinstance(contestant, DfzRay) else None
    return Timed(makespan_s, called_at, called_at + makespan_s, run_dir)
