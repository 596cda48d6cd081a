"""The run behind an executor, without a manager, and what the executor shows of it."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.interrupts import interrupted

from dfz_ray import DFZExecutor
from dfz_ray.driver.run_session import RunSession
from dfz_ray.errors import ClusterUnusable, Unserializable
from dfz_ray.executor.open_tasks import OpenTasks
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


class Call:
    """A call that was sent."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.is_wanted = True

    def on_cancelled(self) -> None:
        """The run cancels it."""


def test_after_an_interrupted_cancellation_others_are_asked_for(executor: DFZExecutor) -> None:
    """Wherever Ctrl-C interrupts a cancellation, what was to be cancelled is, and later ones reach the manager."""
    run, session = executor._run, executor._run._session
    for function, line in itertools.product((OpenTasks.cancel, OpenTasks._ask_to_cancel, RunSession.cancel), range(20)):
        with interrupted(function, line):
            run.cancel([Call(1)])  # type: ignore[list-item]
        run.cancel([Call(2)])  # type: ignore[list-item]
        assert 2 in run._to_cancel
        assert session._commands
        run._to_cancel.clear()  # as when the manager has been told
        session._commands.clear()


def test_no_call_waits_that_nobody_is_asked_to_send(executor: DFZExecutor) -> None:
    """Wherever Ctrl-C interrupts the sending of a call, it is sent or taken back, and later calls are sent."""
    run, session = executor._run, executor._run._session
    for function, line in itertools.product((OpenTasks.send, RunSession.submit_later), range(20)):
        session._commands.clear()
        run._waiting.clear()
        run._is_asked = False
        with interrupted(function, line):
            run.send([Call(1)])  # type: ignore[list-item]
        assert session._commands or not run._waiting
        run.send([Call(2)])  # type: ignore[list-item]
        assert session._commands


def test_a_call_that_refers_to_an_executor_or_a_future(executor: DFZExecutor) -> None:
    """It is refused with a sentence that says what to do instead."""
    executor._run._session._commands.clear()
    future = executor.submit(abs, -1)
    view = executor.options(cpus=1)
    for held, advice in ((executor, "make one there"), (view, "make one there"), (future, "send its result")):
        with pytest.raises(Unserializable, match=advice):
            executor.submit(lambda held=held: held)
