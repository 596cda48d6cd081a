"""Tests that need root and programs of Debian's: `make services` installs these and runs the tests.

Each service is started by a fixture, which stops it; nothing of a distribution's own start scripts is used.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.slurm_site import SlurmSite, slurm_site

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test of this folder."""
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.services)


@pytest.fixture(scope="module")
def slurm() -> Iterator[SlurmSite]:
    """A Slurm of two nodes on this machine."""
    with slurm_site() as site:
        yield site
