"""What the nodes of the cluster can hold."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import ray

from dfz_ray.specs.resources import Resources


def request_of(resources: Resources) -> dict[str, float]:
    """A shape by the names that Ray uses for the resources of a node."""
    request = {"CPU": resources.cpus, "GPU": resources.gpus, "memory": float(resources.memory or 0), **resources.custom}
    return {name: amount for name, amount in request.items() if amount > 0}


def live_nodes() -> list[dict[str, float]]:
    """What each live node of the cluster has in all."""
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def capacity(request: Mapping[str, float], nodes: Iterable[Mapping[str, float]]) -> float:
    """How many of a request the nodes hold at once; a single node must hold each."""
    return sum(
        min((math.floor(node.get(name, 0.0) / amount + 1e-9) for name, amount in request.items()), default=math.inf)
        for node in nodes
    )


def why_none(resources: Resources, nodes: list[dict[str, float]]) -> str:
    """Which of a request's amounts the nearest node lacks, for a shape that no node holds."""
    request = request_of(resources)
    if not nodes:
        return f"needs {resources.describe()}, and the cluster has no live node"

    def share(node: Mapping[str, float]) -> float:
        return sum(min(1.0, node.get(name, 0.0) / amount) for name, amount in request.items())

    nearest = max(nodes, key=share)
    lacking = [
        f"{_amount(name, nearest.get(name, 0.0))} of {_amount(name, amount)}"
        for name, amount in request.items()
        if nearest.get(name, 0.0) < amount
    ]
    return f"needs {resources.describe()}; no node has that, the nearest one has {', '.join(lacking)}"


def _amount(name: str, amount: float) -> str:
    return f"{amount / 2**20:.0f} MiB memory" if name == "memory" else f"{amount:g} {name}"


def remote_options(resources: Resources) -> dict[str, Any]:
    """A shape as the options of a Ray remote function."""
    options: dict[str, Any] = {"num_cpus": resources.cpus, "num_gpus": resources.gpus, "resources": resources.custom}
    if resources.memory:
        options["memory"] = resources.memory
    return options
