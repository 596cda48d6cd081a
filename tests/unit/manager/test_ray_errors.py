"""Ray's errors: what became of a lease's worker."""

from __future__ import annotations

import pytest
from ray.exceptions import RayError, RayTaskError, WorkerCrashedError

from dfz_ray.manager.ray_errors import describe_loss, find_process

LINES = "Traceback (most recent call last):\n  File 'x'\nAttributeError: module 'os' has no attribute 'path'"
RAISED = RayTaskError("guest", LINES, AttributeError("module 'os' has no attribute 'path'"), pid=4711, ip="10.0.0.7")


@pytest.mark.parametrize("error", [RAISED, RAISED.as_instanceof_cause()])
def test_the_process_of_a_call_that_raised_is_found(error: RayError) -> None:
    """An error that left a lease names its process, also where Ray makes it one of the class that was raised."""
    assert find_process(error) == ("10.0.0.7", 4711)
    assert describe_loss(error)[0] == "worker_crashed"


def test_a_worker_that_died_has_no_process() -> None:
    """There is nothing left to kill."""
    assert find_process(WorkerCrashedError()) is None
