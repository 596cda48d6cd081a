"""What a study leaves behind: summary.json, scaling.png, report.html, and the table in the terminal."""

from __future__ import annotations

import dataclasses
import io
import json
import os
import random
import shutil
import struct
import subprocess
import sys
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from dfz_ray.scaling.host import host_facts
from dfz_ray.scaling.measurement import Measurement
from dfz_ray.scaling.report import points_table, write_study
from dfz_ray.scaling.summary import build_summary

DIGEST = "ab" * 32
HOSTILE = "<script>alert('$x_{')</script>\n&\"\ud800" + "x" * 200


def trial(workers: int, repeat: int = 0, order: int = 0, **changes: Any) -> Measurement:
    values: dict[str, Any] = {
        "kind": "point" if workers else "baseline",
        "workers": workers,
        "repeat": repeat,
        "order": order,
        "wall_s": (1 + 0.01 * repeat) * 8.0 / max(workers, 1),
        "warm_up_s": 1.0 if workers else None,
        "tasks": 40,
        "completed": 40,
        "failed": 0,
        "cancelled": 0,
        "digest": DIGEST,
        "avg_concurrency": 0.9 * max(workers, 1),
        "max_concurrency": max(workers, 1),
        "busy_s": 7.5,
        "served": workers or None,
        "started_at": 1.75e9 + order,
    }
    return Measurement(**(values | changes))


def study(workers: Sequence[int] = (0, 1, 2, 4), repeats: int = 3, **changes: Any) -> list[Measurement]:
    """All trials of a study that scales perfectly, in random order."""
    cells = [(n, repeat) for n in workers for repeat in range(repeats)]
    random.Random(1).shuffle(cells)  # noqa: S311  an order, not a secret
    return [trial(n, repeat, order, **changes) for order, (n, repeat) in enumerate(cells)]


def summarise(measurements: Sequence[Measurement], **changes: Any) -> dict[str, Any]:
    values: dict[str, Any] = {
        "host": {"hostname": "here", "versions": {"ray": "2.40"}},
        "batch": {"domains": ["maze", "quantum"], "count": 40},
        "mode": "processes",
        "physical_cores": 2,
        "cpus_per_task": 1.0,
    }
    return build_summary(measurements=measurements, **(values | changes))


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


def test_the_summary_has_the_promised_keys_in_the_promised_order() -> None:
    """Scripts find every promised key of summary.json, in order, with what was not measured as null."""
    summary = json.loads(json.dumps(summarise(study()), allow_nan=False))
    promised = ["schema_version", "host", "batch", "mode", "baseline", "points", "fits", "recommendation"]
    assert list(summary)[: len(promised)] == promised
    assert summary["schema_version"] == 1
    assert summary["batch"] == {"domains": ["maze", "quantum"], "count": 40, "digest": DIGEST}
    assert list(summary["baseline"])[:3] == ["wall_s", "wall_s_ci95", "repeats"]
    assert summary["fits"] == {"amdahl": None, "usl": None}
    assert list(summary["recommendation"]) == ["workers", "reason"]
    keys = ["workers", "wall_s", "wall_s_ci95", "speedup", "speedup_ci95", "efficiency", "tasks_per_s"]
    keys += ["avg_concurrency", "max_concurrency", "success_rate", "digest", "served", "oversubscribed", "losses"]
    for point in summary["points"]:
        assert list(point)[: len(keys)] == keys
        assert point["losses"] is None
        low, high = point["speedup_ci95"]
        assert low <= point["speedup"] <= high


def test_the_summary_says_what_was_measured() -> None:
    """Times, speedups, rates and marks of a study with known times are the known ones."""
    summary = summarise(study())
    assert summary["baseline"]["wall_s"] == pytest.approx(8.08)
    assert summary["baseline"]["repeats"] == 3
    assert [point["workers"] for point in summary["points"]] == [1, 2, 4]
    assert [point["speedup"] for point in summary["points"]] == pytest.approx([1, 2, 4])
    assert [point["efficiency"] for point in summary["points"]] == pytest.approx([1, 1, 1])
    assert [point["tasks_per_s"] for point in summary["points"]] == pytest.approx([40 / 8.08 * n for n in (1, 2, 4)])
    assert [point["oversubscribed"] for point in summary["points"]] == [False, False, True]
    assert summary["recommendation"]["workers"] == 4
    assert summary["digests_equal"] is True
    assert summary["created"] == "2025-06-15T15:06:40+00:00"


def test_the_order_of_the_trials_changes_nothing() -> None:
    """A summary depends on the trials, not on the order in which they are handed over."""
    trials = study()
    assert summarise(trials) == summarise(trials[::-1])


def test_without_a_baseline_there_is_no_speedup() -> None:
    """A study without the sequential program has null for every speedup and efficiency."""
    summary = summarise(study(workers=(4,)))
    (point,) = summary["points"]
    assert summary["baseline"]["wall_s"] is None
    assert summary["baseline"]["repeats"] == 0
    assert point["speedup"] is point["speedup_ci95"] is point["efficiency"] is None
    assert point["wall_s"] == pytest.approx(2.02)
    assert summary["batch"]["digest"] == DIGEST


def test_failed_trials_are_told_and_do_not_count() -> None:
    """A trial that failed as a whole is listed with its error, and its time is in no median."""
    trials = [*study(), trial(2, 3, 12, wall_s=0.1, completed=0, digest=None, error="node lost")]
    point = summarise(trials)["points"][1]
    assert point["errors"] == ["node lost"]
    assert point["repeats"] == 3
    assert point["wall_s"] == pytest.approx(4.04)
    assert point["success_rate"] == 1.0


