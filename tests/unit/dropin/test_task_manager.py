"""A task manager whose run meets a failure, without Ray."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from dfz_ray import dropin
from dfz_ray.driver.run_session import RunSession
from dfz_ray.dropin.old_tasks import read_old_tasks
from dfz_ray.errors import ClusterUnusable

MAZE = {"id": "m", "domain": "maze", "parameters": {"size_x": 5, "size_y": 5}}


def test_a_run_that_fails_while_a_task_is_sent_fails_it_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A task that is in the queue of a run when that fails, e.g. as no Ray is there, ends once, with that failure."""
    send: Callable[..., None] = RunSession.submit_later

    def fail_first(session: RunSession, take: Any) -> None:
        session._end(ClusterUnusable("no Ray answers at 10.0.0.1:6379"))
        send(session, take)

    monkeypatch.setattr(RunSession, "start", lambda session: None)
    monkeypatch.setattr(RunSession, "submit_later", fail_first)
    manager = dropin.ConcurrentTaskManager(max_workers=1)
    (task,) = manager.submit_read(read_old_tasks([MAZE], manager.settings)).tasks
    assert task.outcome is not None
    assert "no Ray answers" in str(task.outcome.error)
    assert list(manager.collect_completed_tasks()) == list(manager.wait_all(0)) == ["m"]
