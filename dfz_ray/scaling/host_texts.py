"""The facts about a study's host in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dfz_ray.scaling.number_texts import NOTHING

NAMES = {
    "hostname": "Host",
    "platform": "Operating system",
    "cpu_model": "Processor",
    "physical_cores": "Physical cores",
    "logical_cores": "Logical CPUs",
    "cpu_quota": "CPU quota, in cores",
    "memory_bytes": "Memory",
    "python": "Python",
    "commit": "Commit of dfz_ray",
    "niceness": "Niceness",
    "cluster": "Nodes of Ray",
    "OMP_NUM_THREADS": "Threads of OpenMP",
    "MKL_NUM_THREADS": "Threads of Intel MKL",
    "OPENBLAS_NUM_THREADS": "Threads of OpenBLAS",
    "NUMEXPR_NUM_THREADS": "Threads of numexpr",
    "VECLIB_MAXIMUM_THREADS": "Threads of Apple's vecLib",
    "RAYON_NUM_THREADS": "Threads of Rayon (Rust)",
    "QISKIT_PARALLEL": "Parallel transpilation in Qiskit",
}
GROUPS = ("versions", "thread_settings")
"""Nested facts that stand among the others."""
UNKNOWN = {"thread_settings": "not set", "versions": "not installed", "cpu_quota": "none"}
"""A fact that is None, by its group or name."""


def describe_host(facts: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Name and value of each fact; variables of the environment keep their names, in brackets."""
    lines: list[tuple[str, str]] = []
    for name, value in facts.items():
        if isinstance(value, Mapping):
            prefix = "" if name in GROUPS else f"{NAMES.get(name, name)}: "
            lines += [(prefix + _name(key, name), _value(key, own, name)) for key, own in value.items()]
        else:
            lines.append((_name(name, ""), _value(name, value, "")))
    return lines


def _name(key: str, group: str) -> str:
    words = NAMES.get(key, key)
    return f"{words} ({key})" if group == "thread_settings" and words != key else words


def _value(key: str, value: Any, group: str) -> str:
    if value is None:
        return UNKNOWN.get(group) or UNKNOWN.get(key) or NOTHING
    if key == "memory_bytes" and isinstance(value, int):
        return f"{value / 2**30:.1f} GiB"
    return str(value)
