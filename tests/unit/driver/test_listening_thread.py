"""The thread that listens to a manager reads the calls on their way in their order, and makes one when it has to."""

from __future__ import annotations

import functools
import threading
from collections.abc import Iterator
from queue import SimpleQueue

import pytest

from dfz_ray.driver.condition import Condition
from dfz_ray.driver.listening_thread import SETTLE_S, ListeningThread


def test_a_listening_thread_ends_when_it_is_stopped() -> None:
    """A thread listens while something is due; stopped, it ends, also while nothing is due."""
    changed, heard = Condition(), threading.Event()
    due = [True]

    def report(news: str) -> None:
        due.clear()
        heard.set()

    is_due = functools.partial(bool, due)
    thread = ListeningThread("listens", changed, is_due, is_due, lambda: "a call", lambda call: "news", report)
    thread.start()
    assert heard.wait(10)
    assert thread.is_alive()
    thread.stop()
    thread.join(10)
    assert not thread.is_alive()
    assert thread.error is None


def test_a_listening_thread_keeps_its_error() -> None:
    """If listening fails the thread ends, and everyone who waits for a change is woken."""

    def read(call: object) -> None:
        raise ConnectionError("gone")

    changed = Condition()
    thread = ListeningThread("listens", changed, *[lambda: True] * 2, lambda: "a call", read, lambda news: None)
    with changed:
        thread.start()
        assert changed.wait_for(lambda: thread.error is not None, 10)
    thread.join(10)
    with pytest.raises(ConnectionError, match="gone"):
        raise thread.error  # type: ignore[misc]


class Calls:
    """The calls of a thread that listens: each is answered when the test says so."""

    def __init__(self) -> None:
        self.is_due = self.is_behind = self.fails = False
        self.read: list[object] = []
        self.reported: list[object] = []
        self._answers: SimpleQueue[str] = SimpleQueue()
        self.changed = Condition()
        self.thread: ListeningThread[str] = ListeningThread(
            "listens",
            self.changed,
            lambda: self.is_due,
            lambda: self.is_behind,
            lambda: "its own call",
            self._read,
            self._report,
        )

    def _read(self, call: object) -> str:
        self._note(self.read, call)
        if self.fails:
            raise ConnectionError("gone")
        return self._answers.get(timeout=10)

    def _report(self, news: str) -> None:
        self.is_due = self.is_behind = False
        self._note(self.reported, news)

    def _note(self, where: list[object], what: object) -> None:
        with self.changed:
            where.append(what)
            self.changed.notify_all()

    def set(self, **what: bool) -> None:
        """Let news be due, or the counts be behind."""
        with self.changed:
            vars(self).update(what)
            self.thread.wake()

    def hand_over(self, call: str) -> bool:
        """Hand a call over, which makes news due; returns False if the thread takes none now."""
        with self.thread.handing_over() as hand_over:
            if hand_over is not None:
                self.set(is_due=True)
                hand_over(call)
        return hand_over is not None

    def answer(self, news: str) -> None:
        """Answer the oldest call, and wait until its news are reported."""
        with self.changed:
            self._answers.put(news)
            assert self.changed.wait_for(lambda: news in self.reported, 10)

    def wait_for_reading(self, count: int) -> None:
        """Wait until so many calls have been looked at."""
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.read) >= count, 10)


@pytest.fixture
def calls() -> Iterator[Calls]:
    """A thread that listens; nothing is due."""
    made = Calls()
    made.thread.start()
    yield made
    made.thread.stop()
    made.thread.join(10)
    assert made.thread.error is None


def test_a_listening_thread_takes_calls_that_it_is_handed(calls: Calls) -> None:
    """It reads two of them in their order, makes none itself meanwhile, and takes no third one until one is read."""
    with calls.changed:  # it can't read the first one before it has the second one
        assert calls.hand_over("first")
        assert calls.hand_over("second")
        assert not calls.hand_over("third")
    calls.answer("one")
    calls.wait_for_reading(2)
    assert calls.hand_over("fourth")
    calls.answer("two")
    calls.answer("three")

    assert calls.read == ["first", "second", "fourth"]
    assert calls.reported == ["one", "two", "three"]


@pytest.mark.parametrize("why", ["is_due", "is_behind"])
def test_a_listening_thread_makes_no_call_while_it_is_to_be_handed_one(calls: Calls, why: str) -> None:
    """Its own call would be younger at the manager than the one that it gets, and be read before it."""
    with calls.thread.handing_over() as hand_over:
        assert hand_over is not None
        calls.set(**{why: True})
        with calls.changed:
            assert not calls.changed.wait_for(lambda: calls.read, 2 * SETTLE_S)
        hand_over("first")
    calls.answer("news")

    assert calls.read == ["first"]


def test_a_listening_thread_that_fails_reads_what_is_on_its_way(calls: Calls) -> None:
    """Ray would print the error of a call that nobody reads; later ones are refused."""
    with calls.changed:
        assert calls.hand_over("first")
        assert calls.hand_over("second")
        calls.fails = True
    calls.thread.join(10)

    assert isinstance(calls.thread.error, ConnectionError)
    assert calls.read == ["first", "second"]
    assert not calls.hand_over("third")
    calls.thread.error = None  # it was looked at


def test_a_listening_thread_that_is_stopped_reads_the_calls_on_their_way(calls: Calls) -> None:
    """The manager has taken their news from its list: they would be lost."""
    with calls.changed:
        assert calls.hand_over("first")
        assert calls.hand_over("second")
    calls.thread.stop()
    calls.answer("one")
    calls.answer("two")
    calls.thread.join(10)

    assert not calls.thread.is_alive()
    assert calls.read == ["first", "second"]


@pytest.mark.parametrize("why", ["is_due", "is_behind"])
def test_a_listening_thread_that_is_handed_no_call_makes_one(calls: Calls, why: str) -> None:
    """A call that was to be handed over can't be made; or ends were reported that are not on the disk yet."""
    with calls.thread.handing_over():
        calls.set(**{why: True})
    calls.answer("news")

    assert calls.read == ["its own call"]
