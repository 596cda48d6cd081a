"""The words and numbers of a study's page, in studies that are unlike others."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.sample_study import study, summarise

from dfz_ray.scaling.choices import Goals
from dfz_ray.scaling.number_texts import show_interval, show_percents
from dfz_ray.scaling.report import render_report, write_study


def test_tasks_that_declare_no_cpu_have_a_page(tmp_path: Path) -> None:
    """A study of tasks with `cpus: 0` is written; its workers hold one core together."""
    trials = study()
    summary = summarise(trials, cpus_per_task=0.0)
    files = write_study(tmp_path, summary, trials)
    assert "sequential program, one core: 8.12 core-seconds" in files.report.read_text()
    for entry in (summary["baseline"], *summary["points"]):
        assert entry["core_hours"] * 3600 == pytest.approx(entry["wall_s"])


def test_the_sequential_program_holds_the_cores_of_a_task() -> None:
    """The cost of the sequential program names the cores that it holds: as many as a task declares."""
    trials = study()
    assert "sequential program, one core: 8.12 core-seconds" in render_report(summarise(trials), trials)
    page = render_report(summarise(trials, cpus_per_task=2.0), trials)
    assert "sequential program, 2 cores: 16.2 core-seconds" in page
    half = summarise(trials, cpus_per_task=0.5)
    assert "sequential program, one core: 8.12 core-seconds" in render_report(half, trials)
    assert half["baseline"]["core_hours"] * 3600 == pytest.approx(half["baseline"]["wall_s"])  # it has a core to itself


def test_a_sequential_program_that_failed_was_measured() -> None:
    """The page says whether the sequential program failed or was left out."""
    points = study((1, 2))
    failed = [*study((0,), error="out of memory", completed=0, digest=None), *points]
    page = render_report(summarise(failed), failed)
    assert "There is no speedup: the sequential program failed." in page
    assert "Here every trial of it failed" in page
    assert "not measured" not in page.replace("A dash: not measured", "")
    assert "There is no speedup: the sequential program was not measured." in render_report(summarise(points), points)


def test_the_efficiency_that_was_asked_for_is_drawn() -> None:
    """The chart of efficiencies has a line at that of --efficiency, and at 80 % without it."""
    trials = study()
    assert "80 % of it" in render_report(summarise(trials), trials).replace("\N{NO-BREAK SPACE}", " ")
    page = render_report(summarise(trials, goals=Goals(efficiency=0.6)), trials).replace("\N{NO-BREAK SPACE}", " ")
    assert "60 % of it" in page
    assert "80 % of it" not in page


def test_every_number_of_the_tables_has_its_interval() -> None:
    """The tables of points and of goals have the intervals of efficiencies, that of goals those of core-hours, too."""
    trials = study(repeats=8)
    summary = summarise(trials)
    page = render_report(summary, trials).replace("\N{NO-BREAK SPACE}", " ")
    (efficient,) = [one for one in summary["recommendation"]["choices"] if one["goal"] == "efficient"]
    assert page.count(show_percents(efficient["efficiency_ci95"])) >= 2
    assert show_interval(efficient["core_hours_ci95"]) in page
