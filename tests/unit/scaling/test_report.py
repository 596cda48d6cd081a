"""The files of a study that people read: scaling.png, report.html; and the table in the terminal."""

from __future__ import annotations

import dataclasses
import io
import json
import re
import struct
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console
from support.sample_study import DIGEST, both_modes, study, summarise, trial
from support.sample_timelines import study_with_timelines, trial_with_timeline

from dfz_ray.cli.scale_screen import print_study
from dfz_ray.scaling.choices import Goals
from dfz_ray.scaling.measurement import Measurement
from dfz_ray.scaling.report import points_table, render_report, write_study

HOSTILE = "<script>alert('$x_{')</script>\n&\"\ud800" + "x" * 200


def terminal(summary: dict[str, Any]) -> str:
    screen = io.StringIO()
    Console(width=80, file=screen).print(points_table(summary))
    return screen.getvalue()


class Page(HTMLParser):
    """The tags and the text of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.html = html
        self.open: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attributes)))
        if tag not in {"meta", "br", "hr", "img"}:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data

    def charts(self) -> list[ElementTree.Element]:
        """The charts, parsed as XML: each is well-formed."""
        found = re.findall(r'<svg[^>]*class="chart".*?</svg>', self.html, re.DOTALL)
        return [ElementTree.fromstring(svg) for svg in found]  # noqa: S314 - our own page

    def assert_sound(self) -> None:
        """Assert that elements are closed in order, ids are unique, and each chart has a title and a description."""
        ids = [attributes["id"] for _, attributes in self.tags if "id" in attributes]
        assert len(set(ids)) == len(ids)
        assert not self.open
        for svg in self.charts():
            assert svg.get("role") == "img"
            names = [svg.find("title"), svg.find("desc")]
            assert svg.get("aria-labelledby") == " ".join(str(one.get("id")) for one in names if one is not None)
            assert all(one is not None and one.text for one in names)
            assert "nan" not in ElementTree.tostring(svg, encoding="unicode").lower().replace("nant", "")


any_trial = st.builds(
    lambda workers, **values: trial(workers, **(values | ({"served": None} if not workers else {}))),
    st.sampled_from([0, 1, 2, 5, 128]),
    wall_s=st.floats(0, 1e6),
    warm_up_s=st.none() | st.floats(0, 100),
    completed=st.integers(0, 40),
    digest=st.sampled_from([None, DIGEST, "cd" * 32]),
    avg_concurrency=st.none() | st.floats(0, 128),
    max_concurrency=st.none() | st.integers(0, 128),
    served=st.none() | st.integers(0, 128),
    error=st.sampled_from([None, None, None, "lost"]),
)


@settings(max_examples=40, deadline=None)
@given(st.lists(any_trial, max_size=12))
def test_whatever_was_measured_can_be_summed_up(trials: list[Measurement]) -> None:
    """Any mix of trials gives a summary of finite numbers that recommends a measured number, 0, or nothing."""
    summary = summarise(trials)
    json.dumps(summary, allow_nan=False)
    measured = {point["workers"] for point in summary["points"]}
    assert summary["recommendation"]["workers"] in measured | {0, None}
    assert summary["recommendation"]["reason"]
    assert points_table(summary).row_count == len({measurement.workers for measurement in trials})


STUDIES: dict[str, list[Measurement]] = {
    "both modes": both_modes(),
    "both modes, one repeat": both_modes(repeats=1),
    "plain": study(),
    "one repeat": study(repeats=1),
    "one point": study(workers=(4,), repeats=1),
    "nothing": [],
    "baseline only": study(workers=(0,)),
    "all failed": study(error="lost", digest=None, completed=0),
    "no task completed": study(completed=0, failed=40),
    "underserved": study(workers=(0, 8), served=3),
    "timelines": study_with_timelines(),
    "one timeline": [trial_with_timeline(4, 1, 1)],
    "no interval": study_with_timelines(repeats=2),
    "twelve timelines": study_with_timelines(workers=(0, *range(1, 13)), repeats=1),
    "many points": study(workers=(0, *range(1, 17), 32, 48, 64, 128)),
}


PICTURED = ("both modes", "plain", "one point", "nothing", "all failed", "underserved", "many points")


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", STUDIES)
def test_every_kind_of_study_has_a_page(name: str) -> None:
    """Every kind of study, also one that measured nothing, has a page that is sound."""
    trials = STUDIES[name]
    summary = summarise(trials)
    page = Page(render_report(summary, trials))
    assert summary["recommendation"]["reason"][1:20] in page.text
    assert [tag for tag, _ in page.tags].count("tr") >= len(trials)
    page.assert_sound()


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", PICTURED)
def test_every_kind_of_study_is_written(name: str, tmp_path: Path) -> None:
    """Every kind of study, also one that measured nothing, gets its summary, its pictures and its page."""
    trials = STUDIES[name]
    summary = summarise(trials)
    files = write_study(tmp_path / "study", summary, trials)
    assert sorted(path.name for path in (tmp_path / "study").iterdir()) == sorted(path.name for path in files)
    assert json.loads(files.summary.read_text()) == summary
    png = files.figure.read_bytes()
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    assert struct.unpack(">II", png[16:24]) == (1600, 700)
    assert ElementTree.fromstring(files.vector_figure.read_bytes()).tag.endswith("svg")  # noqa: S314 - our own picture
    assert files.report.read_text() == render_report(summary, trials)


def test_the_page_needs_nothing_else() -> None:
    """The page holds no script, no link and no picture from elsewhere, and no style that loads one."""
    trials = study_with_timelines()
    text = render_report(summarise(trials, command="dfz scale"), trials)
    page = Page(text)
    page.assert_sound()
    assert not {tag for tag, _ in page.tags} & {
        "script",
        "link",
        "a",
        "iframe",
        "object",
        "base",
        "img",
        "use",
        "image",
    }
    names = {name for _, attributes in page.tags for name in attributes}
    assert not names & {"src", "href", "xlink:href", "srcset", "data", "action", "style", "onload"}
    assert "url(" not in text
    assert "@import" not in text
    assert "//" not in text
    assert "dfz scale" in page.text


def test_the_page_shows_everything_that_was_measured() -> None:
    """The page has the verdict, a chart of each kind with a title and a description, and a table for each."""
    trials = study_with_timelines(workers=(0, 1, 2, 3, 4, 6, 8))
    summary = summarise(trials, physical_cores=8, command="dfz scale --seed 3")
    page = Page(render_report(summary, trials))
    page.assert_sound()
    titles = {svg.find("title").text for svg in page.charts()}  # type: ignore[union-attr]
    assert titles == {
        "Speedup over the number of workers",
        "Efficiency over the number of workers",
        "Where the time of the workers went",
        "Cost of the batch over the number of workers",
        "Times of tasks by kind",
        "Timeline with 1 worker",
        *(f"Timeline with {workers} workers" for workers in (2, 3, 4, 6, 8)),
    }
    (speedup,) = [svg for svg in page.charts() if (svg.find("title").text or "").startswith("Speedup")]  # type: ignore[union-attr]
    assert speedup.findall("path[@class='band']")
    assert speedup.findall("path[@class='law']")
    words = page.text
    for name in ("Parallel\nefficiency", "Ramp-up", "Core-hours", "Tail", "Median", "dfz scale --seed 3", "ideal"):
        assert name.lower() in words.lower(), name


def test_the_page_shows_the_choice_for_each_goal() -> None:
    """Where the summary has choices, each goal has its line, with the number of workers and the price."""
    trials = study_with_timelines()
    summary = summarise(trials)
    fastest = {"goal": "fastest", "says": "least time", "workers": 4, "mode": "processes", "wall_s": 5.5}
    fastest |= {"wall_s_ci95": [5.4, 5.6], "efficiency": 0.9, "core_hours": 0.006, "price": 0.12}
    fastest |= {"efficiency_ci95": None, "core_hours_ci95": None}
    late = dict.fromkeys(fastest) | {"goal": "deadline", "says": "least cost within 1 s"}
    summary["recommendation"]["choices"] = [fastest, late]
    page = Page(render_report(summary | {"price": 20.0}, trials))
    page.assert_sound()
    assert "Least time4 workers5.50 s" in page.text
    assert "Least cost within 1 sno number that was measured" in page.text
    assert "0.12" in page.text


def test_the_physical_cores_are_marked() -> None:
    """The speedup's chart has a line at the physical cores, and shades the points beyond."""
    trials = study_with_timelines()
    page = Page(render_report(summarise(trials), trials))
    speedup = page.charts()[0]
    assert speedup.findall("line[@class='cores']")
    assert speedup.findall("rect[@class='beyond']")
    assert "2 physical cores" in [text.text for text in speedup.findall("text")]


