"""Facts about the host of a study, without which its numbers mean nothing."""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

from dfz_ray.driver.cores import cpu_quota, usable_cores, usable_cpus

PACKAGES = ("dfz_ray", "ray", "numpy", "scipy", "qiskit", "qiskit-aer", "torch", "torchvision")
THREAD_SETTINGS = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "RAYON_NUM_THREADS",
    "QISKIT_PARALLEL",
)
GIT_S = 5.0
"""Git has so long to answer."""
EDITS_DIGITS = 8
"""The digits of the digest of edits."""


def host_facts(folder: Path | None = None) -> dict[str, Any]:
    """Describe this host for `summary.json`, in plain values; unknown facts are None.

    Only cores that this process may use are counted. The git commit is that of the folder, or else of dfz_ray itself
    where it runs from a checkout.
    """
    import psutil

    return {
        "hostname": platform.node(),
        "platform": platform.platform(),
        "cpu_model": _cpu_model(),
        "physical_cores": min(usable_cores(), _physical_cores()),
        "logical_cores": usable_cores(),
        "cpu_quota": cpu_quota(),
        "memory_bytes": psutil.virtual_memory().total,
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in PACKAGES},
        "commit": _commit(folder) if folder else _own_commit(),
        "thread_settings": {name: os.environ.get(name) for name in THREAD_SETTINGS},
        "niceness": os.nice(0) if hasattr(os, "nice") else None,
    }


def _physical_cores() -> int:
    """The number of cores that the logical CPUs of this process belong to."""
    usable = usable_cpus()
    try:
        folders = [Path(f"/sys/devices/system/cpu/cpu{cpu}/topology") for cpu in usable]
        return len({tuple((one / name).read_text() for name in ("physical_package_id", "core_id")) for one in folders})
    except OSError:
        import psutil

        return min(psutil.cpu_count(logical=False) or len(usable), len(usable))


def _cpu_model() -> str | None:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or None


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _own_commit() -> str | None:
    """The commit of dfz_ray's code; None where it is installed, perhaps inside another project's checkout."""
    git = shutil.which("git")
    if git is None:
        return None
    package = Path(__file__).parents[1]
    tracked = subprocess.run(  # noqa: S603  fixed arguments
        [git, "ls-files", "--error-unmatch", "__init__.py"], cwd=package, capture_output=True, check=False
    )
    return _commit(package) if tracked.returncode == 0 else None


def _commit(folder: Path) -> str | None:
    """The git commit of a folder.

    If files were changed since, `-dirty` follows, and a digest of what was changed in tracked files of the folder: two
    different edits of one commit are different code.
    """
    described = _ask_git(folder, "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")
    commit = described.decode().strip() if described else ""
    if not commit.endswith("-dirty"):
        return commit or None
    edits = _ask_git(folder, "diff", "--no-ext-diff", "--no-textconv", "--no-color", "--binary", "HEAD", "--", ".")
    return f"{commit}-{hashlib.sha256(edits).hexdigest()[:EDITS_DIGITS]}" if edits else commit


def _ask_git(folder: Path, *words: str) -> bytes | None:
    """The output of git in a folder; None if it fails."""
    git = shutil.which("git")
    if git is None:
        return None
    try:
        done = subprocess.run(  # noqa: S603  fixed arguments
            [git, "--no-optional-locks", *words], cwd=folder, capture_output=True, timeout=GIT_S, check=False
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout if done.returncode == 0 else None
