"""Scripts as the old module's users wrote them, with only the import line changed, each in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
import ray

ROOT = Path(__file__).parents[2]
SCRIPTS = ROOT / "tests/support/old_scripts"
COLD_START_S = 10.0

SAID = {
    "basic_usage": ["Task task_1: completed", "Task task_2: completed"],
    "one_task": ["foreground success True True", "future success True", "unknown unknown"],
    "mixed_batch": ["failed: too_large True", "13 of 14 successful"],
    "polling": ["0 10 0 True {'completed'}", "1 10 0 True {'completed'}"],
    "metrics": [
        *("Before", "  Total tasks: 0", "  Successful: 0, failed: 0"),
        *("  Success rate: 0.0%, failure rate: 0.00", "  In order: True, 1"),
        *("Batch", "  Total tasks: 4", "  Successful: 3, failed: 1"),
        *("  Success rate: 75.0%, failure rate: 0.25", "  In order: True, 1"),
        *("All", "  Total tasks: 7", "  Successful: 6, failed: 1"),
        *("  Success rate: 85.7%, failure rate: 0.14", "  In order: True, 1"),
    ],
    "sequential_and_batch": [
        *(f"{workers} workers: 20 of 20, same scores: True" for workers in (1, 2, 4)),
        "plotted True",
    ],
    "task_functions": [
        *("t0 1 True", "t1 11 True", "t2 21 True", "t4 41 True"),
        "t3 failed ValueError: t3 is not wanted",
        "raised t3 is not wanted",
        "plugin success True",
        "6 0.83",
    ],
    "plugin_hooks": [
        "ctm_az ['intent_detection', 'post_message_process', 'pre_message_process', 'task_generation']",
        "quantum",
        "['completed', 'completed', 'completed']",
        "Maze task 1 of 3",
        "{'content': 'hello'} hi 3",
    ],
}
"""The output of each script."""
IN_ANY_ORDER = ("task_functions",)


def run_script(
    name: str, *arguments: str, address: str = "local", temporary: str | None = None
) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "RAY_ADDRESS": address}  # whatever Ray may have been left on this machine
    if temporary is not None:
        environment["TMPDIR"] = temporary
    return subprocess.run(
        [sys.executable, "-W", "error", str(SCRIPTS / f"{name}.py"), *arguments],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=280,
    )


SHORT = ("one_task",)
"""The scripts that `make test` runs."""


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[] if name in SHORT else pytest.mark.long) for name in SAID if name != "basic_usage"],
)
def test_a_script_of_the_old_module_runs(name: str, cluster: None, tmp_path: Path) -> None:
    """A script runs with only its imports changed: nothing is warned of, and no folder of a run is left."""
    with tempfile.TemporaryDirectory(prefix="t", dir="/tmp") as temporary:  # Ray's paths must be short
        address = ray.get_runtime_context().gcs_address
        done = run_script(name, str(tmp_path), address=address, temporary=temporary)
        left = [path.name for path in Path(temporary).iterdir() if path.name.startswith("dfz-")]
    assert done.stderr == ""
    said = done.stdout.splitlines()
    assert (
        (sorted(said), sorted(SAID[name])) == (sorted(SAID[name]),) * 2 if name in IN_ANY_ORDER else said == SAID[name]
    )
    assert done.returncode == 0
    assert left == []


def test_every_script_is_run() -> None:
    """Each script of the folder is run."""
    assert {path.stem for path in SCRIPTS.glob("*.py")} == set(SAID)


@pytest.mark.long
def test_basic_usage_takes_ten_seconds_at_most() -> None:
    """The seed document's first example ends within ten seconds from a cold start on two cores.

    Where other processes use the cores, it may take as many times longer as there are processes for each core.
    """
    before, began = os.getloadavg()[0], time.monotonic()
    done = run_script("basic_usage")
    took_s = time.monotonic() - began
    busy = max(1.0, (before + 1) / (os.cpu_count() or 1), os.getloadavg()[0] / (os.cpu_count() or 1))
    assert (done.stdout.splitlines(), done.stderr) == (SAID["basic_usage"], "")
    assert took_s < COLD_START_S * busy
