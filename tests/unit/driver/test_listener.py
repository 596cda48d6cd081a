"""Task events are decoded into ends of tasks, each of which is reported once."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import threading
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from support.journal_rows import completion
from support.small_run import cancelled, completed, handed_out, make_run

from dfz_ray.driver.listener import Completed, EventDecoder, ListeningThread, RunListener, read_events
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

    thread = ListeningThread("listens", changed, lambda: bool(due), lambda: bool(due), lambda call: "news", report)
    thread.start()
    assert heard.wait(10)
    assert thread.is_alive()
    thread.stop()
    thread.join(10)
    assert not thread.is_alive()
    assert thread.error is None


def test_a_listening_thread_keeps_its_error() -> None:
    """If listening fails the thread ends, and everyone who waits for a change is woken."""

    def take(call: object) -> None:
        raise ConnectionError("gone")

    changed = threading.Condition()
    thread = ListeningThread("listens", changed, lambda: True, lambda: True, take, lambda news: None)
    with changed:
        thread.start()
        assert changed.wait_for(lambda: thread.error is not None, 10)
    thread.join(10)
    with pytest.raises(ConnectionError, match="gone"):
        raise thread.error  # type: ignore[misc]


@contextlib.contextmanager
def at_work(thread: ListeningThread[Any]) -> Iterator[None]:
    """A thread that is idle at first, and is stopped when the block is left."""
    thread.start()
    with thread._changed:
        assert thread._changed.wait_for(lambda: thread._is_idle, 10)
    yield
    thread.stop()
    thread.join(10)
    assert thread.error is None


def test_a_listening_thread_takes_a_call_that_it_is_handed() -> None:
    """While nothing is due it can be handed a call, and makes none itself meanwhile; while it listens it can't."""
    changed, heard = threading.Condition(), threading.Semaphore(0)
    is_due, taken, go_on = [False], list[object](), threading.Event()

    def take(call: object) -> object:
        taken.append(call)
        heard.release()
        return go_on.wait(10)

    def report(news: object) -> None:
        is_due[0] = False

    thread = ListeningThread("listens", changed, lambda: is_due[0], lambda: False, take, report)
    with at_work(thread):
        with thread.handing_over() as hand_over:
            assert hand_over is not None
            with changed:
                is_due[0] = True
                changed.notify_all()
            hand_over("the call that submits")
        assert heard.acquire(timeout=10)
        with thread.handing_over() as hand_over:
            assert hand_over is None
        go_on.set()
        with changed:
            assert changed.wait_for(lambda: thread._is_idle, 10)
    assert taken == ["the call that submits"]


def test_a_call_that_was_handed_over_is_not_replaced() -> None:
    """Before the thread has woken up, another call may want to be handed over: the first one would be lost by that."""
    changed, heard = threading.Condition(), threading.Event()
    is_due, taken = [False], list[object]()

    def take(call: object) -> None:
        taken.append(call)
        is_due[0] = False
        heard.set()

    thread = ListeningThread("listens", changed, lambda: is_due[0], lambda: False, take, lambda news: None)
    with at_work(thread):
        with changed:
            is_due[0] = True
            with thread.handing_over() as hand_over:
                assert hand_over is not None
                hand_over("first")
            with thread.handing_over() as hand_over:
                assert hand_over is None
        assert heard.wait(10)
    assert taken == ["first"]


@pytest.mark.parametrize("why", ["tasks are open", "ends are not on the disk"])
def test_a_listening_thread_that_is_handed_no_call_makes_one(why: str) -> None:
    """A call that was to be handed over can't be made; or ends were reported that are not on the disk yet."""
    changed, heard = threading.Condition(), threading.Event()
    is_true = dict.fromkeys(["tasks are open", "ends are not on the disk"], False)

    def report(news: object) -> None:
        is_true[why] = False
        heard.set()

    is_due, is_behind = [functools.partial(is_true.__getitem__, one) for one in is_true]
    thread = ListeningThread("listens", changed, is_due, is_behind, lambda call: call, report)
    with at_work(thread):
        with thread.handing_over(), changed:
            is_true[why] = True
            changed.notify_all()
        assert heard.wait(10)


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
