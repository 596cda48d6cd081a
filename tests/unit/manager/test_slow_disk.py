"""Waits of slots for the disk: the manager holds its answers back then, and is not full by that."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from dfz_ray.engine.engine import EngineOptions
from dfz_ray.journal.recovery import open_for_work
from dfz_ray.journal.run_activity import ManagerLoad
from dfz_ray.journal.run_status import read_status
from dfz_ray.manager import group_commit, status_publisher
from dfz_ray.manager.active_run import ActiveRun
from dfz_ray.manager.later import Later
from dfz_ray.manager.manager_cost import LEAST_S, ManagerCost
from dfz_ray.manager.relays import Relays
from dfz_ray.protocol.reports import Report
from dfz_ray.protocol.submission import RunOptions

LEASE = 7
SHORTER_S = 1e-6
"""Less than a commit takes."""


def read_load(
    folder: Path, use: Callable[[ActiveRun], Awaitable[None]], cost: ManagerCost | None = None
) -> ManagerLoad:
    """The load of a run as its last status tells it, after something has used the run."""

    async def work() -> None:
        opened, options = open_for_work(folder, {"run_id": "r"}), RunOptions(EngineOptions(slots=1), 2**18, True, None)
        run = ActiveRun("r", folder, opened, options, None, {"run_id": "r"}, cost or ManagerCost(), Relays(None))
        await asyncio.sleep(0)  # the first beat of its status passes
        try:
            await use(run)
        finally:
            await run.close(0.0)

    asyncio.run(work())
    status = read_status(folder)
    assert status is not None
    assert status.activity is not None
    assert status.activity.load is not None
    return status.activity.load


async def exchange_with_waits(run: ActiveRun) -> None:
    """A lease reports, waits for the answer, and reports the wait."""
    for report in Report(LEASE, 1, asks=False), Report(LEASE, 2, asks=False, waited_s=SHORTER_S):
        order = run.reports.exchange(report)
        if isinstance(order, Later):
            await order


async def gather_with_waits(run: ActiveRun) -> None:
    """The same through a relay, whose whole group is held back."""
    run.reports.take(Report(LEASE, 1, asks=False), is_direct=False)
    begun = time.monotonic()
    await run.reports.keep_up()
    run.reports.note_held(LEASE, time.monotonic() - begun)
    run.reports.take(Report(LEASE, 2, asks=False, waited_s=SHORTER_S), is_direct=False)


@pytest.fixture(autouse=True)
def _one_status(monkeypatch: pytest.MonkeyPatch) -> None:
    """The next status of a run is its last one, however slow the machine is."""
    monkeypatch.setattr(status_publisher, "EACH_S", 3600.0)


@pytest.mark.parametrize("exchange", [exchange_with_waits, gather_with_waits])
def test_a_wait_for_the_disk_is_no_wait_for_the_manager(
    exchange: Callable[[ActiveRun], Awaitable[None]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While results wait for the disk, no answer leaves; the time that a slot waits by that is the disk's."""
    monkeypatch.setattr(group_commit, "MOST_BYTES", -1)

    load = read_load(tmp_path / "run", exchange)

    assert load.wait_share == load.wait_s == 0
    assert load.disk_share > 0


def test_a_wait_for_the_manager_is_one(tmp_path: Path) -> None:
    """With a disk that keeps up, all of it counts."""
    load = read_load(tmp_path / "run", exchange_with_waits)

    assert load.wait_s == pytest.approx(SHORTER_S)
    assert load.disk_share == 0


def test_a_run_that_is_over_keeps_no_manager_full(tmp_path: Path) -> None:
    """Whatever its last look has found: chunks of later runs cost their CPU time again."""
    times_s = itertools.count(step=0.01)
    cost = ManagerCost(lambda: next(times_s), lambda: 0.0)

    async def wait_long(run: ActiveRun) -> None:
        run.reports.exchange(Report(LEASE, 1, asks=False, waited_s=1e6))

    assert read_load(tmp_path / "run", wait_long, cost).is_full
    for _ in range(100):
        cost.on_chunk(1)
    assert cost.chunk_s == LEAST_S
