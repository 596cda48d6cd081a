"""What Ray's autoscaler is asked for, by several runs of one process."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from dfz_ray.manager import autoscaler_request
from dfz_ray.manager.autoscaler_request import Demand
from dfz_ray.specs.resources import Resources

LARGE, SMALL = Resources(cpus=64), Resources(cpus=2)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[list[float]]]:
    """The CPUs of each bundle of every request that reaches Ray."""
    sdk = pytest.importorskip("ray.autoscaler.sdk")
    requests: list[list[float]] = []
    monkeypatch.setattr(
        sdk, "request_resources", lambda bundles: requests.append([bundle["CPU"] for bundle in bundles])
    )
    monkeypatch.setattr(autoscaler_request, "has_autoscaler", lambda: True)
    yield requests
    assert not vars(autoscaler_request)["_wanted"], "runs that are over ask for nothing"


def test_runs_do_not_replace_each_others_requests(asked: list[list[float]]) -> None:
    """A request stands for the whole cluster, so it names what all runs need; one that ends takes only its own away."""
    one, other = Demand([LARGE], lambda: {}), Demand([SMALL], lambda: {0: 3})
    one.update([0])
    other.update([])
    other.update([])
    other.withdraw()
    one.withdraw()

    assert asked == [[64], [64, 2, 2, 2], [64], []]


def test_a_node_that_tasks_wait_for_is_asked_for_again(asked: list[list[float]]) -> None:
    """Another driver's request may have replaced it meanwhile."""
    demand = Demand([LARGE], lambda: {})
    for _ in range(3):
        demand.update([0])
    demand.withdraw()

    assert asked == [[64], [64], [64], []]
