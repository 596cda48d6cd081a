"""The way of a lease's messages."""

from __future__ import annotations

from typing import Any

import pytest

from dfz_ray.protocol.reports import Report
from dfz_ray.worker.answer import AnswerLost
from dfz_ray.worker.manager_route import ManagerRoute


class Untouched:
    """A handle that nobody may use."""

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"{name} was called")


def test_a_worker_that_is_disconnected_from_ray_calls_nobody() -> None:
    """Ray would start another Ray for such a call, in the worker, and take half a minute for it."""
    route = ManagerRoute(Untouched(), "run")

    with pytest.raises(AnswerLost, match="a task has disconnected its worker from Ray"):
        route.send(Report(1, 1, None, None, None, None, True, 0))
    with pytest.raises(AnswerLost):
        route.get_file("0" * 64)
