"""What happens to a run when a node's memory is used up: Ray's memory monitor kills a worker."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import psutil
import pytest
from support.attempt_rows import assert_sound, charged_tasks, workers_lost
from support.local_cluster import BIN

from dfz_ray.journal.reader import JournalReader

GIB = 2**30
WORK = """
import time
from dfz_ray import domain

@domain("hog")
def hog(gib: int = 0):
    held = []
    for _ in range(8 * gib):
        held.append(b"x" * 2**27)
        time.sleep(0.02)
    time.sleep(60 if gib else 0)
"""


@pytest.mark.long
def test_a_task_that_uses_the_memory_up_is_charged_and_none_of_its_mates(tmp_path: Path) -> None:
    """The task whose worker Ray's memory monitor kills fails with `out_of_memory`; the others of its chunk complete."""
    memory = psutil.virtual_memory()
    if memory.available < 10 * GIB:
        pytest.skip("there is too little memory here to use some of it up")
    # Ray's limit is the whole machine's. Ray kills the newest workers until a twentieth of the memory is free again, so
    # that the task must hold more than that: else others, and the manager, would go with it.
    limit = (memory.total - memory.available + max(3 * GIB, 0.1 * memory.total)) / memory.total
    environment = {
        **os.environ,
        "RAY_memory_usage_threshold": f"{limit:.3f}",
        "RAY_memory_monitor_refresh_ms": "50",
    }
    tasks = [{"domain": "hog", "policy": {"max_attempts": 1}} for _ in range(200)]
    tasks[70] |= {"id": "hog", "parameters": {"gib": 8}}
    (tmp_path / "work.py").write_text(WORK)
    (tmp_path / "batch.json").write_text(json.dumps({"tasks": tasks}))
    command = [BIN / "dfz", "run", "batch.json", "--import", "work.py", "--address", "local", "--run-dir", "run"]
    done = subprocess.run(
        [*command, "--max-workers", "1"], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 1, done.stderr
    with JournalReader(tmp_path / "run") as journal:
        failed = [record for record in journal.records() if record.status != "completed"]
    assert [record.task_id for record in failed] == ["hog"]
    assert failed[0].error is not None
    assert failed[0].error.reason == "out_of_memory"
    assert failed[0].error.message == "the worker was killed because its node ran out of memory"
    assert charged_tasks(tmp_path / "run") == ["hog"]
    assert workers_lost(tmp_path / "run") == 1
    assert_sound(tmp_path / "run")