def test_a_point_at_which_every_trial_failed_is_null() -> None:
    """Where nothing came to its end the point stays in the summary, with nulls."""
    trials = [*study(workers=(0, 2)), *study(workers=(4,), error="lost", digest=None, completed=0)]
    point = summarise(trials)["points"][1]
    assert point["workers"] == 4
    assert point["errors"] == ["lost"] * 3
    for key in ("wall_s", "wall_s_ci95", "speedup", "efficiency", "tasks_per_s", "success_rate", "digest"):
        assert point[key] is None


def test_no_completed_task_is_no_speedup() -> None:
    """A point at which every task failed quickly is not called fast."""
    summary = summarise([*study(workers=(0,)), *study(workers=(2,), wall_s=0.01, completed=0, failed=40)])
    (point,) = summary["points"]
    assert point["speedup"] is None
    assert point["tasks_per_s"] == 0
    assert point["success_rate"] == 0
    assert summary["recommendation"]["workers"] == 0


def test_digests_that_differ_are_told_apart() -> None:
    """Other answers at one point leave the batch's digest; other answers between repeats leave none."""
    changed = summarise([*study(workers=(0, 1)), *study(workers=(2,), digest="cd" * 32)])
    assert changed["batch"]["digest"] == DIGEST
    assert changed["digests_equal"] is False
    assert changed["points"][1]["digest"] == "cd" * 32
    unstable = summarise([*study(), trial(2, 3, 12, digest="cd" * 32)])
    assert unstable["batch"]["digest"] is None
    assert unstable["digests_equal"] is False
    assert unstable["points"][1]["digest"] is None
    assert unstable["recommendation"]["reason"].startswith("WARNING")
    assert summarise([trial(2)])["digests_equal"] is None


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


def both_modes(repeats: int = 3) -> list[Measurement]:
    """A study in which threads are twice as fast as processes."""
    alone = study(workers=(0, 1, 2, 4), repeats=repeats)
    shared = [dataclasses.replace(one, mode="threads", wall_s=one.wall_s / 2) for one in alone if one.workers]
    return [dataclasses.replace(one, mode="processes" if one.workers else None) for one in alone] + shared


def test_both_modes_are_told_apart() -> None:
    """Where two modes were measured each has its points, and the better one of them is recommended, with its mode."""
    summary = summarise(both_modes(), mode="processes and threads")

    points = [(point["workers"], point["mode"]) for point in summary["points"]]
    assert points == [(number, mode) for number in (1, 2, 4) for mode in ("processes", "threads")]
    assert [point["speedup"] for point in summary["points"]] == pytest.approx([1, 2, 2, 4, 4, 8])
    recommended = summary["recommendation"]
    assert (recommended["workers"], recommended["mode"]) == (4, "threads")
    assert recommended["reason"].startswith("with threads: use 4 workers")
    assert "with processes: 50 % of that throughput" in recommended["reason"]
    lines = terminal(summary).splitlines()
    assert [" ".join(line.split()[:2]) for line in lines[2:4]] == ["1 processes", "1 threads"]
    assert next(line for line in lines if "recommended" in line).split()[:2] == ["4", "threads"]
    assert max(map(len, lines)) <= 80


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
    assert "1 of 4" in terminal(summary)


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
    assert lines[3][:6] == ["2", "4.04", "s", "2.00x", "1.96-2.04", "100"]
    assert "recommended" in text
    assert "oversubscribed" in text
    assert "cluster served 3" in text


def test_the_host_is_described() -> None:
    """The facts of a host are plain values: cores that may be used, versions, thread settings."""
    facts = host_facts()
    assert json.loads(json.dumps(facts, allow_nan=False)) == facts
    assert 1 <= facts["physical_cores"] <= facts["logical_cores"] <= (os.cpu_count() or 1)
    assert facts["memory_bytes"] > 0
    assert facts["versions"]["numpy"]
    assert "OMP_NUM_THREADS" in facts["thread_settings"]


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system has no CPU affinity")
def test_only_cores_that_may_be_used_are_counted() -> None:
    """A process that is pinned to one CPU has one core, whatever the machine has."""
    program = (
        "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))});"
        "from dfz_ray.scaling.host import host_facts; f = host_facts();"
        "print(f['physical_cores'], f['logical_cores'])"
    )
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, check=True).stdout.split() == [b"1"] * 2


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
def test_the_commit_tells_of_changes(tmp_path: Path) -> None:
    """The commit of the working directory is told, with a mark where files were changed since; no git is no commit."""

    def git(*arguments: str) -> str:
        identity = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false"]
        command = ["git", "-C", str(tmp_path), *identity, *arguments]
        return subprocess.run(command, capture_output=True, check=True, text=True).stdout.strip()

    assert host_facts(tmp_path)["commit"] is None
    git("init")
    (tmp_path / "file").write_text("1")
    git("add", "file")
    git("commit", "-m", "first")
    assert host_facts(tmp_path)["commit"] == git("rev-parse", "HEAD")
    (tmp_path / "file").write_text("2")
    assert host_facts(tmp_path)["commit"] == git("rev-parse", "HEAD") + "-dirty"


def test_heavy_libraries_are_loaded_when_they_are_needed() -> None:
    """Importing the study's modules loads neither ray nor numpy, scipy, matplotlib, jinja2, rich or pydantic."""
    program = (
        "import sys, dfz_ray.scaling.report, dfz_ray.scaling.summary, dfz_ray.scaling.host;"
        "print(sorted({'ray', 'numpy', 'scipy', 'matplotlib', 'jinja2', 'rich', 'pydantic'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, check=True).stdout == b"[]\n"