def test_the_page_stays_small() -> None:
    """The page of a study of 100,000 tasks with twelve numbers of workers has less than 1 MB."""
    counts = (*range(1, 9), 16, 32, 64, 128)
    large = trial_with_timeline(16, 100_000, 12)
    assert large.timeline is not None
    assert sum(kind["tasks"] for kind in large.timeline["task_s"]) == 100_000
    trials = [
        dataclasses.replace(large, workers=workers, wall_s=large.wall_s * 16 / workers, repeat=repeat)
        for workers in counts
        for repeat in range(4)
    ]
    text = render_report(summarise(trials), trials)
    assert text.count("<h3>") >= len(counts)
    assert len(text.encode()) < 1_000_000
    Page(text).assert_sound()


def test_a_study_that_was_interrupted_has_a_page() -> None:
    """A study that was interrupted says so, and shows what it has."""
    trials = study_with_timelines()[:6]
    page = Page(render_report(summarise(trials, why_ended=""), trials))
    assert "interrupted after 6 trials" in page.text
    assert "Timeline with 1 worker" in page.text


def test_facts_of_the_host_have_readable_names() -> None:
    """Facts have names in words, memory has a unit, and a setting that is not there is not set."""
    host = {
        "hostname": "here",
        "memory_bytes": 8 * 2**30,
        "versions": {"torch": None},
        "thread_settings": {"OMP_NUM_THREADS": None, "MKL_NUM_THREADS": "1"},
    }
    page = Page(render_report(summarise(study(), host=host), study()))
    assert "thread_settings" not in page.text
    assert "8.0 GiB" in page.text
    rows = re.sub(r"\s+", " ", page.text)
    assert "Threads of OpenMP (OMP_NUM_THREADS)not set" in rows
    assert "torchnot installed" in rows


