"""An answer arrives, or is known to be lost: a worker never waits for one for ever."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any

import pytest

from dfz_ray.worker import answer as answer_module
from dfz_ray.worker.answer import Answer, AnswerLost


class Reference:
    """As Ray's: Ray sets the future that it makes."""

    def __init__(self) -> None:
        self.held: list[Future[Any]] = []

    def future(self) -> Future[Any]:
        self.held.append(Future())
        return self.held[-1]


def test_an_answer_is_read_once_it_is_here() -> None:
    """It is here when Ray has set it, and whoever waits is told."""
    reference, told = Reference(), threading.Event()
    answer = Answer(reference, told.set)
    assert not answer.is_here

    reference.held.pop().set_result("chunk")

    assert answer.is_here
    assert told.is_set()
    assert answer.read() == "chunk"


def test_the_error_of_an_answer_is_raised() -> None:
    """An error of the manager is that of the call."""
    reference = Reference()
    answer = Answer(reference)
    reference.held.pop().set_exception(ValueError("no run"))
    with pytest.raises(ValueError, match="no run"):
        answer.read()


def test_an_answer_that_ray_has_and_can_not_unpack_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """The one who waits is told, and the answer is waited for as long as Ray does not have it."""
    looks = [False, False, *[True] * 10]
    ray_has = SimpleNamespace(connected=True, core_worker=SimpleNamespace(object_exists=lambda _: looks.pop(0)))
    monkeypatch.setattr(answer_module, "global_worker", ray_has)
    monkeypatch.setattr(answer_module, "LOOK_S", 0.01)
    monkeypatch.setattr(answer_module, "LOST_S", 0.03)
    with pytest.raises(AnswerLost, match="spoiled"):
        Answer(Reference()).read()
    assert len(looks) == 7
