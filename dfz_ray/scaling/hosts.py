"""The hosts of a cluster: several nodes may share one, and then they share its cores."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

NodeCpus = Sequence[tuple[str, float]]
"""The host name and the CPUs of each node."""


def count_cores(nodes: NodeCpus, own_host: str, own_cores: int) -> int:
    """The physical cores of a cluster. Of this host they are known; of others Ray's CPUs stand for them."""
    cpus: Counter[str] = Counter()
    for host, amount in nodes:
        cpus[host] += amount  # type: ignore[assignment]
    if set(cpus) <= {own_host}:
        return own_cores
    return max(1, int(sum(min(amount, own_cores) if host == own_host else amount for host, amount in cpus.items())))


def describe_hosts(nodes: NodeCpus, cores: int) -> list[str]:
    """A remark if nodes share hosts: more nodes are no more cores then."""
    hosts = {host for host, _ in nodes}
    if len(hosts) == len(nodes):
        return []
    shared = "one host" if len(hosts) == 1 else f"{len(hosts)} hosts"
    return [f"the {len(nodes)} nodes share {shared} with {cores} core{'s' if cores != 1 else ''}"]
