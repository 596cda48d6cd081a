"""`dfz plan`, on an embedded Ray."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.long
@pytest.mark.parametrize(("cpus", "code"), [(1, 0), (4096, 3)])
def test_a_batch_is_planned_before_it_runs(cpus: int, code: int, tmp_path: Path) -> None:
    """A plan has times and costs if every kind of task fits the cluster; else the exit code is 3, with the reason."""
    (tmp_path / "batch.yaml").write_text(
        "generate:\n"
        "- {domain: maze, count: 30}\n"
        f"- {{domain: maze, count: 3, resources: {{cpus: {cpus}}}, parameters: {{size_x: 20, size_y: 20}}}}\n"
    )
    (tmp_path / "settings.yaml").write_text("max_workers: 1\n")
    command = [sys.executable, "-m", "dfz_ray", "plan", "batch.yaml", "--address", "local", "--price", "2", "--json"]
    command += ["--config", "settings.yaml"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=240)
    assert done.returncode == code, done.stderr
    plan = json.loads(done.stdout)
    assert plan["feasible"] is (code == 0)
    assert sum(kind["count"] for kind in plan["kinds"]) == 33
    if code:
        assert "can never run: 3 tasks: needs 4096 CPUs" in done.stderr
    else:
        least, most = plan["core_hours"]
        assert 0 < least <= most
        assert plan["workers"] == 1  # of the configuration
        assert plan["price"] == pytest.approx([2 * least, 2 * most])
    assert not (tmp_path / "runs").exists()
