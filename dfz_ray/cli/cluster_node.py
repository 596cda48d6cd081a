"""`dfz cluster node`."""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path

import click


@click.command("node")
@click.argument("folder")
@click.option("--head", is_flag=True, help="This node is the head: it makes the token, and writes its address down.")
@click.option("--cpus", type=click.IntRange(min=1), metavar="N", help="CPUs of the node [those that it may use].")
@click.option("--bind", metavar="ADDRESS|INTERFACE", help="Its address, or the interface that has it, such as ib0.")
@click.option("--ports", "ports_text", metavar="FIRST-LAST", help="Its ports are a free block of these [20000-31999].")
@click.option("--no-dashboard", is_flag=True, help="Leave out Ray's dashboard, which takes a part of a core.")
def node(
    folder: str, head: bool, cpus: int | None, bind: str | None, ports_text: str | None, no_dashboard: bool
) -> None:
    """Start one node of a cluster on this machine, and hold it until Ctrl-C or SIGTERM; batch jobs do so on each node.

    The nodes find each other by FOLDER, which all of them see: the head writes its address and the cluster's token
    there, where only your user can read them. Examples:

    \b
        dfz cluster node ~/my-cluster --head
        dfz cluster node ~/my-cluster --bind ib0
        dfz cluster node ~/my-cluster --cpus 8 --ports 20000-20499
    """
    from dfz_ray.driver.cluster_folder import ClusterFolder
    from dfz_ray.driver.cores import usable_cores
    from dfz_ray.driver.node_ports import PORTS, parse_ports
    from dfz_ray.driver.ray_node import RayNode
    from dfz_ray.errors import InfrastructureLost

    ports = parse_ports(ports_text) if ports_text else PORTS
    shared = ClusterFolder(Path(folder))
    count = cpus or usable_cores()
    try:
        if bind is not None:
            bind = _find_address(bind, None)  # before the head is waited for
        if head:
            shared.make_token()
        else:
            click.echo(f"looks for the head in {folder}, and waits for it", err=True)
        address = None if head else shared.wait_for_head()
        shared.check_token()
        started = RayNode(
            os.environ.get("SLURM_JOB_ID", "node")[:10],
            head=address,
            bind=_find_address(bind, address),
            cpus=count,
            token_file=shared.token_file,
            dashboard=not no_dashboard,
            options=_memory(count),
            ports=ports,
        )
    except BaseException:
        shared.note_node("failed")
        raise
    try:
        if head:
            shared.announce_head(started.address)
        shared.note_node("up")
        role = f"the head at {started.address}" if head else f"a node of {started.address}"
        look = f", dashboard at {started.dashboard}" if head and not no_dashboard else ""
        click.echo(f"{socket.gethostname()}: {role}, {count} CPUs, ports {started.ports}{look}")
        while not started.has_ended():
            time.sleep(0.2)
        raise InfrastructureLost(f"{socket.gethostname()}: the node has ended: {started.describe_end()}")
    except KeyboardInterrupt:
        pass  # that is how it is stopped
    finally:
        started.stop()


def _find_address(bind: str | None, head: str | None) -> str:
    """The address of this node: the given one, that of the interface, or the one from which the head is reached."""
    import psutil

    from dfz_ray.errors import InvalidInput, Problem

    found = psutil.net_if_addrs()
    addresses = {
        name: [one.address for one in of_name if one.family is socket.AF_INET] for name, of_name in found.items()
    }
    if bind is not None:
        if addresses.get(bind):
            return addresses[bind][0]
        if not any(bind in of_name for of_name in addresses.values()):
            known = ", ".join(f"{name} ({of_name[0]})" for name, of_name in addresses.items() if of_name)
            problem = Problem("--bind", repr(bind), f"an interface of this machine, or its address: {known}")
            raise InvalidInput([problem], "command line")
        return bind
    target = head.rpartition(":")[0] if head else "192.0.2.1"  # nothing is sent; the route to it is asked for
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((target, 9))
        except OSError:
            return socket.gethostbyname(socket.gethostname())
        address: str = probe.getsockname()[0]
        return address


def _memory(cpus: int) -> tuple[str, ...]:
    """The memory that Slurm gave this job on this node, where it says so; else Ray takes what the machine has."""
    whole, each = (os.environ.get(name, "") for name in ("SLURM_MEM_PER_NODE", "SLURM_MEM_PER_CPU"))
    megabytes = int(whole) if whole.isdecimal() else int(each) * cpus if each.isdecimal() else 0
    if not megabytes:
        return ()
    store = max(100, megabytes // 5)
    return f"--object-store-memory={store * 2**20}", f"--memory={max(100, megabytes * 9 // 10 - store) * 2**20}"
