"""The relays of a manager: which node has one, and which leases use it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from dfz_ray.manager import relays
from dfz_ray.manager.relays import Relays

NODE, OTHER = "a1" * 28, "b2" * 28


class RelayActor:
    """The handle of a relay: it answers until it is lost."""

    def __init__(self, started: list[RelayActor]) -> None:
        self.is_lost = self.is_killed = False
        self.identify = SimpleNamespace(remote=self._identify)
        started.append(self)

    async def _identify(self) -> int:
        if self.is_lost:
            raise ConnectionError("the actor died")
        return 4711


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[RelayActor]:
    """The relays that Ray was asked to start; none of them is looked after for longer than a turn of the loop."""
    started: list[RelayActor] = []

    def remote(**_: Any) -> Callable[[type], Any]:
        starter = SimpleNamespace(remote=lambda manager: RelayActor(started))
        return lambda cls: SimpleNamespace(options=lambda **_: starter)

    def kill(relay: RelayActor) -> None:
        relay.is_killed = True

    monkeypatch.setattr(relays, "ray", SimpleNamespace(remote=remote, kill=kill))
    for name in ("LOOK_S", "AGAIN_S"):
        monkeypatch.setattr(relays, name, 0.0)
    return started


async def take_turns() -> None:
    """Let everything happen that needs no time."""
    for _ in range(20):
        await asyncio.sleep(0)


async def make_relays(leases: int, least: int) -> Relays:
    """The relays of a manager that has so many leases on the node; they were looked for once."""
    found = Relays(None)
    for _ in range(leases):
        found.add_lease(NODE)
    found.find(NODE, least)
    await take_turns()
    return found


def test_a_node_with_enough_leases_gets_one_relay(started: list[RelayActor]) -> None:
    """It is there once it answers; with a lease less there is none."""

    async def test() -> None:
        found = await make_relays(leases=2, least=3)
        assert (found.find(NODE, 3), started) == (None, [])

        found.add_lease(NODE)
        assert found.find(NODE, 3) is None
        await take_turns()

        assert [found.find(NODE, 3), found.find(NODE, 3)] == 2 * started
        assert found.find(OTHER, 3) is None

    asyncio.run(test())


def test_a_run_without_relays_uses_none(started: list[RelayActor]) -> None:
    """Also not the one that another run of the same manager has on its node."""

    async def test() -> None:
        found = await make_relays(leases=4, least=2)
        assert [found.find(NODE, 2)] == started
        assert found.find(NODE, None) is None

    asyncio.run(test())


@pytest.mark.usefixtures("started")
def test_a_small_run_uses_no_relay_that_a_large_one_left() -> None:
    """Its leases have to be as many as any run's before they take the second hop."""

    async def test() -> None:
        found = await make_relays(leases=32, least=32)
        assert found.find(NODE, 32) is not None
        for _ in range(32):
            found.remove_lease(NODE)
        for _ in range(31):
            found.add_lease(NODE)
            assert found.find(NODE, 32) is None
        found.add_lease(NODE)
        assert found.find(NODE, 32) is not None

    asyncio.run(test())


@pytest.mark.usefixtures("started")
def test_a_relay_stays_in_use_while_the_number_of_leases_sways() -> None:
    """Until half of the leases have left, new ones are told of it as those before were."""

    async def test() -> None:
        found = await make_relays(leases=8, least=8)
        for _ in range(4):
            found.remove_lease(NODE)
            assert found.find(NODE, 8) is not None
        found.remove_lease(NODE)
        assert found.find(NODE, 8) is None

    asyncio.run(test())


def test_a_relay_that_is_lost_is_replaced(started: list[RelayActor]) -> None:
    """No lease is told of it any more, its process is ended, and another one is started."""

    async def test() -> None:
        found = await make_relays(leases=2, least=2)
        (lost,) = started
        lost.is_lost = True
        await take_turns()
        assert lost.is_killed

        assert found.find(NODE, 2) is None
        await take_turns()
        assert [lost, found.find(NODE, 2)] == started
        assert not started[1].is_killed

    asyncio.run(test())
