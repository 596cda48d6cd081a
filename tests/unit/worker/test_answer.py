"""An answer arrives, or is known to be lost: a worker never waits for one for ever."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from typing import Any

import pytest

from dfz_ray.worker.answer import Answer, AnswerLost


class Reference:
    """As Ray's: only Ray holds the future that it makes."""

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


def test_an_answer_that_ray_could_not_unpack_is_lost() -> None:
    """Ray drops the future without setting it; then the one who waits is told, and raises."""
    reference, told = Reference(), threading.Event()
    answer = Answer(reference, told.set)
    reference.held.clear()
    assert told.is_set()
    with pytest.raises(AnswerLost, match="spoiled"):
        answer.read()