@pytest.mark.filterwarnings("error")
def test_hostile_names_stay_text(tmp_path: Path) -> None:
    """Names of hosts, domains and errors can't become part of the page, of the picture or of the table."""
    trials = [*study_with_timelines(repeats=1), trial(2, 3, 12, error=HOSTILE, digest=HOSTILE)]
    for one in trials:
        if one.timeline:
            one.timeline["kinds"][0] = HOSTILE
    summary = summarise(
        trials,
        host={"hostname": HOSTILE, "cpu_model": "[bold]$\\frac{", HOSTILE: {HOSTILE: 1}},
        batch={"domains": [HOSTILE], "count": 40},
        mode=HOSTILE,
        command=HOSTILE,
    )
    files = write_study(tmp_path, summary, trials)
    page = Page(files.report.read_text())
    page.assert_sound()
    assert "script" not in {tag for tag, _ in page.tags}
    assert page.text.count("<script>alert") >= 10
    assert b"<script" not in files.vector_figure.read_bytes()
    assert "1 of 2" in terminal(summary)


def test_a_summary_with_an_infinite_number_is_refused(tmp_path: Path) -> None:
    """A number that is not finite is refused, and the files of before stay whole."""
    trials = study()
    before = write_study(tmp_path, summarise(trials), trials).summary.read_text()
    with pytest.raises(ValueError, match="JSON"):
        write_study(tmp_path, summarise(trials) | {"cpus_per_task": float("inf")}, trials)
    assert (tmp_path / "summary.json").read_text() == before
    assert len(list(tmp_path.iterdir())) == 4


def test_the_terminal_shows_every_point() -> None:
    """The table in the terminal has a line per point, fits 80 columns, and marks what is to be marked."""
    text = terminal(summarise([*study(workers=(0, 1, 2)), *study(workers=(4,), served=3)]))
    lines = [line.split() for line in text.splitlines()]
    assert [line[0] for line in lines[:5]] == ["Workers", "sequential", "1", "2", "4"]
    assert lines[3][:6] == ["2", "4.06", "s", "2.00x", "1.94-2.06", "100"]
    assert "recommended" in text
    assert "oversubscribed" in text
    assert "cluster served 3" in text


def test_the_terminal_says_why_there_was_no_further_repeat(tmp_path: Path) -> None:
    """A study that its time limit has ended looks like no other one."""
    trials, reason = study(), "the time limit of 60 s is reached"
    summary = summarise(trials, why_ended=reason)
    screen = io.StringIO()
    print_study(summary, write_study(tmp_path, summary, trials), tmp_path, screen)
    assert f"There was no further repeat because {reason}." in screen.getvalue().splitlines()


@pytest.mark.parametrize(("price", "is_shown"), [(0.0, True), (None, False)])
def test_a_price_of_nothing_is_a_price(price: float | None, is_shown: bool) -> None:
    """The page shows what was asked for, as the terminal does."""
    page = Page(render_report(summarise(study(), goals=Goals(price=price)), study()))
    assert ("Price" in page.text) == is_shown


def test_both_modes_have_their_lines_in_the_terminal() -> None:
    """Where two modes were measured each line of the table has its mode, and the better one is marked."""
    summary = summarise(both_modes(), mode="processes and threads")
    lines = terminal(summary).splitlines()
    assert [" ".join(line.split()[:2]) for line in lines[2:4]] == ["1 process", "1 thread"]
    assert next(line for line in lines if "recommended" in line).split()[:2] == ["4", "threads"]
    assert max(map(len, lines)) <= 80


def test_heavy_libraries_are_loaded_when_they_are_needed() -> None:
    """Importing the study's modules loads neither ray nor numpy, scipy, matplotlib, jinja2, rich or pydantic."""
    program = (
        "import sys, dfz_ray.scaling.report, dfz_ray.scaling.summary, dfz_ray.scaling.host;"
        "print(sorted({'ray', 'numpy', 'scipy', 'matplotlib', 'jinja2', 'rich', 'pydantic'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, check=True).stdout == b"[]\n"


def test_counts_are_whole_numbers() -> None:
    """A number of tasks was counted, not measured: 40 tasks are not 40.0."""
    trials = study_with_timelines()
    page = render_report(summarise(trials), trials)
    counts = {one["tasks"] for trial in trials if trial.timeline for one in trial.timeline["task_s"]}
    cells = set(re.findall(r"<td[^>]*>\s*([^<]*?)\s*<", page))
    assert {f"{count:,}" for count in counts} <= cells
    assert not {f"{count}.0" for count in counts} & cells
