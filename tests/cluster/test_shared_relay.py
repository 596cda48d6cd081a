"""Nodes that have few workers each, on a real cluster: they share a relay."""

from __future__ import annotations

import contextlib
import json
import subprocess
from pathlib import Path

import psutil
import pytest
from support.attempt_rows import assert_sound, read_attempts, workers_lost
from support.driver import completed, wait_until
from support.local_cluster import BIN, LocalCluster

NAP = """
import os, time
from pathlib import Path
from dfz_ray import domain

@domain("nap")
def nap(door: str, waits: bool, *, seed: int):
    time.sleep(0.02)
    while waits and Path(door).exists():
        time.sleep(0.02)
"""
TASKS, SLOTS, LEAST = 400, 4, 3
"""A relay is for three leases or more, and each of the two nodes has two."""


def find_relays(cluster: LocalCluster) -> list[psutil.Process]:
    """The relays of a cluster."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            is_relay = any(word.startswith("ray::Relay") for word in process.cmdline()[:1])
            if is_relay and process.environ().get("RAY_TMPDIR") == str(cluster.folder):
                found.append(process)
    return found


@pytest.mark.long
def test_two_nodes_lose_the_relay_that_they_share(local_cluster: LocalCluster, tmp_path: Path) -> None:
    """There is one for both; as it is killed under load, every task completes in its first attempt."""
    local_cluster.start_node()
    door = tmp_path / "door"
    door.touch()
    parameters = [{"door": str(door), "waits": number >= TASKS - SLOTS} for number in range(TASKS)]
    tasks = [{"domain": "nap", "parameters": one} for one in parameters]
    (tmp_path / "nap.py").write_text(NAP)
    (tmp_path / "batch.json").write_text(json.dumps({"tasks": tasks}))
    (tmp_path / "config.json").write_text(json.dumps({"chunking": {"relay_leases": LEAST, "target_s": 0.04}}))
    options = ["--address", local_cluster.address, "--max-workers", str(SLOTS), "--run-dir", "run"]
    process = subprocess.Popen(
        [BIN / "dfz", "run", "batch.json", "--import", "nap.py", "--config", "config.json", *options],
        cwd=tmp_path,
        env=local_cluster.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        wait_until(lambda: find_relays(local_cluster) or process.poll() is not None, "there is a relay")
        (relay,) = find_relays(local_cluster)
        wait_until(lambda: completed(tmp_path / "run") > SLOTS, "tasks complete")
        relay.kill()
        door.unlink()
        _, stderr = process.communicate(timeout=90)
    finally:
        process.kill()
        process.wait()

    assert process.returncode == 0, stderr
    rows = read_attempts(tmp_path / "run")
    assert [row.outcome for row in rows] == ["completed"] * TASKS
    assert workers_lost(tmp_path / "run") == 0
    assert_sound(tmp_path / "run")
