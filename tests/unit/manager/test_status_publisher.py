"""Requests in a run folder are executed by the process that works on the run, once it knows the run's tasks."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from support.small_run import make_run

from dfz_ray.journal.cancel_requests import CancelRequest, file_request, read_requests
from dfz_ray.journal.run_activity import Activity
from dfz_ray.manager import status_publisher
from dfz_ray.manager.status_publisher import Reading, StatusPublisher


def test_a_request_waits_until_the_tasks_are_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A request that is filed while a run is being opened is kept: at that moment it would find no task to cancel."""
    monkeypatch.setattr(status_publisher, "EACH_S", 0.001)
    folder = tmp_path / "run"
    make_run(folder, ["a", "b", "c"]).close()
    file_request(folder, CancelRequest(whole_run=True))
    counts = [0, 0, 0, 0, 0]
    cancelled: list[set[int] | None] = []

    async def cancel(numbers: set[int] | None, scope: str) -> None:
        assert any(counts)
        cancelled.append(numbers)

    async def work() -> None:
        def read() -> Reading:
            return Reading(counts, 1, "", 0, 1, (), Activity())

        publisher = StatusPublisher(folder, {}, 1, read, cancel, lambda status: None)
        async with asyncio.timeout(30):
            await asyncio.sleep(0.05)
            assert len(read_requests(folder)) == 1
            assert not cancelled
            counts[0] = 3
            while read_requests(folder):
                await asyncio.sleep(0.001)
        publisher.close()

    asyncio.run(work())
    assert cancelled == [None]
