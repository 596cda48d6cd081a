"""Every future ends, and every task of a handle, whatever a program does when it hears of an end, or is interrupted."""

from __future__ import annotations

import dataclasses
import gc
import sys
import time
from collections.abc import Iterable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest
from support.calls import DEADLINE_S

from dfz_ray import DFZExecutor, domain, run
from dfz_ray.domains.registry import REGISTRY
from dfz_ray.driver.domain_shipping import ship_by_value
from dfz_ray.dropin.concurrent_task_manager import ConcurrentTaskManager
from dfz_ray.handle import BatchHandle
from dfz_ray.specs.batch_checks import read_batch
from dfz_ray.specs.run_config import RunConfig

ship_by_value(sys.modules[__name__])  # the workers need not have this module
pytestmark = pytest.mark.usefixtures("cluster")


@dataclasses.dataclass(frozen=True)
class Quota(Exception):
    """An error that takes no attributes, as frozen dataclasses do."""


@domain("large_bytes")
def make_bytes(size: int = 2**19, *, seed: int = 0) -> bytes:
    """A result that is a file."""
    return bytes(size)


def exceed() -> None:
    raise Quota


def double(number: int) -> int:
    return 2 * number


def test_an_error_that_takes_no_attributes(executor: DFZExecutor) -> None:
    """It reaches its future like any other, and the executor goes on."""
    assert isinstance(executor.submit(exceed).exception(DEADLINE_S), Quota)
    assert executor.submit(double, 2).result(DEADLINE_S) == 4


def test_a_callback_that_exits_ends_no_other_future(caplog: pytest.LogCaptureFixture) -> None:
    """The thread that hears of ends goes on, at the end of the run, too; the log has what the callback has raised."""

    def leave(future: Future[Any]) -> None:
        raise SystemExit(future.exception() is not None)

    with DFZExecutor(2) as executor:
        failing = [executor.submit(exceed) for _ in range(3)]
        for future in failing:
            future.add_done_callback(leave)
        assert [executor.submit(double, n).result(DEADLINE_S) for n in range(3)] == [0, 2, 4]
        assert [type(future.exception(DEADLINE_S)) for future in failing] == [Quota] * 3
    assert "a callback at the end of a task raised" in caplog.text


class Interrupting:
    """An argument at which Ctrl-C comes while it is pickled."""

    def __reduce__(self) -> Any:
        raise KeyboardInterrupt


def test_an_interrupted_map_keeps_no_executor_open() -> None:
    """Ctrl-C while the calls of a map are packed: the executor can be left, and works until then."""
    with DFZExecutor(2) as executor:
        for size in (1, None):
            with pytest.raises(KeyboardInterrupt):
                executor.map(double, [1, 2, Interrupting()], chunksize=size)  # type: ignore[list-item]
            assert executor.submit(double, 2).result(DEADLINE_S) == 4


def test_an_interrupted_submit_leaves_the_next_ones_alone(
    executor: DFZExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If Ctrl-C comes before the call is on its way, the next call is sent nevertheless."""
    session = executor._run._session

    def interrupt(take: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(session, "submit_later", interrupt)
        with pytest.raises(KeyboardInterrupt):
            executor.submit(double, 1)
    assert executor.submit(double, 2).result(DEADLINE_S) == 4


def test_an_interrupted_submit_of_the_dropin_ends_its_task(monkeypatch: pytest.MonkeyPatch) -> None:
    """A task that was not sent, for its sender was interrupted, has failed; nobody waits for it."""
    with ConcurrentTaskManager(2) as manager:

        def interrupt(tasks: Iterable[Any]) -> None:
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(manager, "_send", interrupt)
            with pytest.raises(KeyboardInterrupt):
                manager.submit_task(lambda task, _: task, {"id": "interrupted"})
        assert manager.submit_task(lambda task, _: task["id"], {"id": "next"}).result(DEADLINE_S) == "next"
        assert {name: one["status"] for name, one in manager.wait_all(DEADLINE_S).items()} == {
            "interrupted": "failed",
            "next": "completed",
        }


def test_a_handle_ends_although_its_end_raises() -> None:
    """What is called at the end may exit, e.g. a progress bar whose terminal is gone: the results are there."""
    batch = read_batch({"tasks": [{"domain": "large_bytes", "parameters": {"size": 8}}] * 3}, REGISTRY)

    def leave() -> None:
        raise SystemExit(1)

    handle = BatchHandle(batch, RunConfig.of(max_workers=2), on_end=leave)
    assert handle.wait(DEADLINE_S)
    assert handle.results(DEADLINE_S).counts["completed"] == 3


def test_a_buffered_map_ends_by_an_error_if_its_executor_is_gone() -> None:
    """Where nobody holds the executor any more, the items that are left are not dropped without a word."""
    results = DFZExecutor(2).map(double, range(50), buffersize=2)
    gc.collect()
    with pytest.raises(RuntimeError, match="cannot schedule new futures after the executor was deleted"):
        list(results)


def test_a_buffered_map_goes_through_the_submit_of_a_subclass() -> None:
    """A subclass that replaces `submit` gets all chunks, not only the first ones."""
    submitted = []

    class Counting(DFZExecutor):
        def submit(self, *given: Any, **options: Any) -> Future[Any]:  # type: ignore[override]
            submitted.append(given)
            return super().submit(*given, **options)

    with Counting(2) as executor:
        assert list(executor.map(double, range(8), buffersize=2)) == [2 * n for n in range(8)]
    assert len(submitted) == 8


def test_records_keep_their_large_results() -> None:
    """Records that were taken from the Results of a temporary run can be read when the Results are gone."""
    records = list(run([{"domain": "large_bytes"}] * 2, max_workers=2, progress=False))
    gc.collect()
    assert [len(record.result) for record in records] == [2**19] * 2
    folder = Path(str(records[0].stored_result)).parents[1]
    assert folder.exists()
    records.clear()
    deadline = time.monotonic() + 10
    while folder.exists():
        gc.collect()
        assert time.monotonic() < deadline
