"""The use that the manager of this process has made of its CPU."""

from __future__ import annotations

import ray

from dfz_ray.driver.manager_client import get_manager


def read_usage() -> tuple[float, int]:
    """The CPU seconds of the manager's process so far, and its exchanges with workers so far."""
    cpu_s, exchanges = ray.get(get_manager().get_usage.remote())
    return float(cpu_s), int(exchanges)
