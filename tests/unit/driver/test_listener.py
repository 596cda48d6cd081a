"""Task events are decoded into ends of tasks, each of which is reported once."""

from __future__ import annotations

import functools
import hashlib
import threading
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pytest
from support.journal_rows import completion
from support.small_run import cancelled, completed, handed_out, make_run

from dfz_ray.driver.listener import SETTLE_S, Completed, EventDecoder, ListeningThread, RunListener, read_events
from dfz_ray.journal.folder import RunFolder
from dfz_ray.journal.reader import JournalReader
from dfz_ray.journal.writer import Group
from dfz_ray.protocol.columns import Completions
from dfz_ray.protocol.task_events import FailedTask, TaskEvents
from dfz_ray.specs.encoding import encode
from dfz_ray.specs.states import State

COUNTS = [0] * 5


class Recorder(RunListener):
    """Remembers every report."""

    def __init__(self) -> None:
        self.reports: list[Any] = []

    def on_begun(self, numbers: Iterable[int]) -> None:
        self.reports += [("begun", number) for number in numbers]

    def on_unsuccessful(self, numbers: Iterable[int], is_whole: bool) -> None:
        self.reports += [("unsuccessful", number, is_whole) for number in numbers]

    def on_completed(self, completed: Iterable[Completed], node: str | None) -> None:
        self.reports += [("completed", *one, node) for one in completed]

    def on_failed(self, failures: Sequence[FailedTask]) -> None:
        self.reports += [("failed", one.number, one.reason, one.message) for one in failures]

    def on_cancelled(self, numbers: Sequence[int]) -> None:
        self.reports += [("cancelled", number) for number in numbers]

    def take(self) -> list[Any]:
        """The reports since the last call."""
        taken, self.reports = self.reports, []
        return taken


def completions(*rows: tuple[int, bytes | str]) -> Completions:
    """The columns of tasks that took a second each, from 10 on."""
    return Completions.of([(number, 10.0, 11.0, 1.0, result, bytes(32)) for number, result in rows])


def test_each_kind_of_event_is_reported(tmp_path: Path) -> None:
    """Begun, completed, failed and cancelled tasks are reported, and attempts that did not complete their tasks."""
    recorder = Recorder()
    decoder = EventDecoder(recorder, tmp_path)
    columns = [completions((0, b"a"), (1, b"b")), completions((5, b"c"))]
    failed = FailedTask(2, "timeout", "it took too long", None)

    decoder.decode(TaskEvents(COUNTS, [4], columns, ["here", None], [failed], [3], [2, 2]))

    assert recorder.take() == [
        ("begun", 4),
        ("unsuccessful", 2, False),
        ("unsuccessful", 2, False),
        ("completed", 0, b"a", 10.0, 11.0, "here"),
        ("completed", 1, b"b", 10.0, 11.0, "here"),
        ("completed", 5, b"c", 10.0, 11.0, None),
        ("failed", 2, "timeout", "it took too long"),
        ("cancelled", 3),
    ]


def test_an_end_is_reported_once(tmp_path: Path) -> None:
    """After a manager was lost the whole run is reported again: only ends that were not known are passed on."""
    recorder = Recorder()
    decoder = EventDecoder(recorder, tmp_path)
    failed = FailedTask(1, "exception", "no", None)
    decoder.decode(TaskEvents(COUNTS, (), [completions((0, b"a"))], [None], [failed], [2]))
    recorder.take()

    whole = [completions((0, b"a"), (900, b"b"))]
    decoder.decode(TaskEvents(COUNTS, (), whole, [None], [failed], [2, 3], [1], is_whole=True))
    decoder.decode(TaskEvents(COUNTS, (), [completions((900, b"b"), (4, b"c"))], [None], [], [3]))

    assert recorder.take() == [
        ("unsuccessful", 1, True),
        ("completed", 900, b"b", 10.0, 11.0, None),
        ("cancelled", 3),
        ("completed", 4, b"c", 10.0, 11.0, None),
    ]


def test_large_results_are_read_from_their_files(tmp_path: Path) -> None:
    """A large result arrives as its content, or as the path of its file; a file that has changed is a failed task."""
    folder = RunFolder(tmp_path).results
    folder.mkdir()
    content = b"large"
    name = hashlib.sha256(content).hexdigest()
    (folder / name).write_bytes(content)
    other = hashlib.sha256(b"other").hexdigest()
    (folder / other).write_bytes(b"changed")
    events = TaskEvents(COUNTS, (), [completions((0, name), (1, other), (2, b"small"))], ["here"])

    reading, keeping = Recorder(), Recorder()
    keeping.wants_files = True
    for recorder in (reading, keeping):
        EventDecoder(recorder, tmp_path).decode(events)

    first, second, third = sorted(reading.take(), key=lambda report: report[1])
    assert first == ("completed", 0, content, 10.0, 11.0, "here")
    assert (second[:3], "can't be read" in second[3]) == (("failed", 1, "exception"), True)
    assert third == ("completed", 2, b"small", 10.0, 11.0, "here")
    assert [report[2] for report in keeping.take()] == [folder / name, folder / other, b"small"]


def test_a_listening_thread_ends_when_it_is_stopped() -> None:
    """A thread listens while something is due; stopped, it ends, also while nothing is due."""
    changed, heard = threading.Condition(), threading.Event()
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

    changed = threading.Condition()
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
        self.changed = threading.Condition()
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
            self.changed.notify_all()

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


def test_what_has_happened_since_a_run_was_opened_is_left_to_the_manager(tmp_path: Path) -> None:
    """Attempts and ends in chunks that the present manager hands out are its to report: here they would count twice."""
    writer = make_run(tmp_path, list("abcd"), completed(0, "before"), cancelled(3))
    attempts = [(number, chunk, 1, 1, 5.0, 6.0, 0.5, "exception", None) for number in (1, 2) for chunk in (4, 5)]
    writer.commit(
        Group(
            chunks=[handed_out(chunk, 1, 2) for chunk in (4, 5)] + [handed_out(6, 1)],
            completions=[completion(6, {1: "since"})],
            attempts=attempts,
            outcomes=[(2, State.FAILED, None, "exception", "since", None)],
        )
    )

    with JournalReader(tmp_path) as journal:
        then, now = read_events(journal, next_chunk=5), read_events(journal)

    assert (then.unsuccessful, now.unsuccessful) == ([1, 2], [1, 1, 2, 2])
    assert (then.stored, then.failures, then.cancelled) == ([(0, "host-a")], [], [3])
    assert [one.number for one in now.failures] == [2]


def test_chunks_whose_results_the_manager_does_not_send_are_read_in_the_journal(tmp_path: Path) -> None:
    """Where a report names chunks alone, the listener gets their tasks all the same, each once."""
    make_run(tmp_path, list("abc"), completed(0, "first"), completed(2, "last"))
    recorder = Recorder()
    decoder = EventDecoder(recorder, tmp_path)

    decoder.decode(TaskEvents.unpack(TaskEvents(COUNTS, stored=[(2, "there"), (0, None)]).pack()))
    decoder.decode(TaskEvents(COUNTS, stored=[(0, None)]))

    found = [(name, number, result, node) for name, number, result, *_, node in recorder.take()]
    assert found == [("completed", 2, encode("last"), "there"), ("completed", 0, encode("first"), None)]
