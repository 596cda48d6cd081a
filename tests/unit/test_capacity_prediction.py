"""What the capacity benchmark makes of its measurements, and what its simulation predicts."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))

from capacity_prediction import Sample, ServiceTimes, find_most_exchanges, fit_service, predict_busy


def test_service_times_are_found_again() -> None:
    """A manager that takes 1 ms for a call, 0.1 ms for each further exchange in it and 0.05 cores is seen to do so."""

    def work(calls_per_s: float, exchanges_per_s: float) -> Sample:
        cores = 0.05 + 0.001 * calls_per_s + 0.0001 * (exchanges_per_s - calls_per_s)
        return Sample(cores, calls_per_s, exchanges_per_s)

    times = fit_service([work(60, 60), work(240, 240), work(100, 240), work(110, 900)])

    assert times == pytest.approx(ServiceTimes(0.001, 0.0001, 0.05))


def test_slots_of_a_manager_with_time_are_busy() -> None:
    """A hundred slots that ask twice a second, at 0.1 ms each, are busy, but for what messages take."""
    busy = predict_busy(100, 1.0, 8.0, ServiceTimes(0.0001, 0.0001, 0.0), relays=0)

    assert 0.98 < busy < 1.0 + 1e-9


def test_slots_of_a_full_manager_get_their_share_of_it() -> None:
    """At 18 ms an exchange, and a quarter of its time for all else, it begins 42 tasks of 2 s a second of fifty."""
    busy = predict_busy(100, 2.0, 24.0, ServiceTimes(0.018, 0.018, 0.25), relays=0)

    assert 0.74 < busy < 0.833


def test_relays_make_the_manager_serve_more() -> None:
    """Calls of relays have their cost, and what is left of the time goes into exchanges at their own cost."""
    times = ServiceTimes(0.001, 0.0001, 0.0)

    assert find_most_exchanges(times, relays=4) == pytest.approx(80 + 0.92 / 0.0001)
    assert find_most_exchanges(times, relays=100) == pytest.approx(1_000)
    assert find_most_exchanges(times._replace(else_share=0.2), relays=4) == pytest.approx(80 + 0.72 / 0.0001)
    assert find_most_exchanges(times, relays=0) == pytest.approx(1_000)
