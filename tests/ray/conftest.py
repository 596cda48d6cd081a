"""One embedded Ray of four logical CPUs for the tests of a process, whatever the machine has."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import ray

from dfz_ray.driver.connection import connect


@pytest.fixture(scope="session")
def cluster() -> Iterator[None]:
    connect("local", logical_cpus=4)
    yield
    ray.shutdown()
