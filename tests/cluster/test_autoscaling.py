"""What Ray's autoscaler hears of a run: on a cluster whose nodes are processes that Ray starts and ends by itself."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.driver import wait_until
from support.local_cluster import BIN, LocalCluster

from dfz_ray.journal.reader import JournalReader, PoolChangeRow
from dfz_ray.journal.run_audit import audit_run

CONFIG: dict[str, Any] = {
    "cluster_name": "fake",
    "max_workers": 3,
    "upscaling_speed": 1.0,
    "idle_timeout_minutes": 60,
    **{key: {} for key in ("auth", "docker", "file_mounts")},
    **{key: [] for key in ("cluster_synced_files", "rsync_exclude", "rsync_filter", "initialization_commands")},
    **{key: [] for key in ("setup_commands", "head_setup_commands", "worker_setup_commands")},
    **{key: [] for key in ("head_start_ray_commands", "worker_start_ray_commands")},
    "file_mounts_sync_continuously": False,
    "head_node_type": "head",
    "available_node_types": {
        "head": {"resources": {"CPU": 1}, "node_config": {}, "max_workers": 0},
        "small": {"resources": {"CPU": 1}, "node_config": {}, "min_workers": 0, "max_workers": 3},
    },
}
NAP = """
import time
from dfz_ray import domain

@domain("nap")
def nap(*, seed: int):
    time.sleep(0.02)
    return seed
"""
READ_REQUEST = """
import sys
import ray
from ray._private.ray_constants import AUTOSCALER_RESOURCE_REQUEST_CHANNEL
from ray.experimental.internal_kv import _internal_kv_get

ray.init(sys.argv[1], log_to_driver=False, logging_level="ERROR")
print((_internal_kv_get(AUTOSCALER_RESOURCE_REQUEST_CHANNEL) or b"[]").decode())
"""
"""What Ray itself has noted of the last request."""


@pytest.fixture
def growing_cluster() -> Iterator[LocalCluster]:
    """A head of one CPU, to which Ray adds up to three nodes."""
    cluster = LocalCluster()
    cluster.environment |= {"AUTOSCALER_UPDATE_INTERVAL_S": "1", "RAY_FAKE_CLUSTER": "1"}
    try:
        cluster.start_autoscaling_head(CONFIG)
        yield cluster
    finally:
        cluster.close()


def read_request(cluster: LocalCluster) -> list[dict[str, float]]:
    command = [sys.executable, "-c", READ_REQUEST, cluster.address]
    done = subprocess.run(command, env=cluster.environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    told: list[dict[str, float]] = json.loads(done.stdout.splitlines()[-1])
    return told


def changes_of(folder: Path) -> list[PoolChangeRow]:
    if not (folder / "run.sqlite").exists():
        return []
    with JournalReader(folder) as journal:
        return journal.pool_changes()


def has_grown(folder: Path) -> bool:
    slots = [change.slots for change in changes_of(folder)]
    return any(count > slots[0] for count in slots)


@pytest.mark.long
def test_a_pool_gets_nodes_and_lets_them_go(growing_cluster: LocalCluster, tmp_path: Path) -> None:
    """A run with max_workers auto gets nodes for what waits, uses them as they come, and in the end asks for none."""
    (tmp_path / "naps.py").write_text(NAP)
    (tmp_path / "batch.json").write_text(json.dumps({"generate": [{"domain": "nap", "count": 100_000}]}))
    options = ["--import", "naps.py", "--address", growing_cluster.address, "--max-workers", "auto"]
    command = [str(BIN / "dfz"), "run", "batch.json", "--run-dir", "run", *options]
    process = subprocess.Popen(
        command, cwd=tmp_path, env=growing_cluster.environment, stderr=subprocess.PIPE, text=True
    )
    folder = tmp_path / "run"
    try:
        wait_until(lambda: has_grown(folder), "the pool has grown", deadline_s=120)
        wait_until(lambda: len(read_request(growing_cluster)) > 1, "nodes are asked for")
        asked_for = read_request(growing_cluster)
        cancelled = subprocess.run(
            [str(BIN / "dfz"), "cancel", "run", "--all"], cwd=tmp_path, env=growing_cluster.environment, timeout=60
        )
        assert cancelled.returncode == 0
        process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()

    assert len(asked_for) >= 2
    assert asked_for == [{"CPU": 1.0}] * len(asked_for)
    assert read_request(growing_cluster) == []
    assert audit_run(folder).ok
