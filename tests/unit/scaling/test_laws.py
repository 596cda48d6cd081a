"""Scaling laws: reference fits, what the data identify, and what they don't."""

from __future__ import annotations

import math

import numpy as np
import pytest

from dfz_ray.scaling.charts.law_curve import law_curve
from dfz_ray.scaling.laws import LAWS, Fit, amdahl, fit_law, fit_laws, usl

SPECSDM91 = [1, 18, 36, 72, 108, 144, 216], [64.9, 995.9, 1652.4, 1853.2, 1828.9, 1775.0, 1702.2]
RAYTRACER = (
    [1, 4, 8, 12, 16, 20, 24, 28, 32, 48, 64],
    [20.0, 78.0, 130.0, 170.0, 190.0, 200.0, 210.0, 230.0, 260.0, 280.0, 310.0],
)


def test_specsdm91_gives_the_reference_fit() -> None:
    """The data of the R package usl give its estimates, standard errors, residual error and peak."""
    fit = fit_law("usl", *SPECSDM91)
    assert fit.parameters == pytest.approx({"rate": 89.99523, "contention": 0.0277285, "coherency": 1.044e-4}, rel=5e-4)
    halves = {name: (ends[1] - ends[0]) / 2 for name, ends in fit.ci95.items() if ends}
    errors = {"rate": 14.2135, "contention": 0.0091217, "coherency": 1.988e-5}
    assert halves == pytest.approx({name: 2.776445 * error for name, error in errors.items()}, rel=2e-3)
    assert fit.residual_error == pytest.approx(82.85, abs=0.01)
    assert fit.peak == pytest.approx(96.52, abs=0.05)
    assert fit.predict(96.52) == pytest.approx(1884, abs=1)
    assert fit.limit == "throughput peaks at 97 workers (1,884 tasks/s)"


def test_the_first_points_of_raytracer_give_the_reference_fit() -> None:
    """The estimates are the source's; the intervals are 95 % ones with three degrees of freedom."""
    fit = fit_law("usl", RAYTRACER[0][:6], RAYTRACER[1][:6])
    assert fit.parameters == pytest.approx({"rate": 20.85605, "contention": 0.02444, "coherency": 0.00163}, rel=2e-3)
    assert fit.ci95["contention"] == pytest.approx((-0.0023, 0.0511), abs=1e-4)
    assert fit.ci95["coherency"] == pytest.approx((0.00079, 0.00246), abs=1e-5)
    assert fit.ci95["rate"] == pytest.approx((18.35, 23.37), abs=0.01)


def test_no_peak_is_told_where_the_data_show_none() -> None:
    """All points of raytracer put the coherency at its bound: there is no peak, and no interval for it."""
    fit = fit_law("usl", *RAYTRACER)
    assert fit.parameters == pytest.approx(
        {"rate": 21.84884, "contention": 0.0577708, "coherency": 0}, rel=5e-4, abs=1e-9
    )
    assert fit.ci95["coherency"] is None
    assert fit.peak is None
    assert fit.limit == "no peak within 2 times the 64 workers that were measured"


def test_a_law_without_noise_is_found_again() -> None:
    """The synthetic data of the law itself give its parameters."""
    fit = fit_law("usl", [1, 2, 4, 6, 8, 10], [1, 1.8868, 3.0769, 3.5294, 3.5398, 3.3557])
    assert fit.parameters == pytest.approx({"rate": 1, "contention": 0.02, "coherency": 0.02}, rel=1e-3)
    assert fit.left_out_error < 1e-3


def test_a_peak_far_beyond_the_data_is_not_told() -> None:
    """A peak at more than twice the largest number measured is no finding, however exact the data are."""
    counts = [1, 2, 3, 4, 5, 6, 7, 8]
    fit = fit_law("usl", counts, [float(usl(n, 10.0, 0.01, 1e-4)) for n in counts])
    assert fit.parameters["coherency"] == pytest.approx(1e-4, rel=1e-2)
    assert fit.peak is None


