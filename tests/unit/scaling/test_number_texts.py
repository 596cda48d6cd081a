"""Numbers as people read them."""

from __future__ import annotations

from dataclasses import replace

from support.sample_study import study, summarise

from dfz_ray.scaling.choices import Choice, Goals
from dfz_ray.scaling.number_texts import show_number, show_percent, show_plain
from dfz_ray.scaling.report import render_report


def test_small_and_negative_numbers_keep_their_digits() -> None:
    """Numbers below 1 have two digits, however small they are; negative ones as many as positive ones; none is -0."""
    shown = {2.0: "2.00", 141000.0: "141000", 0.81: "0.81", 0.053: "0.053", 0.999: "1.00", 8.3e-5: "0.000083"}
    assert {value: show_number(value) for value in shown} == shown
    assert [show_number(value) for value in (0.0, -0.0, -5.0, -0.0002)] == ["0", "0", "-5.00", "-0.00020"]
    plain = {1.0: "1", 100.0: "100", 1e6: "1,000,000", 1 / 1024: "0.000977", 5.63e-8: "0.0000000563", -0.0: "0"}
    assert {value: show_plain(value) for value in plain} == plain
    assert [show_percent(share) for share in (-0.004, -0.0, 1e-7, 0.999)] == ["-0.4 %", "0 %", "0.00001 %", "99.9 %"]


def test_a_study_of_tasks_that_do_nothing_has_numbers() -> None:
    """Where a batch takes 0.2 ms, and workers a thousand times as long, no number of the page is 0."""
    walls = {0: 0.0002, 1: 0.2, 2: 0.25}
    trials = [replace(one, wall_s=walls[one.workers] * (1 + 0.01 * one.repeat)) for one in study((0, 1, 2), 8)]
    summary = summarise(trials, goals=Goals(price=1.0))
    reason = summary["recommendation"]["reason"]
    assert "reaches 0.0010x the sequential program (95 % interval 0.00097 to 0.0010)" in reason
    page = render_report(summary, trials)
    for wrong in ("0.000 s", "0.000976562x", ">0.000<", "e-0", "-0 %"):
        assert wrong not in page
    assert "0.00021 s" in page
    cheapest = next(one for one in summary["recommendation"]["choices"] if one["goal"] == "cheapest")
    assert "0.000207 core-seconds" in Choice(**cheapest).describe()
