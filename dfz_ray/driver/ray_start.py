"""`ray start` as dfz_ray calls it, for one node of a cluster: `python -m dfz_ray.driver.ray_start --head ...`.

It differs in three things. Loopback stays loopback: Ray turns 127.0.0.1 into the machine's own address, which others
can reach. There is no server for Ray Client, which dfz_ray does not use, and which listens on every interface. And the
node ends when the process that started it ends, whatever ends that.
"""

from __future__ import annotations

import sys

from ray._private import services
from ray._private.utils import set_kill_on_parent_death_linux
from ray.scripts import scripts


def main() -> None:
    """Start a node as the command line says, and hold it."""
    if sys.platform == "linux":
        set_kill_on_parent_death_linux()
    services.resolve_ip_for_localhost = lambda host: host
    scripts.get_ray_client_dependency_error = lambda: "dfz_ray does without Ray Client"
    scripts.start.main(["--block", *sys.argv[1:]], prog_name="ray start")


if __name__ == "__main__":
    main()
