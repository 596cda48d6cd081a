"""A study on a cluster of several nodes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from support.local_cluster import LocalCluster


@pytest.mark.long
def test_nodes_that_share_a_host_are_measured_and_told(tmp_path: Path) -> None:
    """A sweep over three nodes of one CPU each serves 1, 2 and 3 workers, and says that the nodes share one host."""
    cluster = LocalCluster()
    try:
        cluster.start_head(cpus=1)
        cluster.start_node(cpus=1)
        cluster.start_node(cpus=1)
        command = [sys.executable, "-m", "dfz_ray", "scale", "--domain", "maze", "--count", "20", "--scaling-test"]
        done = subprocess.run(
            [*command, "--max-workers", "1,2,3", "--repeats", "1", "--address", cluster.address, "--output", "study"],
            cwd=tmp_path,
            env=cluster.environment,
            capture_output=True,
            text=True,
            timeout=240,
        )
    finally:
        cluster.close()
    assert done.returncode == 0, done.stderr
    summary = json.loads((tmp_path / "study/summary.json").read_text())
    assert [(point["workers"], point["served"]) for point in summary["points"]] == [(1, 1), (2, 2), (3, 3)]
    (remark,) = summary["remarks"]
    assert remark.startswith("the 3 nodes share one host with ")
    assert remark in summary["recommendation"]["reason"]
    assert summary["physical_cores"] == summary["host"]["physical_cores"]
