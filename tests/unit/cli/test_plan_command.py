"""The command that plans a batch."""

from __future__ import annotations

import pytest

from dfz_ray.cli.plan import find_max_workers
from dfz_ray.specs.settings import MaxWorkers, read_settings


@pytest.mark.parametrize(
    ("given", "configured", "planned"), [(None, 3, 3), (2, 3, 2), (None, None, None), (None, "auto", None)]
)
def test_a_plan_takes_the_workers_of_the_configuration(
    given: int | None, configured: MaxWorkers, planned: int | None
) -> None:
    """A plan is for the option's workers, or else the configuration's; `auto` begins with what the cluster holds."""
    assert find_max_workers(given, read_settings({"max_workers": configured})) == planned
