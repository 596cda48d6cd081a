"""What a manager finds that a chunk costs it."""

from __future__ import annotations

import pytest

from dfz_ray.manager.manager_cost import CHUNKS, MOST_S, SUBMITTED_S, TASK_S, ManagerCost


class Clocks:
    """The time, and the CPU time of a process."""

    now_s = cpu_s = 0.0

    def make_cost(self) -> ManagerCost:
        return ManagerCost(lambda: self.now_s, lambda: self.cpu_s)

    def end_chunks(self, cost: ManagerCost, each_s: float, cpu_s: float, tasks: int = 1) -> None:
        """Let chunks end, one each so many seconds, until the cost has been measured twice."""
        for _ in range(2 * max(CHUNKS, int(0.2 / each_s) + 1)):
            self.now_s += each_s
            self.cpu_s += cpu_s
            cost.on_chunk(tasks)


def test_the_cost_is_that_of_the_whole_process() -> None:
    """A process that takes 1.1 ms of CPU for each chunk, in whatever thread, says so."""
    clocks = Clocks()
    cost = clocks.make_cost()

    clocks.end_chunks(cost, each_s=0.01, cpu_s=0.0011)

    assert cost.chunk_s == pytest.approx(0.0011, rel=0.02)


def test_the_size_of_chunks_is_no_part_of_it() -> None:
    """What each task takes by itself is left out, of those that end and of those that are submitted."""
    clocks = Clocks()
    cost = clocks.make_cost()
    cost.on_submitted(1_000)
    clocks.cpu_s += 1_000 * SUBMITTED_S

    clocks.end_chunks(cost, each_s=0.01, cpu_s=0.001 + 500 * TASK_S, tasks=500)

    assert cost.chunk_s == pytest.approx(0.001, rel=0.02)


def test_chunks_cost_their_time_where_the_manager_is_full() -> None:
    """A full manager that ends 500 chunks a second has 2 ms for each, whatever CPU time it sees; that fades later."""
    clocks = Clocks()
    cost = clocks.make_cost()
    cost.on_look("a", is_full=True)

    clocks.end_chunks(cost, each_s=0.002, cpu_s=0.0005)
    assert cost.chunk_s == pytest.approx(0.002)

    for _ in range(100):
        cost.on_look("a", is_full=False)
    clocks.end_chunks(cost, each_s=0.002, cpu_s=0.0005)
    assert cost.chunk_s == pytest.approx(0.0005, rel=0.05)


def test_a_lull_is_no_cost_of_a_chunk() -> None:
    """Where nothing ends for a while after the manager was full, chunks cost no more than the limit, and soon less."""
    clocks = Clocks()
    cost = clocks.make_cost()
    cost.on_look("a", is_full=True)
    clocks.now_s += 10.0
    clocks.end_chunks(cost, each_s=0.01, cpu_s=0.0005)
    assert cost.chunk_s == MOST_S

    for _ in range(20):
        cost.on_look("a", is_full=False)
    clocks.end_chunks(cost, each_s=0.01, cpu_s=0.0005)
    assert cost.chunk_s < MOST_S / 2


def test_a_manager_that_is_full_for_one_run_is_full() -> None:
    """Another run without a lease does not take that back; the end of the run does."""
    clocks = Clocks()
    cost = clocks.make_cost()
    cost.on_look("a", is_full=True)
    cost.on_look("b", is_full=False)
    clocks.end_chunks(cost, each_s=0.002, cpu_s=0.0005)
    assert cost.chunk_s == pytest.approx(0.002)

    cost.forget("a")
    for _ in range(100):
        cost.on_look("b", is_full=False)
    clocks.end_chunks(cost, each_s=0.002, cpu_s=0.0005)
    assert cost.chunk_s == pytest.approx(0.0005, rel=0.05)


def test_waits_of_all_runs_add_up() -> None:
    """A study reads them before and after a trial."""
    cost = Clocks().make_cost()
    cost.on_wait(0.5)
    cost.on_wait(0.25)

    assert (cost.waited_s, cost.waits) == (0.75, 2)


def test_other_work_of_the_process_has_a_limit() -> None:
    """A process that does much else does not blow chunks up."""
    clocks = Clocks()
    cost = clocks.make_cost()

    clocks.end_chunks(cost, each_s=1.0, cpu_s=1.0)

    assert cost.chunk_s == MOST_S
