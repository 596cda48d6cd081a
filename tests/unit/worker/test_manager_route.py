"""The way of a lease's messages."""

from __future__ import annotations

import math
from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any

import pytest

from dfz_ray.protocol.lease_protocol import Message
from dfz_ray.protocol.orders import Order, pack_order
from dfz_ray.protocol.reports import Report
from dfz_ray.worker import manager_route
from dfz_ray.worker.answer import LOOK_S, Answer, AnswerLost
from dfz_ray.worker.manager_route import ManagerRoute, RelayLost


class Untouched:
    """A handle that nobody may use."""

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"{name} was called")


def test_a_worker_that_is_disconnected_from_ray_calls_nobody() -> None:
    """Ray would start another Ray for such a call, in the worker, and take half a minute for it."""
    route = ManagerRoute(Untouched(), "run")

    with pytest.raises(AnswerLost, match="a task has disconnected its worker from Ray"):
        route.send(Report(1, 1, None, None, None, None, True, 0))
    with pytest.raises(AnswerLost):
        route.get_file("0" * 64)


class Handle:
    """The handle of a manager or a relay, and its answer to a report; a frozen one answers nothing."""

    def __init__(self, answer: Any = None) -> None:
        self.answer = answer
        self.is_frozen = False
        self.probes = 0
        self.exchange = SimpleNamespace(remote=lambda report: self._call(self.answer))
        self.identify = SimpleNamespace(remote=self._identify)

    def _call(self, answer: Any) -> Any:
        future: Future[Any] = Future()
        if answer is not None and not self.is_frozen:
            future.set_result(answer)
        return SimpleNamespace(future=lambda: future)

    def _identify(self) -> Any:
        self.probes += 1
        return self._call(4711)


def send_through(relay: Handle, monkeypatch: pytest.MonkeyPatch) -> tuple[ManagerRoute, Answer]:
    """A route that has learned of a relay, and a report that goes through that and is not answered."""
    monkeypatch.setattr(manager_route, "check_connection", lambda: None)
    manager = Handle(pack_order(Order(1, Message.NOTED, relay=relay)))
    route = ManagerRoute(manager, "run")
    assert route.read_if_here(Answer(route.send(Report(1, 1))), 0.0) is not None
    return route, Answer(route.send(Report(1, 2)))


def look(route: ManagerRoute, answer: Answer, until_s: float) -> list[float]:
    """Look for the answer until it has been silent for so long; returns the silence at each look."""
    looks = [0.0]
    while looks[-1] < until_s:
        looks.append(looks[-1] + max(0.001, route.find_pause(looks[-1])))
        try:
            assert route.read_if_here(answer, looks[-1]) is None
        except RelayLost:
            break
    return looks


def test_a_frozen_relay_is_given_up_within_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker with several threads looks when the relay is to be asked, and when its answer is due."""
    relay = Handle()
    relay.is_frozen = True
    route, answer = send_through(relay, monkeypatch)

    looks = look(route, answer, until_s=60)

    assert looks[-1] == pytest.approx(1.0, abs=0.01)
    assert (relay.probes, len(looks) < 6) == (1, True)


def test_a_relay_that_is_there_is_kept_however_slow_the_manager_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is asked every second, and by no look in between."""
    relay = Handle()
    route, answer = send_through(relay, monkeypatch)

    looks = look(route, answer, until_s=60)

    assert looks[-1] >= 60
    assert 40 < relay.probes < 70
    assert len(looks) < 140


def test_a_report_that_goes_directly_needs_no_look(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also after its relay was given up."""
    route, _ = send_through(Handle(), monkeypatch)
    assert route.find_pause(0.0) < LOOK_S
    route.send_directly()
    assert route.find_pause(0.0) == math.inf
