"""The relays of a manager: which node has one, and which leases use it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any

import pytest

from dfz_ray.manager import relays
from dfz_ray.manager.relays import Relays

NODE, OTHER, THIRD, FOURTH, FIFTH = ("a1" * 28, "b2" * 28, "c3" * 28, "d4" * 28, "e5" * 28)


class RelayActor:
    """The handle of a relay on a node: it answers until it is lost."""

    def __init__(self, node: str) -> None:
        self.node = node
        self.is_lost = self.is_killed = False
        self.identify = SimpleNamespace(remote=self._identify)

    async def _identify(self) -> int:
        if self.is_lost:
            raise ConnectionError("the actor died")
        return 4711


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[RelayActor]:
    """The relays that Ray was asked to start; none of them is looked after for longer than a turn of the loop."""
    started: list[RelayActor] = []

    def start(node: str) -> RelayActor:
        started.append(RelayActor(node))
        return started[-1]

    def remote(**_: Any) -> Callable[[type], Any]:
        def options(scheduling_strategy: Any, **_: Any) -> Any:
            return SimpleNamespace(remote=lambda manager: start(scheduling_strategy.node_id))

        return lambda cls: SimpleNamespace(options=options)

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


async def place(found: Relays, leases: Mapping[str, int], least: int) -> list[Any]:
    """Place leases on nodes, which look for their relays; returns the relays, by node, that they find then."""
    for node, count in leases.items():
        for _ in range(count):
            found.add_lease(node)
            found.find(node, least)
    await take_turns()
    return [found.find(node, least) for node in leases]


def test_small_nodes_share_a_relay(started: list[RelayActor]) -> None:
    """Together they have as many leases as a node with a relay of its own; it is where most of them are."""

    async def test() -> None:
        found = Relays(None)
        assert await place(found, {NODE: 1, OTHER: 2}, least=4) == [None, None]

        assert await place(found, {THIRD: 1}, least=4) == started
        assert [found.find(node, 4) for node in (NODE, OTHER)] == 2 * started
        assert [relay.node for relay in started] == [OTHER]

    asyncio.run(test())


def test_nodes_that_fill_up_share_none(started: list[RelayActor]) -> None:
    """A node has few leases only while they are being placed: it gets a relay of its own, and no other is started."""

    async def test() -> None:
        found = Relays(None)
        nodes = dict.fromkeys((NODE, OTHER), 2)
        for node in nodes:
            found.add_lease(node)
            found.find(node, 2)

        assert await place(found, nodes, least=2) == started
        assert [relay.node for relay in started] == [NODE, OTHER]

    asyncio.run(test())


def test_many_small_nodes_have_several_relays(started: list[RelayActor], monkeypatch: pytest.MonkeyPatch) -> None:
    """A relay serves so many nodes; one whose leases are over makes place for another one."""
    monkeypatch.setattr(relays, "NODES_TOGETHER", 2)

    async def test() -> None:
        found = Relays(None)
        for nodes in ((NODE, OTHER), (THIRD, FOURTH)):
            assert await place(found, dict.fromkeys(nodes, 2), least=4) == 2 * started[-1:]
        assert [relay.node for relay in started] == [NODE, THIRD]

        for _ in range(2):
            found.remove_lease(NODE)
        assert await place(found, {FIFTH: 2}, least=4) == [started[0]]
        assert len(started) == 2

    asyncio.run(test())
