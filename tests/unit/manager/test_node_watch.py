"""Looking at the nodes of the cluster while the manager goes on with its work."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Mapping

import pytest

from dfz_ray.engine.messages import LaneSized
from dfz_ray.manager import node_watch
from dfz_ray.manager.node_watch import NodeWatch
from dfz_ray.specs.resources import Resources

Nodes = list[dict[str, float]]


def watch(monkeypatch: pytest.MonkeyPatch, look: Callable[[], Nodes], heard: list[LaneSized]) -> NodeWatch:
    """A watch over one lane of one CPU, which looks with this function."""

    def live_nodes(held: Mapping[str, float]) -> Nodes:
        return look()

    monkeypatch.setattr(node_watch, "live_nodes", live_nodes)
    return NodeWatch([Resources()], heard.append, lambda tasks: None, lambda: {}, None, {})


async def wait_for(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0)


def test_a_head_that_answers_slowly_does_not_keep_the_manager(monkeypatch: pytest.MonkeyPatch) -> None:
    """The looks that a watch takes by itself run in another thread, also those that are old when they arrive."""
    monkeypatch.setattr(node_watch, "LOOK_S", 0.0)
    monkeypatch.setattr(node_watch, "LOOK_WAITING_S", 0.0)
    monkeypatch.setattr(node_watch, "FRESH_S", -1.0)
    threads: list[threading.Thread] = []
    heard: list[LaneSized] = []

    def look() -> Nodes:
        threads.append(threading.current_thread())
        return [{"CPU": 2.0}]

    async def work() -> None:
        watching = watch(monkeypatch, look, heard)
        await wait_for(lambda: len(heard) >= 3)
        watching.close()

    asyncio.run(work())

    assert {sized.capacity for sized in heard} == {2}
    assert threading.main_thread() not in threads


def test_the_first_tasks_of_a_run_wait_for_no_second_look(monkeypatch: pytest.MonkeyPatch) -> None:
    """A look taken while the run was opened serves the lanes that come at once, not those that come later."""
    monkeypatch.setattr(node_watch, "FRESH_S", 60.0)
    looks = 0
    heard: list[LaneSized] = []

    def look() -> Nodes:
        nonlocal looks
        looks += 1
        return [{"CPU": float(looks)}]

    async def work() -> None:
        watching = watch(monkeypatch, look, heard)
        watching.look_ahead()
        await wait_for(lambda: len(asyncio.all_tasks()) <= 2)  # this one, and the watch: the look has arrived
        watching.size([0])
        monkeypatch.setattr(node_watch, "FRESH_S", -1.0)
        watching.size([0])
        watching.close()

    asyncio.run(work())

    assert [sized.capacity for sized in heard] == [1, 2]


def test_a_look_that_was_overtaken_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nodes that came while a look was on its way stay known when that look arrives."""
    began, goes_on = threading.Event(), threading.Event()
    heard: list[LaneSized] = []

    def look() -> Nodes:
        if threading.current_thread() is threading.main_thread():
            return [{"CPU": 2.0}, {"CPU": 2.0}]
        began.set()
        assert goes_on.wait(30)
        return [{"CPU": 2.0}]

    async def work() -> None:
        monkeypatch.setattr(node_watch, "LOOK_S", 0.0)
        monkeypatch.setattr(node_watch, "LOOK_WAITING_S", 0.0)
        watching = watch(monkeypatch, look, heard)
        await wait_for(began.is_set)
        watching.size([0])
        goes_on.set()
        await wait_for(lambda: len(heard) == 2)
        watching.close()

    asyncio.run(work())

    assert [sized.capacity for sized in heard] == [4, 4]
