"""A node that lacks a module which the tasks need."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
from support.local_cluster import BIN, LocalCluster

WORK = """
import rare
from dfz_ray import domain

@domain("rarely")
def rarely() -> float:
    return rare.VALUE
"""


@pytest.mark.long
@pytest.mark.parametrize("workers", [1, 4])
def test_tasks_run_where_their_module_is(tmp_path: Path, workers: int) -> None:
    """Where one of two nodes has a module, all tasks complete there, also if the other node is tried first."""
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules/rare.py").write_text("VALUE = 1.5")
    (tmp_path / "work.py").write_text(WORK)
    (tmp_path / "batch.json").write_text(json.dumps({"tasks": [{"domain": "rarely"}] * 500}))
    path = os.pathsep.join([str(tmp_path / "modules"), os.environ.get("PYTHONPATH", "")])
    cluster = LocalCluster()
    try:
        cluster.start_head(cpus=2)
        cluster.start_node(modules=str(tmp_path / "modules"))
        command = [str(BIN / "dfz"), "run", "batch.json", "--import", "work.py", "--address", cluster.address, "--json"]
        done = subprocess.run(
            [*command, "--max-workers", str(workers)],
            cwd=tmp_path,
            env={**cluster.environment, "PYTHONPATH": path},
            capture_output=True,
            text=True,
            timeout=120,
        )
    finally:
        cluster.close()
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["counts"]["completed"] == 500
