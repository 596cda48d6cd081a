"""The calls of a run's leases, watched and ended."""

from __future__ import annotations

import asyncio

import pytest

from dfz_ray.engine.messages import LeaseEnded, LeaseLost
from dfz_ray.manager.lease_calls import LeaseCalls
from dfz_ray.manager.relays import Relays
from dfz_ray.protocol.reports import Place


@pytest.mark.parametrize("steps", range(4))
def test_a_lease_may_end_in_the_moment_in_which_it_is_to_be_killed(steps: int) -> None:
    """When a run is closed, a lease that ends at the end of its grace fails nothing."""
    over: list[LeaseEnded | LeaseLost] = []
    failures: list[BaseException] = []

    async def close() -> None:
        calls = LeaseCalls(1.0, over.append, lambda lease: False, failures.append, Relays(), None)
        call = asyncio.get_running_loop().create_future()
        calls.watch(7, call)
        calls.place(7, Place("host", "node", 4711, 1.0, "run/7"))
        closing = asyncio.create_task(calls.end_placed(0.0, 60.0))
        for _ in range(steps):
            await asyncio.sleep(0)
        call.set_result(None)
        await closing
        await asyncio.sleep(0)

    asyncio.run(close())
    assert over == [LeaseEnded(7)]
    assert failures == []
