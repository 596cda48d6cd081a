"""The records of a batch as its tasks end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support.small_run import make_run

from dfz_ray.domains.registry import REGISTRY
from dfz_ray.driver.run_session import RunSession
from dfz_ray.errors import InvalidInput
from dfz_ray.handle import BatchHandle, Completing, _EndedTasks
from dfz_ray.specs.batch_checks import read_batch
from dfz_ray.specs.encoding import encode
from dfz_ray.specs.run_config import RunConfig


def test_a_batch_that_ends_as_the_time_is_over() -> None:
    """Records that come between the timeout and the look at the batch's end are not dropped."""
    batch = read_batch({"tasks": [{"domain": "sorting", "parameters": {"list_length": 8}}] * 2}, REGISTRY)
    ended = _EndedTasks(batch, True, lambda counts: None, lambda failure: None)

    class Handle:
        """A handle of a batch that ends when somebody asks whether it has."""

        @property
        def done(self) -> bool:
            if not ended.is_over:
                ended.on_completed([(number, encode({}), 0.0, 0.1) for number in range(2)], "node")
                ended.on_end(None)
            return ended.is_over

        def wait(self) -> bool:
            return self.done

    records = Completing(Handle(), ended, timeout_s=0.0)  # type: ignore[arg-type]
    assert [record.status for record in records] == ["completed"] * 2


def submit(folder: Path | None, *ids: str) -> BatchHandle:
    """A handle of a batch, whose run is never opened."""
    tasks = [{"id": task_id, "domain": "sorting", "parameters": {"list_length": 8}} for task_id in ids]
    return BatchHandle(read_batch({"tasks": tasks}, REGISTRY), RunConfig(run_dir=folder))


def test_an_id_that_a_new_run_does_not_have_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A misspelt id cancels nothing, so it is told at once, together with the others and the likeliest meant one."""
    monkeypatch.setattr(RunSession, "start", lambda session: None)
    handle = submit(None, "first", "second")
    with pytest.raises(InvalidInput, match=r"found 'frist'; expected the id of a task of the run.*mean 'first'"):
        handle.cancel(["first", "frist"])
    handle.cancel(["first"])
    handle.cancel("second")
    handle.cancel()


def test_an_id_that_a_run_folder_does_not_have_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The tasks of a run folder are known when it is opened: no id is refused before, and a warning comes then."""
    monkeypatch.setattr(RunSession, "start", lambda session: None)
    asked: list[Any] = []
    monkeypatch.setattr(RunSession, "cancel", lambda session, find, scope: asked.append(find))
    make_run(tmp_path, ["earlier"]).close()
    handle = submit(tmp_path, "first")
    handle.cancel(["earlier", "nowhere"])
    handle._ended.on_known([("earlier", "coin", "coin of 3")])
    assert asked[0]() == [0]
    assert "found 'nowhere'; expected the id of a task of the run" in caplog.text
