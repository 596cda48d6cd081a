"""The session of a run, without a manager."""

from __future__ import annotations

from pathlib import Path

import pytest

from dfz_ray.driver.condition import Condition
from dfz_ray.driver.listener import RunListener
from dfz_ray.driver.listening_thread import ListeningThread
from dfz_ray.driver.run_session import RunSession
from dfz_ray.errors import InfrastructureLost
from dfz_ray.specs.run_config import RunConfig


def test_a_session_that_ends_takes_nothing(tmp_path: Path) -> None:
    """What comes once the last command was executed is refused, also before the run is closed at the manager."""
    session = RunSession(RunConfig.of(run_dir=tmp_path / "run"), RunListener())
    listening = ListeningThread(
        "listens", Condition(), *[lambda: False] * 2, lambda: None, lambda call: None, lambda news: None
    )
    executed: list[int] = []
    session.submit_later(executed.append)  # type: ignore[arg-type]
    session.finish()

    session._do_commands(None, listening)  # type: ignore[arg-type]

    assert executed == [0]
    with pytest.raises(InfrastructureLost, match="the run was closed"):
        session.submit_later(lambda first: None)
    session.cancel([0])
    assert not session._commands


def test_a_forked_process_leaves_a_run_whose_news_are_heard(tmp_path: Path) -> None:
    """It may end the run, as a `with` does in the end: that wakes no thread, for there is none."""
    session = RunSession(RunConfig.of(run_dir=tmp_path / "run"), RunListener())
    session._listening = ListeningThread(
        "listens", session._changed, *[lambda: False] * 2, lambda: None, lambda call: None, lambda news: None
    )

    session.leave_to_parent()

    session.finish()
    with pytest.raises(InfrastructureLost, match="was forked from"):
        session.submit_later(lambda first: None)
