"""Gates, at which callers wait for each other."""

from __future__ import annotations

import asyncio

from dfz_ray.manager.gates import MOST_GATES, Gates

NEVER_S = 600.0
"""The tests would not end if anybody waited so long."""


def test_callers_wait_until_all_are_there() -> None:
    """The last one lets all go, and each learns the number."""

    async def meet() -> None:
        gates = Gates()
        first = [asyncio.create_task(gates.arrive("gate", 3, NEVER_S)) for _ in range(2)]
        other = asyncio.create_task(gates.arrive("another gate", 2, NEVER_S))
        await asyncio.sleep(0)
        assert not any(caller.done() for caller in first)
        assert await gates.arrive("gate", 3, NEVER_S) == 3
        assert await asyncio.gather(*first) == [3, 3]
        assert not other.done()
        other.cancel()

    asyncio.run(meet())


def test_whoever_comes_after_the_time_does_not_count() -> None:
    """Once the time is up, the callers that are there are all that there are; a later one neither counts nor waits."""

    async def meet() -> None:
        gates = Gates()
        early = [asyncio.create_task(gates.arrive("gate", 4, 0.01)) for _ in range(3)]
        assert await asyncio.gather(*early) == [3, 3, 3]
        assert await gates.arrive("gate", 4, NEVER_S) == 3
        assert await gates.arrive("gate", 4, NEVER_S) == 3

    asyncio.run(meet())


def test_a_gate_is_opened_for_those_that_wait_in_vain() -> None:
    """A caller that is not to wait lets the others go, those that are there and those that come."""

    async def meet() -> None:
        gates = Gates()
        waiting = [asyncio.create_task(gates.arrive("gate", 4, NEVER_S)) for _ in range(2)]
        await asyncio.sleep(0)
        assert await gates.arrive("gate", 0, NEVER_S) == 2
        assert await asyncio.gather(*waiting) == [2, 2]
        assert [await gates.arrive("gate", 4, NEVER_S) for _ in range(3)] == [2, 2, 2]

    asyncio.run(meet())


def test_many_callers_look_now_and_then() -> None:
    """They need not wait within a call: each arrives once, and looks until the gate is open."""

    async def meet() -> None:
        gates = Gates()
        assert [gates.look("gate", 3) for _ in range(2)] == [None, None]
        assert gates.look("gate", -1) is None
        assert gates.look("gate", 3) == 3
        assert gates.look("gate", -1) == 3

        assert gates.look("late", 2) is None
        assert await gates.arrive("late", 0, 0.0) == 1  # its time is up
        assert gates.look("late", -1) == 1
        assert gates.look("forgotten", -1) == 0

    asyncio.run(meet())


def test_few_gates_are_kept() -> None:
    """A manager lives long: the gates of warm-ups that were given up must not pile up."""

    async def meet() -> None:
        gates = Gates()
        for number in range(3 * MOST_GATES):
            await gates.arrive(f"gate {number}", 0, NEVER_S)
        assert len(vars(gates)["_gates"]) == MOST_GATES
        assert await gates.arrive("gate 0", 1, NEVER_S) == 1

    asyncio.run(meet())
