"""What the nodes of a cluster hold of a shape."""

from __future__ import annotations

import math
import threading
from typing import Any

import pytest

from dfz_ray.errors import InfrastructureLost
from dfz_ray.manager import nodes
from dfz_ray.manager.nodes import capacity, find_shares, request_of, take_away, why_none
from dfz_ray.specs.resources import Resources

SMALL = {"CPU": 4.0, "memory": 8.0 * 2**30}
LARGE = {"CPU": 16.0, "GPU": 2.0, "memory": 64.0 * 2**30, "fpga": 1.0}


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        (Resources(cpus=1), 20),
        (Resources(cpus=3), 6),
        (Resources(cpus=5), 3),
        (Resources(cpus=0.5), 40),
        (Resources(cpus=1, gpus=0.5), 4),
        (Resources(cpus=1, memory=6 * 2**30), 11),
        (Resources(cpus=1, custom={"fpga": 1.0}), 1),
        (Resources(cpus=17), 0),
        (Resources(cpus=1, custom={"tpu": 1.0}), 0),
        (Resources(cpus=0), math.inf),
    ],
)
def test_capacity_counts_what_single_nodes_hold(shape: Resources, expected: float) -> None:
    """A shape fits as often as the single nodes hold it; what two nodes have together does not count."""
    assert capacity(request_of(shape), [SMALL, LARGE]) == expected


def test_shares_are_those_of_all_nodes() -> None:
    """A shape takes of each resource that it needs a share of what all nodes have together."""
    shares = find_shares(request_of(Resources(cpus=5, gpus=0.5, memory=18 * 2**30)), [SMALL, LARGE])
    assert shares == {"CPU": 0.25, "GPU": 0.25, "memory": 0.25}


def test_an_infeasible_shape_is_compared_with_the_nearest_node() -> None:
    """The message for a shape that fits nowhere names what the node that has most of it lacks."""
    text = why_none(Resources(cpus=8, gpus=4), [SMALL, LARGE])
    assert text == "needs 8 CPUs, 4 GPUs; no node has that, the nearest one has 2 GPU of 4 GPU"


def test_what_a_waiting_call_holds_is_taken_away() -> None:
    """A call that holds a node's GPU gets no second one there for a run of its own, and is told why."""
    held = {"GPU": 2.0, "memory": 32.0 * 2**30}
    node, shape = take_away(LARGE, held), Resources(cpus=1, gpus=1)
    assert capacity(request_of(shape), [node]) == 0
    assert capacity(request_of(Resources(cpus=1, memory=32 * 2**30)), [node]) == 1
    assert why_none(shape, [node], held) == (
        "needs 1 CPU, 1 GPU; no node has that, the nearest one has 0 GPU of 1 GPU, beside what the call holds that "
        "waits for this: 2 GPU, 32768 MiB memory"
    )


def test_a_cluster_without_nodes_is_told() -> None:
    """A cluster that has lost all its nodes is not compared with."""
    assert "no live node" in why_none(Resources(cpus=1), [])


def test_a_head_that_does_not_tell_its_nodes_is_asked_once_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray's call may wait for ever; nobody waits for it any longer."""
    never, calls = threading.Event(), []

    def tell() -> list[dict[str, Any]]:
        calls.append(1)
        if len(calls) == 1 or is_silent:
            never.wait()
        return [{"NodeManagerHostname": "here", "Resources": {"CPU": 2.0}, "Alive": True}]

    monkeypatch.setattr(nodes.ray, "nodes", tell)
    monkeypatch.setattr(nodes, "NODES_S", (0.01, 60.0))
    is_silent = False
    assert nodes.cpus_by_host() == [("here", 2.0)]
    is_silent = True
    monkeypatch.setattr(nodes, "NODES_S", (0.01, 0.01))
    with pytest.raises(InfrastructureLost, match="does not tell its nodes"):
        nodes.cpus_by_host()
    assert len(calls) == 4
    never.set()


def test_what_ray_says_of_its_nodes_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """An error of Ray, too: it is not taken for silence."""

    def tell() -> list[dict[str, Any]]:
        raise ConnectionError("no head")

    monkeypatch.setattr(nodes.ray, "nodes", tell)
    with pytest.raises(ConnectionError, match="no head"):
        nodes.cpus_by_host()
