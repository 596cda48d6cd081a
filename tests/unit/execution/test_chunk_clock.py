"""The times of the tasks of a chunk: without gaps, and with all the CPU time that the chunk had."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import time

import pytest

from dfz_ray.execution.chunk_clock import ChunkClock, find_offset


def work(seconds: float) -> None:
    """Keep a core busy for so much of its time."""
    until = time.process_time() + seconds
    while time.process_time() < until:
        pass


def test_each_task_begins_when_the_one_before_has_ended() -> None:
    """Start and end are Unix times, in order and without a gap."""
    before = time.time()
    clock = ChunkClock()
    for _ in range(100):
        clock.lap()
    laps = list(clock.laps())
    after = time.time()
    assert len(laps) == 100
    assert all(one[1] == following[0] for one, following in itertools.pairwise(laps))
    assert all(start <= end for start, end, _ in laps)
    assert before - 0.01 <= laps[0][0] <= laps[-1][1] <= after + 0.01
    assert clock.elapsed_s == pytest.approx(laps[-1][1] - laps[0][0], abs=1e-6)


@pytest.mark.parametrize("interrupted", [{1}, {2}, {1, 2, 4, 5, 7}])
def test_a_process_that_loses_its_core_reads_the_clocks_again(interrupted: set[int]) -> None:
    """An interruption between the readings of two clocks shifts no task's time, if any reading goes through."""
    readings, now = itertools.count(), 0.0

    def read(offset_s: float) -> float:
        nonlocal now
        now += 0.3 if next(readings) in interrupted else 1e-6
        return now + offset_s

    assert find_offset(lambda: read(1000.0), lambda: read(0.0)) == pytest.approx(1000.0, abs=1e-5)


def test_short_tasks_share_the_cpu_time_that_they_had_together() -> None:
    """However short the tasks are, their CPU times add up to that of the chunk."""
    begun = time.process_time()
    clock = ChunkClock()
    for _ in range(200):
        work(0.0001)
        clock.lap()
    spent = time.process_time() - begun
    assert sum(cpu_s for _, _, cpu_s in clock.laps()) == pytest.approx(spent, rel=0.05, abs=0.001)


def test_a_long_task_has_its_own_cpu_time() -> None:
    """A task that waits has hardly any, and the one beside it, that computes, all of its own."""
    clock = ChunkClock()
    time.sleep(0.02)
    clock.lap()
    work(0.02)
    clock.lap()
    (_, _, waiting), (_, _, computing) = clock.laps()
    assert waiting < 0.01
    assert computing >= 0.019


BURN = "import time\nwhile time.process_time() < 0.05: pass"


def test_a_task_has_the_cpu_time_of_the_programs_that_it_called() -> None:
    """A task that runs another program and waits for its end computes; the one after it does not."""
    clock = ChunkClock()
    subprocess.run([sys.executable, "-c", BURN], check=True)
    clock.lap()
    time.sleep(0.02)
    clock.lap()
    (_, _, calling), (_, _, waiting) = clock.laps()
    assert calling >= 0.05
    assert waiting < 0.01


def test_no_task_has_more_cpu_time_than_all_cores_have() -> None:
    """A task that collects the program of an earlier one has no more CPU time than fits into its own time."""
    clock = ChunkClock()
    program = subprocess.Popen([sys.executable, "-c", BURN])
    os.waitid(os.P_PID, program.pid, os.WEXITED | os.WNOWAIT)
    clock.lap()
    program.wait()
    clock.lap()
    _, (start, end, cpu_s) = clock.laps()
    assert cpu_s <= 1.01 * (os.cpu_count() or 1) * (end - start) + 1e-6


def test_a_chunk_without_tasks_has_no_times() -> None:
    """Where nothing was executed nothing is told."""
    assert list(ChunkClock().laps()) == []
