"""The cores that this process may use."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from dfz_ray.driver.cores import cpu_quota, usable_cores

COUNT = (
    "from dfz_ray.driver.cores import usable_cores\n"
    "from dfz_ray.scaling.host import host_facts\n"
    "facts = host_facts()\n"
    "print(usable_cores(), facts['logical_cores'], facts['physical_cores'])"
)


@pytest.fixture
def half_a_cpu() -> Iterator[Path]:
    """A cgroup that has half a CPU."""
    folder = Path(f"/sys/fs/cgroup/cpu/dfz-test-{os.getpid()}")
    try:
        folder.mkdir()
        (folder / "cpu.cfs_period_us").write_text("100000")
        (folder / "cpu.cfs_quota_us").write_text("50000")
    except OSError:
        pytest.skip("cgroups can't be made here")
    yield folder
    folder.rmdir()


def test_a_process_with_a_quota_counts_no_more_cores_than_that(half_a_cpu: Path) -> None:
    """A run and the report of a study count the same cores: those whose time the container may use."""
    join = f"open('{half_a_cpu}/cgroup.procs', 'w').write('0')\n"
    done = subprocess.run([sys.executable, "-c", join + COUNT], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["1", "1", "1"]


@pytest.mark.parametrize(
    ("groups", "files", "expected"),
    [
        ("0::/", {"cpu.max": "250000 100000"}, 2.5),
        ("0::/", {"cpu.max": "max 100000"}, None),
        ("0::/a/b", {"a/b/cpu.max": "max 100000", "a/cpu.max": "100000 100000", "cpu.max": "300000 100000"}, 1.0),
        ("0::/only/outside", {"cpu.max": "400000 100000"}, 4.0),
        ("1:cpu,cpuacct:/a", {"cpu/a/cpu.cfs_quota_us": "150000", "cpu/a/cpu.cfs_period_us": "100000"}, 1.5),
        ("1:cpu:/", {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, None),
        ("2:memory:/\n0::/", {}, None),
        ("0::/../..", {}, None),
    ],
)
def test_the_quota_is_that_of_the_narrowest_group(
    tmp_path: Path, groups: str, files: dict[str, str], expected: float | None
) -> None:
    """The quota is found in both versions of cgroups, at the process's own group and at those above it."""
    for name, content in {
        "proc/self/cgroup": groups,
        **{f"sys/fs/cgroup/{name}": files[name] for name in files},
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)

    assert cpu_quota(tmp_path) == expected


def test_a_slurm_job_has_its_own_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    """A job that was given one core of a node uses one."""
    monkeypatch.setenv("SLURM_CPUS_ON_NODE", "1")
    assert usable_cores() == 1
