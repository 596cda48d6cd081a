"""The nodes of the cluster, and the number of tasks of a shape that they hold."""

from __future__ import annotations

import contextlib
import json
import logging
import math
import socket
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future
from queue import Empty, SimpleQueue
from typing import Any

import ray

from dfz_ray.errors import InfrastructureLost
from dfz_ray.specs.resources import Resources

logger = logging.getLogger("dfz_ray")

HEAD_S = 5.0
"""Seconds after which a silent head counts as lost. Ray itself would wait for a minute, and then end the process."""
HEAD_AGAIN_S = 0.2
NODES_S = (10.0, 50.0)
"""Seconds for the head to tell its nodes: then it is asked once more, and then it counts as lost."""
MIN_CPUS = 0.25
"""The least CPUs of a shape when slots are counted: each task is a process, even if it declares less."""


def request_of(resources: Resources) -> dict[str, float]:
    """A shape by the names that Ray uses for the resources of a node."""
    request = {"CPU": resources.cpus, "GPU": resources.gpus, "memory": float(resources.memory or 0), **resources.custom}
    return {name: amount for name, amount in request.items() if amount > 0}


def live_nodes(held: Mapping[str, float] | None = None) -> list[dict[str, float]]:
    """The resources of each live node, free or not; of this process's own node without those that are `held`.

    Raises:
        InfrastructureLost: the cluster's head is gone.
    """
    if not _head_answers():
        raise InfrastructureLost("the run can't go on: the head of the Ray cluster does not answer")
    here = ray.get_runtime_context().get_node_id() if held else None
    return [
        take_away(node["Resources"], held) if held and node["NodeID"] == here else node["Resources"]
        for node in _read_nodes()
        if node["Alive"]
    ]


def take_away(node: Mapping[str, float], held: Mapping[str, float]) -> dict[str, float]:
    """The resources of a node without those that are held."""
    return {name: amount - held.get(name, 0.0) for name, amount in node.items()}


def cpus_by_host() -> list[tuple[str, float]]:
    """The host name and the CPUs of each live node; nodes of one name share a host."""
    live = [node for node in _read_nodes() if node["Alive"]]
    return [(node["NodeManagerHostname"], node["Resources"].get("CPU", 0.0)) for node in live]


def capacity(request: Mapping[str, float], nodes: Iterable[Mapping[str, float]]) -> float:
    """The number of times that the nodes hold a request at once, each of them on a single node."""
    return sum(
        min((math.floor(node.get(name, 0.0) / amount + 1e-9) for name, amount in request.items()), default=math.inf)
        for node in nodes
    )


def find_shares(request: Mapping[str, float], nodes: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The share of all nodes' resources that a request takes, which one of them holds."""
    return {name: amount / sum(node.get(name, 0.0) for node in nodes) for name, amount in request.items()}


def count_held(shapes: Iterable[Resources], nodes: Sequence[Mapping[str, float]]) -> float:
    """The number of tasks of the smallest of these shapes that the nodes hold at once, with a process for each."""
    cores = sum(node.get("CPU", 0.0) for node in nodes)
    return max(
        (min(capacity(request_of(shape), nodes), cores / max(shape.cpus, MIN_CPUS)) for shape in shapes), default=1
    )


def why_none(resources: Resources, nodes: list[dict[str, float]], held: Mapping[str, float] | None = None) -> str:
    """The reason why no node holds a shape: the amounts that the nearest node lacks.

    `held` was taken away from a node: the call that waits for these tasks holds it.
    """
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
    text = f"needs {resources.describe()}; no node has that, the nearest one has {', '.join(lacking)}"
    if held:
        holds = ", ".join(_amount(name, amount) for name, amount in held.items())
        text += f", beside what the call holds that waits for this: {holds}"
    return text


def _amount(name: str, amount: float) -> str:
    return f"{amount / 2**20:.0f} MiB memory" if name == "memory" else f"{amount:g} {name}"


def remote_options(resources: Resources) -> dict[str, Any]:
    """A shape as the options of a Ray remote function."""
    options: dict[str, Any] = {"num_cpus": resources.cpus, "num_gpus": resources.gpus, "resources": resources.custom}
    if resources.memory:
        options["memory"] = resources.memory
    return options


def is_alive(node_id: str) -> bool:
    """True if a node of the cluster, by Ray's id, is alive; no node is once the head is gone."""
    return _head_answers() and any(node["NodeID"] == node_id and node["Alive"] for node in _read_nodes())


def _read_nodes() -> list[dict[str, Any]]:
    """All nodes that Ray knows. Its own call waits without a limit, and was once seen to wait for ever.

    Raises:
        InfrastructureLost: the cluster's head is silent.
    """
    for wait_s in NODES_S:
        found: SimpleQueue[Future[list[dict[str, Any]]]] = SimpleQueue()

        def read(found: SimpleQueue[Future[list[dict[str, Any]]]] = found) -> None:
            answer: Future[list[dict[str, Any]]] = Future()
            try:
                answer.set_result(ray.nodes())
            except BaseException as error:
                answer.set_exception(error)
            found.put(answer)

        threading.Thread(target=read, name="dfz_ray asks for nodes", daemon=True).start()
        with contextlib.suppress(Empty):
            return found.get(timeout=wait_s).result()
    raise InfrastructureLost("the run can't go on: the head of the Ray cluster does not tell its nodes")


def _head_answers() -> bool:
    """True if the head can be reached; it may be restarting, so it is tried for a while."""
    host, _, port = ray.get_runtime_context().gcs_address.rpartition(":")
    end = time.monotonic() + HEAD_S
    while time.monotonic() < end:
        with contextlib.suppress(OSError):
            socket.create_connection((host.strip("[]"), int(port)), timeout=HEAD_S).close()
            return True
        time.sleep(HEAD_AGAIN_S)
    return False


def has_autoscaler() -> bool:
    """True if Ray's autoscaler may bring nodes to this cluster, as far as Ray reveals it."""
    from ray._private.state import state
    from ray.experimental.internal_kv import _internal_kv_get

    try:
        if state.get_max_resources_from_cluster_config():  # set by the newer autoscaler, also KubeRay's
            return True
        report = json.loads(_internal_kv_get(b"__autoscaling_status") or b"{}").get("autoscaler_report") or {}
    except Exception:  # these interfaces are not public and may change; the settings can name an autoscaler, too
        logger.debug("it is not known whether there is an autoscaler", exc_info=True)
        return False
    # Without an autoscaler the same report names each node's type after the node.
    types = (report.get("node_type_mapping") or {}).items()
    return any(not kind.endswith(node_id) for node_id, kind in types)
