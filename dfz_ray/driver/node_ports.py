"""The ports of a Ray node: a block of free ones, each of them named to Ray.

Ray's own defaults are the same on every node, so that two clusters on one machine take each other's.
"""

from __future__ import annotations

import random
import socket
from dataclasses import dataclass

from dfz_ray.errors import ClusterUnusable, InvalidInput, Problem

PORTS = range(20000, 32000)
"""Ports from which the blocks are taken unless others are given; systems don't give these away by themselves."""
SERVICES = (
    "node-manager-port",
    "object-manager-port",
    "dashboard-agent-listen-port",
    "dashboard-agent-grpc-port",
    "metrics-export-port",
    "runtime-env-agent-port",
)
HEAD_SERVICES = ("port", "dashboard-port")
LEAST_WORKER_PORTS = 32
WORKER_PORTS_PER_CPU = 4
"""Each worker process and each driver has a port; some processes end while others start."""


@dataclass(frozen=True)
class NodePorts:
    """The ports of one node: those of the head's services, of every node's, then of its workers."""

    block: range

    @property
    def head(self) -> int:
        """The port at which a head answers."""
        return self.block[0]

    @property
    def dashboard(self) -> int:
        """The port of a head's dashboard."""
        return self.block[1]

    def __str__(self) -> str:
        return f"{self.block[0]}-{self.block[-1]}"

    def arguments(self, *, is_head: bool) -> list[str]:
        """The arguments of `ray start` that name them."""
        services = [*zip((*HEAD_SERVICES, *SERVICES), self.block, strict=False)]
        named = services if is_head else services[len(HEAD_SERVICES) :]
        workers = self.block[len(services) :]
        return [
            *(f"--{name}={port}" for name, port in named),
            f"--min-worker-port={workers[0]}",
            f"--max-worker-port={workers[-1]}",
        ]


def find_free_ports(cpus: int, ports: range = PORTS) -> NodePorts:
    """Find a block of ports, of those given, that nothing uses; the search begins anywhere.

    Raises ClusterUnusable if there is none.
    """
    size = len(HEAD_SERVICES) + len(SERVICES) + max(LEAST_WORKER_PORTS, WORKER_PORTS_PER_CPU * cpus)
    blocks = [ports[first : first + size] for first in range(0, len(ports) - size + 1, size)]
    begin = random.randrange(len(blocks)) if blocks else 0  # noqa: S311 - so that two users don't begin with the same
    for block in (*blocks[begin:], *blocks[:begin]):
        if all(map(_is_free, block)):
            return NodePorts(block)
    raise ClusterUnusable(
        f"no {size} free ports in a row lie between {ports.start} and {ports.stop - 1}; --ports names others"
    )


def parse_ports(text: str) -> range:
    """The ports `FIRST-LAST`. Raises InvalidInput if they are none."""
    first, _, last = text.partition("-")
    if first.isdecimal() and last.isdecimal() and 1024 <= int(first) < int(last) < 2**16:
        return range(int(first), int(last) + 1)
    problem = Problem("--ports", repr(text), "FIRST-LAST, two numbers from 1024 to 65535", "for example 20000-20999")
    raise InvalidInput([problem], "command line")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("", port))
        except OSError:
            return False
    return True
