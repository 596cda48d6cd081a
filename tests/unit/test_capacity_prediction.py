"""What the capacity benchmark makes of its measurements, and what its simulation predicts."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))

from capacity_prediction import ServiceTimes, find_most_exchanges, fit_service, predict_busy


def test_service_times_are_found_again() -> None:
    """A manager that takes 1 ms for a call, and 0.1 ms for each further exchange in it, is seen to do so."""
    direct, grouped = (2.0, 2_000, 2_000), (0.1 * 1.0 + 1.9 * 0.1, 100, 2_000)

    times = fit_service(direct, grouped)

    assert times == pytest.approx(ServiceTimes(0.001, 0.0001))


def test_slots_of_a_manager_with_time_are_busy() -> None:
    """A hundred slots that ask twice a second, at 0.1 ms each, are busy, but for what messages take."""
    busy = predict_busy(100, 1.0, 8.0, ServiceTimes(0.0001, 0.0001), relays=0)

    assert 0.98 < busy < 1.0 + 1e-9


def test_slots_of_a_full_manager_get_their_share_of_it() -> None:
    """At 24 ms an exchange, one for each task, a hundred slots begin 42 tasks of 2 s a second, and could begin 50."""
    busy = predict_busy(100, 2.0, 24.0, ServiceTimes(0.024, 0.024), relays=0)

    assert 0.74 < busy < 0.833


def test_relays_make_the_manager_serve_more() -> None:
    """Calls of relays have their cost, and what is left of the time goes into exchanges at their own cost."""
    times = ServiceTimes(0.001, 0.0001)

    assert find_most_exchanges(times, relays=4) == pytest.approx(80 + 0.92 / 0.0001)
    assert find_most_exchanges(times, relays=100) == pytest.approx(1_000)
