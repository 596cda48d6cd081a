"""The calls of a run's leases: made, watched and ended."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import ray

from dfz_ray.engine.messages import InterruptLease, KillLease, LeaseEnded, LeaseLost
from dfz_ray.manager import lease_calls, worker_control
from dfz_ray.manager.lease_calls import LeaseCalls
from dfz_ray.manager.relays import Relays
from dfz_ray.protocol.reports import Place

PLACE = Place("host", "node", 4711, 1.0, "run/0")


class Watched:
    """Lease calls, and all that they tell."""

    def __init__(self, grace_s: float = 1.0) -> None:
        self.over: list[LeaseEnded | LeaseLost] = []
        self.failures: list[BaseException] = []
        self.calls = LeaseCalls(
            grace_s, self.over.append, lambda lease: False, self.failures.append, Relays(None), None
        )

    def watch(self, lease: int) -> asyncio.Future[None]:
        """Watch the call of a lease that Ray has placed."""
        call: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.calls.watch(lease, 0, call)
        self.calls.place(lease, PLACE._replace(marker=f"run/{lease}"))
        return call


@pytest.fixture
def killed(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The calls that Ray was asked to cancel by force: they end by it."""
    killed: list[Any] = []

    def cancel(call: asyncio.Future[None], *, force: bool) -> None:
        assert force
        killed.append(call)
        call.set_result(None)

    monkeypatch.setattr(ray, "cancel", cancel)
    return killed


@pytest.mark.parametrize("steps", range(4))
@pytest.mark.usefixtures("killed")
def test_a_lease_may_end_in_the_moment_in_which_it_is_to_be_killed(steps: int) -> None:
    """When a run is closed, a lease that ends at the end of its grace fails nothing."""

    async def close() -> Watched:
        watched = Watched()
        call = watched.watch(7)
        closing = asyncio.create_task(watched.calls.end_placed(lambda: {7}, 0.0))
        for _ in range(steps):
            await asyncio.sleep(0)
        if not call.done():
            call.set_result(None)
        await closing
        await asyncio.sleep(0)
        return watched

    watched = asyncio.run(close())
    assert watched.over == [LeaseEnded(7)]
    assert watched.failures == []


def test_a_lease_without_work_has_the_time_to_return(killed: list[Any]) -> None:
    """A run that is closed without a grace kills a worker that executes something, not one that is about to return."""

    async def close() -> Watched:
        watched = Watched()
        idle, busy = watched.watch(1), watched.watch(2)
        closing = asyncio.create_task(watched.calls.end_placed(lambda: {2}, 0.0))
        for _ in range(20):
            await asyncio.sleep(0)
        assert killed == [busy]
        assert not closing.done()
        idle.set_result(None)
        await closing
        return watched

    watched = asyncio.run(close())
    assert watched.over == [LeaseEnded(2), LeaseEnded(1)]
    assert (len(killed), watched.failures) == (1, [])


def test_a_lease_that_does_not_return_is_killed(killed: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Although it holds no work: a run can be closed even if a worker hangs."""
    monkeypatch.setattr(lease_calls, "RETURN_S", 0.0)

    async def close() -> Watched:
        watched = Watched()
        hung = watched.watch(1)
        await watched.calls.end_placed(set, 0.0)
        assert killed == [hung]
        return watched

    assert asyncio.run(close()).over == [LeaseEnded(1)]


def test_leases_are_called_between_other_events(monkeypatch: pytest.MonkeyPatch) -> None:
    """These have their turn after calls that take long; after an error, or once the run is closed, no more are made."""
    monkeypatch.setattr(lease_calls, "STARTS_S", 0.0)
    steps: list[Any] = []

    def call(lease: int) -> asyncio.Future[None]:
        steps.append(lease)
        if lease == 3:
            raise ValueError("no such function")
        return asyncio.get_running_loop().create_future()

    async def start() -> Watched:
        watched = Watched()
        for lease in range(5):
            watched.calls.start(lease, 0, lambda lease=lease: call(lease))  # type: ignore[misc]
        for _ in range(8):
            asyncio.get_running_loop().call_soon(steps.append, "other")
            await asyncio.sleep(0)
        watched.calls.start(6, 0, lambda: call(6))
        await watched.calls.end_placed(set, 0.0)
        await asyncio.sleep(0)
        return watched

    watched = asyncio.run(start())
    assert steps == [0, "other", 1, "other", 2, "other", 3, *["other"] * 5]
    assert [str(failure) for failure in watched.failures] == ["no such function"]


def test_calls_that_take_no_time_are_made_at_once() -> None:
    """Thousands of leases do not wait for thousands of other events."""

    async def start() -> int:
        watched = Watched()
        for lease in range(1000):
            watched.calls.start(lease, 0, asyncio.get_running_loop().create_future)
        for _ in range(200):
            await asyncio.sleep(0)
        return watched.calls.count_unplaced()[0]

    assert asyncio.run(start()) == 1000


def test_only_leases_that_were_called_have_a_request_at_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that are to be called have none, and neither has one that Ray has placed."""
    monkeypatch.setattr(lease_calls, "STARTS_S", 0.0)

    async def start() -> list[dict[int, int]]:
        watched, counts = Watched(), []
        for lease, lane in enumerate([0, 1, 1, 1]):
            watched.calls.start(lease, lane, asyncio.get_running_loop().create_future)
        counts.append(dict(watched.calls.count_unplaced()))
        for _ in range(4):
            await asyncio.sleep(0)
            counts.append(dict(watched.calls.count_unplaced()))
        watched.calls.place(2, PLACE)
        return [*counts, dict(watched.calls.count_unplaced())]

    assert asyncio.run(start()) == [{}, {0: 1}, {0: 1, 1: 1}, {0: 1, 1: 2}, {0: 1, 1: 3}, {0: 1, 1: 2}]


@pytest.mark.parametrize("executing", [(4,), (3, 4), ()], ids=["cancelled", "both, on threads", "none"])
def test_what_is_executed_beside_a_cancelled_task_is_not_killed(
    executing: tuple[int, ...], killed: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker is killed once it executes the cancelled task itself, or nothing at all: else it will leave it out."""
    looks = iter([(3,), (3,), executing])

    async def read_executing(place: Place) -> tuple[int, ...]:
        assert killed == []
        return next(looks)

    async def read_waited(place: Place, *_: Any) -> float:
        return 0.0

    monkeypatch.setattr(worker_control, "read_executing", read_executing)
    monkeypatch.setattr(worker_control, "read_waited", read_waited)
    monkeypatch.setattr(worker_control, "interrupt", read_waited)
    monkeypatch.setattr(lease_calls, "AGAIN_S", 0.0)

    async def cancel() -> None:
        watched = Watched(grace_s=0.0)
        call = watched.watch(7)
        watched.calls.interrupt(InterruptLease(7, [4]))
        watched.calls.kill(KillLease(7, "cancelled"))
        await call
        assert watched.failures == []

    asyncio.run(cancel())
    assert next(looks, None) is None


def test_no_lease_is_called_once_the_run_is_over() -> None:
    """Also if the engine starts one later, as when a node becomes larger."""

    async def start() -> list[int]:
        watched, called = Watched(), list[int]()
        watched.calls.start(1, 0, lambda: called.append(1))
        watched.calls.start_no_more()
        watched.calls.start(2, 0, lambda: called.append(2))
        for _ in range(5):
            await asyncio.sleep(0)
        assert watched.failures == []
        return called

    assert asyncio.run(start()) == []
