"""The facts about the host of a study."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from dfz_ray.scaling.host import host_facts


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
    """The commit of a checkout is noted, with a mark if files were changed since; without git there is no commit."""

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
    changed = host_facts(tmp_path)["commit"]
    assert changed.startswith(git("rev-parse", "HEAD") + "-dirty-")
    assert host_facts(tmp_path)["commit"] == changed
    (tmp_path / "file").write_text("3")
    assert host_facts(tmp_path)["commit"] not in (changed, git("rev-parse", "HEAD"))  # other edits are other code
    git("add", "file")
    (tmp_path / "file").write_text("2")
    assert host_facts(tmp_path)["commit"] == changed
