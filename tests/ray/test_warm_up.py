"""Warming workers up before a measurement."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from dfz_ray import domain
from dfz_ray.domains.registry import REGISTRY
from dfz_ray.driver.domain_shipping import ship
from dfz_ray.driver.warm_up import Sample, warm_workers
from dfz_ray.errors import DfzError
from dfz_ray.execution.execute import Work
from dfz_ray.specs.encoding import encode
from dfz_ray.specs.resources import Resources

pytestmark = pytest.mark.usefixtures("cluster")
WORKERS = 4
"""All CPUs of the cluster: one that waits for a lost one at the gate would hold up the next attempt."""
LATE_S = 1.0


@domain("ends_its_worker")
def end_worker(door: str = "", *, seed: int) -> int:
    """End this process as long as there is a door, and remove it, unless it is a folder; else take a while."""
    path = Path(door)
    if path.is_dir():
        os._exit(1)
    if path.exists():
        path.unlink()
        os._exit(1)
    time.sleep(LATE_S)
    return seed


def sample_of(door: Path) -> Sample:
    works = [Work(0, 0, encode({"door": str(door)}))]
    return Sample(ship(REGISTRY.get("ends_its_worker")).pickled, Resources(), works, ["first"])


def test_a_worker_that_is_lost_meanwhile_is_replaced(door: Path) -> None:
    """All workers are there in the end; also one that came late does not wait at the gate for the one that was lost."""
    found = warm_workers([sample_of(door)], WORKERS, WORKERS, {})

    assert not door.exists(), "a worker was lost"
    assert found.served == WORKERS
    assert found.wall_s < 60


@pytest.mark.long
def test_tasks_that_end_every_worker_are_an_error(tmp_path: Path) -> None:
    """They would do so in the measurement, too."""
    with pytest.raises(DfzError, match=r"the worker process died.*the first task of each kind, 'first'"):
        warm_workers([sample_of(tmp_path)], WORKERS, WORKERS, {})
