"""`dfz cluster local`."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING

import click

from dfz_ray.errors import ClusterUnusable, InfrastructureLost

if TYPE_CHECKING:
    from dfz_ray.driver.ray_node import RayNode

NODES_LIMIT = 64
STOP_S = 90.0
"""Seconds that a local cluster has to stop before it is killed."""
STORE_BYTES = 100 * 2**20
"""The least memory of a node's object store; Ray itself would give each node a third of the machine's memory."""


@click.command("local")
@click.option("--nodes", type=click.IntRange(1, NODES_LIMIT), default=2, metavar="N", help="The number of nodes [2].")
@click.option("--cpus", type=click.IntRange(1, 1024), default=1, metavar="N", help="CPUs of each node [1].")
@click.option("--no-dashboard", is_flag=True, help="Leave out Ray's dashboard, which takes a part of a core.")
@click.option("--stop", is_flag=True, help="Stop the local cluster that runs, wherever it was started.")
def local(nodes: int, cpus: int, no_dashboard: bool, stop: bool) -> None:
    """Start several Ray nodes on this machine, to try things out; hold them until Ctrl-C.

    They listen on loopback only, and ask for this user's token, which dfz finds by itself. Kill a node's process to see
    what a run does when a node is lost. Examples:

    \b
        dfz cluster local --nodes 3 --cpus 1
        dfz cluster local --no-dashboard &
        dfz cluster local --stop
    """
    from dfz_ray.driver.ray_node import make_own_folder

    state = make_own_folder() / "local"
    if stop:
        _stop(state)
        return
    with _held(state) as file:
        _hold_cluster(file, nodes, cpus, has_dashboard=not no_dashboard)


def _hold_cluster(file: IO[str], count: int, cpus: int, *, has_dashboard: bool) -> None:
    from dfz_ray.driver.ray_node import LOOPBACK, RayNode, stop_together
    from dfz_ray.driver.token import make_token

    has_token = "RAY_AUTH_TOKEN" in os.environ
    make_token()
    os.environ.setdefault("RAY_AUTH_MODE", "token")
    nodes: list[RayNode] = []
    try:
        for number in range(count):
            node = RayNode(
                f"node-{number + 1}",
                head=nodes[0].address if nodes else None,
                bind=LOOPBACK,
                cpus=cpus,
                dashboard=has_dashboard,
                options=_memory(count),
            )
            nodes.append(node)
            click.echo(f"node {number + 1} of {count} runs: process {node.pid}")
        address = nodes[0].address
        _write(file, {"pid": os.getpid(), "nodes": count, "address": address})
        click.echo(f"{count} nodes of {cpus} CPU each are a cluster at {address}, which only this machine reaches")
        if not has_token and "RAY_AUTH_TOKEN" in os.environ:  # it could not be written to the user's home folder
            path = nodes[0].folder / "token"
            with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as token:
                token.write(os.environ["RAY_AUTH_TOKEN"])
            click.echo(f"  first  export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH={path}")
        click.echo(f"  run    dfz run configs/sorting.yaml --address {address}")
        if has_dashboard:
            click.echo(f"  look   {nodes[0].dashboard} (it asks for what `ray get-auth-token` prints)")
        click.echo("  stop   Ctrl-C, or `dfz cluster local --stop`")
        _watch(nodes)
    except KeyboardInterrupt:
        click.echo("stops the nodes")
    finally:
        stop_together(nodes)


def _memory(nodes: int) -> tuple[str, ...]:
    """The share of the machine's memory that each node may give away."""
    import psutil

    share = psutil.virtual_memory().available // nodes
    store = max(STORE_BYTES, share // 10)
    return f"--object-store-memory={store}", f"--memory={max(STORE_BYTES, share * 8 // 10 - store)}"


def _watch(nodes: list[RayNode]) -> None:
    """Wait for ever; say which node has ended. Raises InfrastructureLost if it is the head."""
    lost: set[int] = set()
    while True:
        for number, node in enumerate(nodes, 1):
            if number not in lost and node.has_ended():
                lost.add(number)
                if number == 1:
                    raise InfrastructureLost(f"the head, node 1, has ended: {node.describe_end()}")
                click.echo(f"node {number} has ended; the others go on")
        time.sleep(0.2)


@contextlib.contextmanager
def _held(path: Path) -> Iterator[IO[str]]:
    """The file of the local cluster, locked as long as this process works on it."""
    from dfz_ray.journal.lock import try_lock
    from dfz_ray.journal.regular_file import open_regular

    with os.fdopen(open_regular(path, os.O_RDWR | os.O_CREAT), "r+") as file:
        if not try_lock(file):
            found = json.loads(file.read() or "{}")
            what = f"one of {found['nodes']} nodes runs at {found['address']}" if "address" in found else "one starts"
            raise ClusterUnusable(f"there is a local cluster already: {what}; dfz cluster local --stop ends it")
        _write(file, {"pid": os.getpid()})
        yield file
        file.truncate(0)


def _write(file: IO[str], found: dict[str, object]) -> None:
    file.seek(0)
    file.truncate()
    file.write(json.dumps(found))
    file.flush()


def _stop(path: Path) -> None:
    from dfz_ray.journal.lock import try_lock
    from dfz_ray.journal.regular_file import open_regular

    with os.fdopen(open_regular(path, os.O_RDWR | os.O_CREAT), "r+") as file:
        if try_lock(file):
            click.echo("no local cluster runs")
            return
        pid = json.loads(file.read())["pid"]
        for number in (signal.SIGTERM, signal.SIGKILL):  # its nodes end with it, however it ends
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
            deadline = time.monotonic() + STOP_S
            while time.monotonic() < deadline:
                if try_lock(file):
                    click.echo("the local cluster has stopped")
                    return
                time.sleep(0.1)
    raise ClusterUnusable(f"process {pid}, which holds the local cluster, does not end")
