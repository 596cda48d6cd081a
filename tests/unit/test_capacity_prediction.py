"""What the capacity benchmark makes of its measurements, and what its simulation predicts."""

from __future__ import annotations

import asyncio
import itertools
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))

import emulation
from capacity import read_options
from capacity_prediction import (
    MeasuringManager,
    Sample,
    ServiceTimes,
    find_most_exchanges,
    fit_service,
    predict_busy,
)
from emulation import Leases, foretell_chunk

from dfz_ray.execution.execute import Work
from dfz_ray.protocol.lease_protocol import Message
from dfz_ray.protocol.orders import Order, pack_order
from dfz_ray.simulation import SimulatedTask


def test_service_times_are_found_again() -> None:
    """A manager that takes 1 ms for a call, 0.1 ms for each further exchange in it and 0.05 cores is seen to do so."""

    def work(calls_per_s: float, exchanges_per_s: float) -> Sample:
        cores = 0.05 + 0.001 * calls_per_s + 0.0001 * (exchanges_per_s - calls_per_s)
        return Sample(cores, calls_per_s, exchanges_per_s)

    times = fit_service([work(60, 60), work(240, 240), work(100, 240), work(110, 900)])

    assert times == pytest.approx(ServiceTimes(0.001, 0.0001, 0.05))


@pytest.mark.parametrize(
    "words", ["--slots 0", "--task-s 0", "--task-s nan", "--task-s inf", "--seconds 20", "--seconds inf", "--relays 1"]
)
def test_what_the_benchmark_cannot_measure_is_refused(words: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Else it would print a wrong share of busy slots, or no number at all."""
    with pytest.raises(SystemExit):
        read_options(words.split())

    assert f"{words.split(maxsplit=1)[0]}: found" in capsys.readouterr().err
    assert read_options([]).slots == 10_000


def test_slots_of_a_manager_with_time_are_busy() -> None:
    """A hundred slots that ask twice a second, at 0.1 ms each, are busy, but for what messages take."""
    busy = predict_busy(100, 1.0, 8.0, ServiceTimes(0.0001, 0.0001, 0.0), relays=0)

    assert 0.98 < busy < 1.0 + 1e-9


def test_slots_of_a_full_manager_get_their_share_of_it() -> None:
    """At 18 ms an exchange, and a quarter of its time for all else, it begins 42 tasks of 2 s a second of fifty."""
    busy = predict_busy(100, 2.0, 24.0, ServiceTimes(0.018, 0.018, 0.25), relays=0)

    assert busy == pytest.approx(0.75 / 0.018 / 50, abs=0.01)


def test_relays_make_the_manager_serve_more() -> None:
    """Calls of relays have their cost, and what is left of the time goes into exchanges at their own cost."""
    times = ServiceTimes(0.001, 0.0001, 0.0)

    assert find_most_exchanges(times, relays=4) == pytest.approx(4 + 0.996 / 0.0001)
    assert find_most_exchanges(times, relays=100) == pytest.approx(100 + 0.9 / 0.0001)
    assert find_most_exchanges(times, relays=2_000) == pytest.approx(1_000)
    assert find_most_exchanges(times._replace(else_share=0.2), relays=4) == pytest.approx(4 + 0.796 / 0.0001)
    assert find_most_exchanges(times, relays=0) == pytest.approx(1_000)


def test_the_simulation_learns_the_true_length_of_tasks() -> None:
    """Slots ask at any time, for their leases begin at any time; the first tasks have their whole length, too."""
    simulation = MeasuringManager(100, ServiceTimes(0.0001, 0.0001, 0.0), relays=0, seed=0, stagger_s=10.0)
    simulation.submit([SimulatedTask("emulated", 10.0)] * 1_000)
    simulation.run(until_s=15.0)

    (kind,) = simulation.engine.view_kinds(simulation.now)
    assert kind.task_s == pytest.approx(10.0)
    begun_s = sorted(one.began_s % 10.0 for one in simulation.executions)
    assert max(after - before for before, after in itertools.pairwise(begun_s)) < 2.0


def test_an_emulated_chunk_is_over_when_its_time_is_used_up() -> None:
    """As in a worker, no further task begins after that; the first one is executed in any case."""

    def count(budget_s: float) -> int:
        executions = foretell_chunk([Work(number, 0, b"") for number in range(5)], 100.0, 2.0, budget_s)
        assert [(one.began_at, one.ended_at) for one in executions] == [
            (100.0 + 2 * at, 102.0 + 2 * at) for at in range(len(executions))
        ]
        return len(executions)

    assert [count(budget_s) for budget_s in (0.0, 1.9, 2.0, 5.0, math.inf)] == [1, 1, 2, 3, 5]


def test_emulated_leases_ask_first_at_any_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each waits for a part of a task's length before its first report, so that they do not ask together."""
    slept: list[float] = []
    reports: list[Any] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    async def exchange(packed: bytes) -> bytes | Order:
        reports.append(packed)
        assert len(slept) >= len(reports)
        return pack_order(Order(1, Message.END))

    async def end_leases(leases: Sequence[int]) -> None:
        """Take it in."""

    async def serve() -> None:
        context = SimpleNamespace(get_node_id=lambda: "node", get_actor_id=lambda: "actor")
        monkeypatch.setattr(emulation, "ray", SimpleNamespace(get_runtime_context=lambda: context))
        monkeypatch.setattr(asyncio, "sleep", sleep)
        leases, manager = Leases("run", 10.0), SimpleNamespace(end_leases=SimpleNamespace(remote=end_leases))
        leases.start(manager, exchange, range(100))
        await asyncio.gather(*asyncio.all_tasks() - {asyncio.current_task()})

    asyncio.run(serve())
    assert len(reports) == len(slept) == 100
    assert 0 <= min(slept) < 1
    assert 9 < max(slept) < 10
