"""The run behind an executor, without a manager, and what the executor shows of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from dfz_ray import DFZExecutor
from dfz_ray.driver.run_session import RunSession
from dfz_ray.errors import ClusterUnusable
from dfz_ray.executor.process_setup import InitializerFailed


@pytest.fixture
def executor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[DFZExecutor]:
    """An executor whose run is never opened."""
    monkeypatch.setattr(RunSession, "start", lambda session: None)
    made = DFZExecutor(1, run_dir=tmp_path / "run")
    assert "1 at once; open; 0 unfinished" in repr(made)
    yield made
    made._finalizer.detach()


def test_an_executor_whose_run_has_failed_shows_why(executor: DFZExecutor) -> None:
    """The repr of an executor whose run could not go on says why, not that somebody has shut it down; its views do."""
    executor._run._session._end(ClusterUnusable("no Ray answers at 10.0.0.1:6379"))
    for shown in (repr(executor), repr(executor.options(cpus=2))):
        assert "; broken: no Ray answers at 10.0.0.1:6379; 0 unfinished;" in shown
    with pytest.raises(RuntimeError, match="no Ray answers"):
        executor.submit(abs, -1)


def test_a_failed_initializer_is_shown_in_one_line(executor: DFZExecutor) -> None:
    """The repr names the error of a failed initializer without its traceback, and at most some hundred characters."""
    for text, shown in (
        ("it failed: ZeroDivisionError\nTraceback (most recent call last):\n  ...", "it failed: ZeroDivisionError"),
        ("x" * 10_000, "x" * 200 + "..."),
        ("", "InitializerFailed"),
    ):
        executor._run.broken = InitializerFailed(text)
        assert f"; broken: {shown}; 0 unfinished;" in repr(executor)
    executor._run.is_shut = True
    assert "; broken: InitializerFailed;" in repr(executor)


def test_an_executor_that_was_shut_down_says_so(executor: DFZExecutor) -> None:
    """An executor that was shut down, and whose run has ended well, is shown as shut down."""
    executor._run._session._end(None)
    assert "1 at once; shut down; 0 unfinished" in repr(executor)
