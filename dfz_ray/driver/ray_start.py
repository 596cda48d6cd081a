"""`ray start` as dfz_ray calls it, for one node of a cluster: `python -m dfz_ray.driver.ray_start --head ...`.

It differs in four things. Loopback stays loopback: Ray turns 127.0.0.1 into the machine's own address, which others
can reach. There is no server for Ray Client, which dfz_ray does not use, and which listens on every interface. The node
ends when the process that started it ends, whatever ends that. And a raylet may take longer than 30 seconds to come up,
as it does on a machine that is busy with several jobs, but is not waited for once it has ended.
"""

from __future__ import annotations

import sys
import time
from typing import Any

import psutil
from ray._private import ray_constants, services
from ray._private.utils import set_kill_on_parent_death_linux
from ray.scripts import scripts

RAYLET_S = 100.0
"""Seconds that a raylet has to come up."""


def main() -> None:
    """Start a node as the command line says, and hold it."""
    if sys.platform == "linux":
        set_kill_on_parent_death_linux()
    ray_constants.ENABLE_RAY_CLUSTER = (
        True  # off on loopback, for this node's other processes; this one starts clusters
    )
    services.resolve_ip_for_localhost = lambda host: host
    services.get_node = _patient(services.get_node)
    scripts.get_ray_client_dependency_error = lambda: "dfz_ray does without Ray Client"
    scripts.start.main(["--block", *sys.argv[1:]], prog_name="ray start")


def _patient(get_node: Any) -> Any:
    """Ray's function that asks the head for a node, which raises RuntimeError as long as the head does not know it."""
    deadline = time.monotonic() + RAYLET_S

    def get_in_time(address: str, node: str) -> Any:
        while True:
            try:
                return get_node(address, node)
            except RuntimeError:
                raylets = [one for one in psutil.Process().children() if one.name() == "raylet"]
                if not any(one.status() != psutil.STATUS_ZOMBIE for one in raylets):
                    sys.exit("the raylet has ended; raylet.out has the reason")
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.2)

    return get_in_time


if __name__ == "__main__":
    main()
