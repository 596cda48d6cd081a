"""The status of a run in its folder, and requests there, which the process that works on the run executes."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest
from support.small_run import make_run

from dfz_ray.journal.cancel_requests import CancelRequest, file_request, read_requests
from dfz_ray.journal.run_activity import Activity
from dfz_ray.journal.run_status import RunStatus, read_status, write_status
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
        await publisher.close()

    asyncio.run(work())
    assert cancelled == [None]


def test_a_run_is_looked_at_once_for_each_status(tmp_path: Path) -> None:
    """A look measures the time since the one before; the load of a second one would be that of no time at all."""
    folder = tmp_path / "run"
    make_run(folder, ["a"]).close()
    looks: list[int] = []
    written: list[RunStatus] = []

    def read() -> Reading:
        looks.append(1)
        return Reading([1, 0, 0, 0, 0], 1, "", 0, len(looks), (), Activity())

    async def cancel(numbers: set[int] | None, scope: str) -> None:
        """Nobody asks for that."""

    async def work() -> None:
        publisher = StatusPublisher(folder, {}, 1, read, cancel, written.append)
        async with asyncio.timeout(30):
            while not written:
                await asyncio.sleep(0.001)
        await publisher.close()

    asyncio.run(work())
    assert [status.commits for status in written] == [1, 2]


def test_the_last_status_stands_however_slow_the_disk_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While a status is written the manager goes on; one that is written late does not replace the last one."""
    begun, may_end = threading.Event(), threading.Event()

    def write_slowly(folder: Path, status: RunStatus) -> None:
        if status.working:
            begun.set()
            threading.Timer(0.2, may_end.set).start()
            assert may_end.wait(30)
        write_status(folder, status)

    monkeypatch.setattr(status_publisher, "write_status", write_slowly)
    folder = tmp_path / "run"
    make_run(folder, ["a"]).close()

    async def cancel(numbers: set[int] | None, scope: str) -> None:
        """Nobody asks for that."""

    async def work() -> None:
        reading = Reading([1, 0, 0, 0, 0], 1, "", 0, 1, (), Activity())
        publisher = StatusPublisher(folder, {}, 1, lambda: reading, cancel, lambda status: None)
        async with asyncio.timeout(30):
            while not begun.is_set():
                await asyncio.sleep(0.001)
            assert not may_end.is_set()  # this loop goes on meanwhile
        await publisher.close()

    asyncio.run(work())
    status = read_status(folder)
    assert status is not None
    assert not status.working
