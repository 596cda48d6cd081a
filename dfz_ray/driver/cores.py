"""The cores that this process may use."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path


def usable_cores() -> int:
    """The number of cores that this process may use, by its affinity, its container's CPU quota and its Slurm job."""
    slurm = os.environ.get("SLURM_CPUS_ON_NODE", "")
    limits = [len(usable_cpus()), cpu_quota(), int(slurm) if slurm.isdecimal() else None]
    return max(1, min(int(limit) for limit in limits if limit is not None))


def usable_cpus() -> set[int]:
    """The logical CPUs that this process may run on."""
    return os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))


def cpu_quota(root: Path = Path("/")) -> float | None:
    """The number of CPUs whose time the cgroups of this process grant; None without a limit.

    `root` is the folder that has `proc` and `sys`.
    """
    granted: list[float] = []
    with contextlib.suppress(OSError):
        for line in (root / "proc/self/cgroup").read_text().splitlines():
            _, controllers, group = line.split(":", 2)
            granted += _quotas(root / "sys/fs/cgroup", controllers.split(","), group)
    return min(granted, default=None)


def _quotas(mount: Path, controllers: list[str], group: str) -> Iterator[float]:
    """The quotas of a cgroup and of all above it, by version 2, which names no controllers, or version 1."""
    if controllers != [""] and "cpu" not in controllers:
        return
    top = mount if controllers == [""] else mount / "cpu"
    at = top / group.lstrip("/")
    for folder in (at, *at.parents) if at.is_relative_to(top) else ():
        # A container may see its own group as the top one, whatever the group is called outside.
        with contextlib.suppress(OSError, ValueError, ZeroDivisionError):  # no such file, or no limit: "max", -1
            if controllers == [""]:
                quota, period = (folder / "cpu.max").read_text().split()
            else:
                quota, period = ((folder / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
            if int(quota) > 0:
                yield int(quota) / int(period)
        if folder == top:
            return
