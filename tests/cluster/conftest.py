"""A cluster of several nodes for each module of tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support.local_cluster import LocalCluster


@pytest.fixture(scope="module")
def local_cluster() -> Iterator[LocalCluster]:
    """A head and one node that runs tasks."""
    cluster = LocalCluster()
    try:
        cluster.start_head()
        cluster.start_node()
        yield cluster
    finally:
        cluster.close()
