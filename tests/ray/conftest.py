"""One embedded Ray of four logical CPUs for the tests of a process, whatever the machine has."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import ray

from dfz_ray import ConcurrentDFZAdapter, DFZExecutor
from dfz_ray.driver.connection import connect


@pytest.fixture(scope="session")
def cluster() -> Iterator[None]:
    connect("local", logical_cpus=4)
    yield
    ray.shutdown()


@pytest.fixture(scope="module")
def executor(cluster: None) -> Iterator[DFZExecutor]:
    """An executor of two workers, for tests that leave nothing behind."""
    with DFZExecutor(2) as made:
        yield made


@pytest.fixture
def adapter(cluster: None) -> ConcurrentDFZAdapter:
    return ConcurrentDFZAdapter(config={"config_path": None}, max_workers=2)


@pytest.fixture
def door(tmp_path: Path) -> Path:
    """A file that holds tasks as long as it exists."""
    path = tmp_path / "door"
    path.touch()
    return path
