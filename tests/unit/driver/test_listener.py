"""Task events are decoded into ends of tasks, each of which is reported once."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from support.journal_rows import completion
from support.small_run import cancelled, completed, handed_out, make_run

from dfz_ray.driver.listener import Completed, EventDecoder, RunListener, read_events
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
