"""The ports of a node: named ones, all free, in a block."""

from __future__ import annotations

import socket

import pytest

from dfz_ray.driver.node_ports import find_free_ports, parse_ports
from dfz_ray.errors import ClusterUnusable, InvalidInput


def free_range(count: int) -> range:
    """Ports of which none is in use."""
    found = find_free_ports(1, range(42000, 60000)).block
    return found[:count]


def test_every_port_is_named_and_none_twice() -> None:
    """Ray gets a port for each service of a node, and a range for its workers, all of them in the block."""
    ports = find_free_ports(16)
    arguments = dict(argument.split("=") for argument in ports.arguments(is_head=True))
    low, high = int(arguments.pop("--min-worker-port")), int(arguments.pop("--max-worker-port"))
    services = {int(port) for port in arguments.values()}

    assert {"--port", "--node-manager-port", "--dashboard-port", "--metrics-export-port"} <= arguments.keys()
    assert len(services) == len(arguments)
    assert high - low + 1 >= 4 * 16
    assert services | {*range(low, high + 1)} == {*ports.block}
    worker = ports.arguments(is_head=False)
    assert not [argument for argument in worker if argument.startswith(("--port=", "--dashboard-port="))]


def test_a_block_with_a_port_in_use_is_passed_over() -> None:
    """Two clusters on one machine don't take each other's ports."""
    ports = free_range(40)
    with socket.socket() as other:
        other.bind(("127.0.0.1", ports[20]))
        with pytest.raises(ClusterUnusable, match=f"no 40 free ports in a row lie between {ports[0]} and {ports[-1]}"):
            find_free_ports(1, ports)
    assert find_free_ports(1, ports).block == ports


@pytest.mark.parametrize("text", ["", "20000", "20000-", "20100-20000", "80-90", "20000-70000", "a-b", "-1-20000"])
def test_ports_that_are_none_are_refused(text: str) -> None:
    """The message shows what was found, and an example."""
    with pytest.raises(InvalidInput, match=r"--ports: found .*; expected FIRST-LAST, two numbers from 1024 to 65535"):
        parse_ports(text)


def test_ports_are_first_and_last() -> None:
    """Both ends belong to the range."""
    assert parse_ports("20000-20099") == range(20000, 20100)
