"""The files of a study that people read: scaling.png, report.html; and the table in the terminal."""

from __future__ import annotations

import io
import json
import struct
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console
from support.sample_study import DIGEST, both_modes, study, summarise, trial

from dfz_ray.scaling.measurement import Measurement
from dfz_ray.scaling.report import points_table, write_study

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
        self.feed(html)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attributes)))

    def handle_data(self, data: str) -> None:
        self.text += data


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


STUDIES = {
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
    "many points": study(workers=(0, *range(1, 17), 32, 48, 64, 128)),
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", STUDIES)
def test_every_kind_of_study_is_written(name: str, tmp_path: Path) -> None:
    """Every kind of study, also one that measured nothing, gets its summary, its picture and its page."""
    trials = STUDIES[name]
    summary = summarise(trials)
    files = write_study(tmp_path / "study", summary, trials)
    assert sorted(path.name for path in (tmp_path / "study").iterdir()) == sorted(path.name for path in files)
    assert json.loads(files.summary.read_text()) == summary
    png = files.figure.read_bytes()
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    assert struct.unpack(">II", png[16:24]) == (1600, 700)
    page = Page(files.report.read_text())
    assert summary["recommendation"]["reason"][1:20] in page.text
    assert [tag for tag, _ in page.tags].count("tr") >= len(trials)


def test_the_page_needs_nothing_else(tmp_path: Path) -> None:
    """The page holds no script and no link, and its one picture is inside it."""
    trials = study()
    page = Page(write_study(tmp_path, summarise(trials, command="dfz scale"), trials).report.read_text())
    assert not {tag for tag, _ in page.tags} & {"script", "link", "a", "iframe", "object", "base"}
    sources = [attributes["src"] or "" for _, attributes in page.tags if "src" in attributes]
    assert [source[:22] for source in sources] == ["data:image/png;base64,"]
    assert "dfz scale" in page.text


@pytest.mark.filterwarnings("error")
def test_hostile_names_stay_text(tmp_path: Path) -> None:
    """Names of hosts, domains and errors can't become part of the page, of the picture or of the table."""
    trials = [*study(), trial(2, 3, 12, error=HOSTILE, digest=HOSTILE)]
    summary = summarise(
        trials,
        host={"hostname": HOSTILE, "cpu_model": "[bold]$\\frac{", HOSTILE: {HOSTILE: 1}},
        batch={"domains": [HOSTILE], "count": 40},
        mode=HOSTILE,
        command=HOSTILE,
    )
    page = Page(write_study(tmp_path, summary, trials).report.read_text())
    assert "script" not in {tag for tag, _ in page.tags}
    assert page.text.count("<script>alert") >= 5
    assert "1 of 5" in terminal(summary)


def test_a_summary_with_an_infinite_number_is_refused(tmp_path: Path) -> None:
    """A number that is not finite is refused, and the files of before stay whole."""
    trials = study()
    before = write_study(tmp_path, summarise(trials), trials).summary.read_text()
    with pytest.raises(ValueError, match="JSON"):
        write_study(tmp_path, summarise(trials) | {"cpus_per_task": float("inf")}, trials)
    assert (tmp_path / "summary.json").read_text() == before
    assert len(list(tmp_path.iterdir())) == 3


def test_the_terminal_shows_every_point() -> None:
    """The table in the terminal has a line per point, fits 80 columns, and marks what is to be marked."""
    text = terminal(summarise([*study(workers=(0, 1, 2)), *study(workers=(4,), served=3)]))
    lines = [line.split() for line in text.splitlines()]
    assert [line[0] for line in lines[:5]] == ["Workers", "sequential", "1", "2", "4"]
    assert lines[3][:6] == ["2", "4.06", "s", "2.00x", "1.94-2.06", "100"]
    assert "recommended" in text
    assert "oversubscribed" in text
    assert "cluster served 3" in text


def test_both_modes_have_their_lines_in_the_terminal() -> None:
    """Where two modes were measured each line of the table has its mode, and the better one is marked."""
    summary = summarise(both_modes(), mode="processes and threads")
    lines = terminal(summary).splitlines()
    assert [" ".join(line.split()[:2]) for line in lines[2:4]] == ["1 processes", "1 threads"]
    assert next(line for line in lines if "recommended" in line).split()[:2] == ["4", "threads"]
    assert max(map(len, lines)) <= 80


def test_heavy_libraries_are_loaded_when_they_are_needed() -> None:
    """Importing the study's modules loads neither ray nor numpy, scipy, matplotlib, jinja2, rich or pydantic."""
    program = (
        "import sys, dfz_ray.scaling.report, dfz_ray.scaling.summary, dfz_ray.scaling.host;"
        "print(sorted({'ray', 'numpy', 'scipy', 'matplotlib', 'jinja2', 'rich', 'pydantic'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, check=True).stdout == b"[]\n"