def test_a_peak_that_the_data_leave_open_is_not_denied() -> None:
    """Where the best coherency has a peak among the points, but may be 0, the data do not tell whether there is one."""
    fit = fit_law("usl", [1, 2, 4, 8, 12, 16], [10.3, 19.9, 32.3, 37.5, 44.8, 39.9])
    assert fit.peak is None
    assert fit.limit == "the data do not tell whether there is a peak within 2 times the 16 workers that were measured"


def test_a_peak_that_is_surely_far_is_denied() -> None:
    """Where even the largest coherency that the data allow has its peak far beyond them, there is none within them."""
    counts = [1, 2, 4, 8, 12, 16]
    noise = [1.0, 1.002, 0.998, 1.001, 1.0, 1.0]
    fit = fit_law("usl", counts, [float(usl(n, 10.0, 0.02, 1e-5)) * by for n, by in zip(counts, noise, strict=True)])
    low, high = fit.ci95["coherency"] or (1.0, 0.0)
    assert low < 0 < high
    assert fit.limit == "no peak within 2 times the 16 workers that were measured"


def test_the_simpler_law_is_chosen_where_it_explains_as_much() -> None:
    """Throughputs by Amdahl's law, a little noisy, are explained by Amdahl's law."""
    counts = [1, 2, 4, 8, 16, 32]
    noise = np.random.default_rng(3).normal(1, 0.005, len(counts))
    chosen, fits = fit_laws(counts, [float(amdahl(n, 3.0, 0.1)) * by for n, by in zip(counts, noise, strict=True)])
    assert chosen is not None
    assert chosen.law == "amdahl"
    assert chosen.parameters["serial"] == pytest.approx(0.1, abs=0.02)
    assert "does not get faster with workers" in chosen.limit
    assert isinstance(fits["usl"], Fit)


def test_a_share_that_is_nearly_all_is_written_out() -> None:
    """A serial share of 99.7 % is no power of ten."""
    ends = {"rate": (0.9, 1.1), "serial": (0.996, 0.998)}
    fit = Fit("amdahl", {"rate": 1.0, "serial": 0.997}, ends, 0.0, 0.0, 0.0, 0.0, 8)
    assert fit.limit == "a share of 99.7 % (99.6 to 99.8) does not get faster with workers"


@pytest.mark.parametrize(("law", "truth"), [("amdahl", (10.0, 0.05)), ("usl", (10.0, 0.05, 0.002))])
def test_intervals_hold_the_truth_where_noise_is_a_share_of_the_time(law: str, truth: tuple[float, ...]) -> None:
    """The intervals of a study's law, and its band, hold the truth in about 95 % of all studies."""
    random, studies = np.random.default_rng(1), 150
    counts = [1, 2, 4, 8, 16, 32]
    exact = np.array(LAWS[law][0](np.array(counts, float), *truth))
    held, inside = np.zeros(len(truth)), 0
    for rates in exact * np.median(random.lognormal(0, 0.1, (studies, 5, len(counts))), axis=1):
        fit = fit_law(law, counts, rates.tolist(), "proportional")
        ends = [fit.ci95[name] or (0.0, 0.0) for name in fit.parameters]
        held += [low <= value <= high for (low, high), value in zip(ends, truth, strict=True)]
        entry = {**fit.parameters, "ci95": fit.ci95, "relative_error": fit.relative_error}
        summary = {"fits": {"workers": counts, "chosen": law, law: entry}, "baseline": {"tasks_per_s": 1.0}}
        last = law_curve(summary)[-1]
        inside += last.low <= exact[-1] <= last.high
    least = 0.95 - 4 * math.sqrt(0.95 * 0.05 / studies)
    assert min(*held, inside) / studies >= least


def test_few_points_are_not_fitted() -> None:
    """Below five numbers of workers there is no law, and the reason is told."""
    chosen, fits = fit_laws([1, 2, 4], [1.0, 1.9, 3.5])
    assert chosen is None
    assert fits["usl"] == "a law needs 5 numbers of workers, and 3 were measured"
