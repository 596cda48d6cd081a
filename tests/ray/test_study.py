"""A scaling study from its command line to its files, and a cluster that `ray start` made."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dfz_ray.scaling.measured_batch import read_measured
from dfz_ray.scaling.prediction import forecast

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
MINE = """
import time
from dfz_ray import domain

@domain("mine")
def mine(nap_s: float = 0.0, *, seed: int):
    print("a word on stdout")
    time.sleep(nap_s)
    if seed % 2 == 0:
        raise RuntimeError("no")
    return {"seed": seed}
"""


def scale(*arguments: str, cwd: Path, timeout: float = 240) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "benchmarks/scale.py"), *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=timeout)


def read_summary(folder: Path) -> dict[str, Any]:
    summary: dict[str, Any] = json.loads((folder / "summary.json").read_text())
    return summary


def test_a_study_measures_every_point_and_writes_its_files(tmp_path: Path) -> None:
    """A study leaves six files; every point has the digest of the sequential program; losses add up to its time;
    and other numbers of workers can be predicted from it."""
    done = scale(
        *("--domain", "maze", "--count", "20", "--scaling-test", "--max-workers", "1,2", "--repeats", "4"),
        *("--address", "local", "--output", "study"),
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "study"
    assert {path.name for path in folder.iterdir()} == {
        "plan.json",
        "summary.json",
        "measurements.jsonl",
        "scaling.png",
        "scaling.svg",
        "report.html",
    }
    summary = read_summary(folder)
    lines = [json.loads(line) for line in (folder / "measurements.jsonl").read_text().splitlines()]
    assert summary["batch"]["domains"] == ["maze"]
    assert [point["workers"] for point in summary["points"]] == [1, 2]
    assert {point["digest"] for point in summary["points"]} == {summary["batch"]["digest"]}
    for point in summary["points"]:
        assert point["success_rate"] == 1
        assert point["served"] == point["workers"]
        assert point["max_concurrency"] <= point["workers"]
        walls = sorted(line["wall_s"] for line in lines if line["workers"] == point["workers"])
        assert sum(point["losses"]["slot_s"].values()) == pytest.approx(point["workers"] * walls[1], rel=1e-6)
        assert point["losses"]["slot_s"]["useful"] > 0
        low, high = point["speedup_ci95"]
        assert low <= point["speedup"] <= high
    assert summary["recommendation"]["reason"].replace("\n", " ")[:20] in done.stdout.replace("\n", " ")
    assert sorted(line["order"] for line in lines) == list(range(12))
    assert sorted(line["workers"] for line in lines) == [0] * 4 + [1] * 4 + [2] * 4
    assert all(line["workers_lost"] == 0 for line in lines if line["workers"])
    for line in lines:
        assert sum(kind["tasks"] for kind in line["timeline"]["task_s"]) == 20
        assert line["timeline"]["slots"] <= max(line["workers"], 1)
        assert line["timeline"]["ended_s"] <= line["wall_s"]
    report = (folder / "report.html").read_text()
    assert "Timeline with 2 workers" in report
    for profile in (line["profile"] for line in lines if line["workers"]):
        assert sum(count for kind in profile["kinds"] for count, _, _ in kind["groups"]) == 20
        assert profile["manager"][1] >= profile["chunks"]
    measured = read_measured([folder])
    found = forecast(measured.trials, [1, 2, 8], trial_cores=measured.cores or 1)
    assert [one.workers for one in found.held_out] == [2]
    assert all(one.makespan_s > 0 for one in found.predictions)


@pytest.mark.long
def test_a_study_of_users_own_domain_whose_tasks_fail(tmp_path: Path) -> None:
    """A domain from --import is measured in both programs; where tasks fail the study says so with exit code 1."""
    (tmp_path / "mine.py").write_text(MINE)
    done = scale(
        *("--domain", "mine", "--import", "mine.py", "--count", "40", "--workers", "2", "--repeats", "1"),
        *("--address", "local", "--output", "study"),
        cwd=tmp_path,
    )
    assert done.returncode == 1, done.stderr
    (point,) = read_summary(tmp_path / "study")["points"]
    assert 0 < point["success_rate"] < 1
    assert point["digest"] == read_summary(tmp_path / "study")["batch"]["digest"]


@pytest.mark.long
def test_the_time_of_tasks_that_fail_is_time_in_tasks(tmp_path: Path) -> None:
    """Workers that execute tasks which fail work, as the sequential program does; attempts before the last are vain."""
    (tmp_path / "mine.py").write_text(MINE)
    tasks = [{"domain": "mine", "seed": seed, "parameters": {"nap_s": 0.2}} for seed in range(20)]
    again = {"policy": {"max_attempts": 2, "retry_on": ["exception"]}}
    for name, batch, vain_s in (("once", {"tasks": tasks}, 0.0), ("twice", {"tasks": tasks, "defaults": again}, 2.0)):
        (tmp_path / f"{name}.json").write_text(json.dumps(batch))
        scale(
            *("--batch", f"{name}.json", "--import", "mine.py", "--workers", "2", "--repeats", "1"),
            *("--address", "local", "--output", name),
            cwd=tmp_path,
        )
        baseline, point = map(json.loads, sorted((tmp_path / name / "measurements.jsonl").read_text().splitlines()))
        assert baseline["workers"] == 0
        assert point["split"]["in_tasks"] == pytest.approx(4.0, rel=0.1)
        assert point["split"]["vain_attempts"] == pytest.approx(vain_s, rel=0.1)
        assert point["busy_s"] == pytest.approx(baseline["busy_s"], rel=0.1)
        assert sum(point["split"].values()) == pytest.approx(2 * point["wall_s"], rel=1e-6)
        assert point["wall_s"] >= point["busiest_s"] >= (4.0 + vain_s) / 2.3


@pytest.mark.long
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_study_that_was_interrupted_goes_on(number: int, tmp_path: Path) -> None:
    """A study that is interrupted, or killed, keeps every trial that had ended, and goes on with the same plan."""
    command = [sys.executable, str(ROOT / "benchmarks/scale.py"), "--domain", "maze", "--count", "40"]
    process = subprocess.Popen(
        [*command, "--workers", "2", "--repeats", "6", "--address", "local", "--output", "study"],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("3/"):
            break
    os.killpg(process.pid, number)
    _, stderr = process.communicate(timeout=300)
    kept = (tmp_path / "study/measurements.jsonl").read_text().splitlines()
    assert 3 <= len(kept) < 12
    if number == signal.SIGINT:
        assert process.returncode == 130
        assert "dfz scale --resume study" in stderr
        assert "dfz resume" not in stderr  # the run of the trial that was cut short is nothing to go on with
        assert (tmp_path / "study/report.html").is_file()
    done = scale("--resume", "study", "--address", "local", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    lines = (tmp_path / "study/measurements.jsonl").read_text().splitlines()
    assert lines[: len(kept)] == kept
    assert sorted((json.loads(line)["workers"], json.loads(line)["repeat"]) for line in lines) == [
        (workers, repeat) for workers in (0, 2) for repeat in range(6)
    ]


@pytest.fixture
def head() -> Iterator[None]:
    """A cluster as `ray start` makes it; --block keeps it a child of this process, so that only it is ended."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [str(BIN / "ray"), "start", "--head", f"--port={port}", "--num-cpus=2", "--block"]
    options = ["--include-dashboard=false", "--disable-usage-stats"]
    process = subprocess.Popen([*command, *options], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        if "Ray runtime started" in line:
            break
    yield
    process.terminate()
    process.communicate(timeout=300)


@pytest.mark.usefixtures("head")
@pytest.mark.long
def test_a_study_on_a_cluster_that_was_started_before(tmp_path: Path) -> None:
    """With `--address auto` a study uses the Ray that `ray start --head` made, and marks points beyond its slots."""
    done = scale(
        *("--domain", "quantum", "--count", "20", "--scaling-test", "--max-workers", "1,2,4", "--repeats", "1"),
        *("--address", "auto", "--output", "study"),
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    summary = read_summary(tmp_path / "study")
    assert [point["served"] for point in summary["points"]] == [1, 2, 2]
    assert summary["digests_equal"]


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("ray://127.0.0.1:10001", "ray job submit"),
        ("127.0.0.1:1", "no Ray answers at '127.0.0.1:1'"),
        ("nonsense", "'nonsense' is no address"),
    ],
)
def test_an_address_without_a_ray_is_told(address: str, words: str, tmp_path: Path) -> None:
    """An address at which no Ray can be used gives one clear line and exit code 2."""
    batch = tmp_path / "batch.yaml"
    batch.write_text("tasks: [{domain: maze}]")
    done = subprocess.run(
        [str(BIN / "dfz"), "run", str(batch), "--address", address],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 2
    assert words in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.long
def test_a_study_compares_threads_with_processes(tmp_path: Path) -> None:
    """With both flags a study measures both modes, interleaved; work that waits is as fast on threads of two cores."""
    (tmp_path / "nap.py").write_text(
        "import time\nfrom dfz_ray import domain\n\n"
        "@domain('nap')\n"
        "def nap(*, seed: int):\n"
        "    time.sleep(0.02)\n"
        "    return seed\n"
    )
    done = scale(
        *("--domain", "nap", "--import", "nap.py", "--count", "120", "--scaling-test", "--max-workers", "2,8"),
        *("--use-threads", "--use-processes", "--repeats", "2", "--address", "local", "--output", "study"),
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    summary = read_summary(tmp_path / "study")
    assert summary["mode"] == "processes and threads"
    points = {(point["workers"], point["mode"]): point for point in summary["points"]}
    assert points.keys() == {(number, mode) for number in (2, 8) for mode in ("processes", "threads")}
    assert {point["digest"] for point in points.values()} == {summary["batch"]["digest"]}
    assert points[8, "threads"]["max_concurrency"] == 8
    assert points[8, "threads"]["served"] == 8
    assert points[8, "threads"]["speedup"] > 3
    assert "8 threads" in done.stdout


@pytest.mark.long
def test_a_study_of_threads_alone_says_so(tmp_path: Path) -> None:
    """With --use-threads alone a study has that mode, and the form of any other."""
    done = scale(
        *("--domain", "maze", "--count", "20", "--workers", "4", "--use-threads", "--repeats", "1"),
        *("--address", "local", "--output", "study"),
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    summary = read_summary(tmp_path / "study")
    assert summary["mode"] == "threads"
    (point,) = summary["points"]
    assert (point["workers"], point["mode"], point["success_rate"]) == (4, "threads", 1)
    assert list(summary["recommendation"])[:2] == ["workers", "reason"]
