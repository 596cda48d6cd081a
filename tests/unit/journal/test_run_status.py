"""The status of a run: written by the process that works on it, else counted in the journal."""

from __future__ import annotations

import dataclasses
import json
import os
import pickle
import stat
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.small_run import completed, failed, make_run

from dfz_ray.errors import JournalDamaged
from dfz_ray.journal.lock import LOCK, RunLock, is_held
from dfz_ray.journal.reader import JournalReader
from dfz_ray.journal.run_status import STATUS, RunStatus, ThroughputMeter, find_status, read_status, write_status
from dfz_ray.journal.writer import JournalWriter
from dfz_ray.specs.states import STATES

COUNTS = {state: count for count, state in enumerate(STATES, 1)}
TOLD = RunStatus(
    run_id="r",
    name="demo",
    epoch=3,
    process=4711,
    host="host-a",
    updated_at=1.5,
    working=True,
    counts=COUNTS,
    slots=8,
    why_slots="",
    leases=7,
    tasks_per_s=12.5,
    left_s=None,
    commits=9,
    notices=("two nodes were lost",),
)
NOT_A_STATUS = [
    b"",
    b"{}",
    b"[]",
    b"null",
    b"\xff\xfe",
    b"[" * 100_000,
    b'{"run_id": "r"}',
    *(
        json.dumps({**dataclasses.asdict(TOLD), **change}).encode()
        for change in (
            {"counts": {"pending": 1}},
            {"counts": {**COUNTS, "pending": "1"}},
            {"counts": {**COUNTS, "lost": 1}},
            {"working": 1},
            {"epoch": True},
            {"epoch": None},
            {"left_s": "soon"},
            {"notices": "all is well"},
            {"notices": [1]},
            {"more": 1},
        )
    ),
]


def told_at_the_end(folder: Path) -> RunStatus:
    """The status that a manager writes after its last commit."""
    with JournalReader(folder) as journal:
        return dataclasses.replace(TOLD, working=False, commits=journal.commits(), counts=COUNTS)


# --- the status file --------------------------------------------------------------------------------------------------


def test_what_is_told_is_what_is_read(tmp_path: Path) -> None:
    """A status is read as it was written, by the user alone, and leaves nothing beside it."""
    write_status(tmp_path, TOLD)
    write_status(tmp_path, dataclasses.replace(TOLD, epoch=4))

    assert read_status(tmp_path) == dataclasses.replace(TOLD, epoch=4)
    assert [path.name for path in tmp_path.iterdir()] == [STATUS]
    assert stat.S_IMODE((tmp_path / STATUS).stat().st_mode) == 0o600


@pytest.mark.parametrize("content", NOT_A_STATUS, ids=range(len(NOT_A_STATUS)))
def test_what_is_no_status_is_none(content: bytes, tmp_path: Path) -> None:
    """A file that holds something else, or a status with a field of another kind, is as good as none."""
    (tmp_path / STATUS).write_bytes(content)
    assert read_status(tmp_path) is None


def test_no_status(tmp_path: Path) -> None:
    """Without a status file there is no status."""
    assert read_status(tmp_path) is None
    assert read_status(tmp_path / "no") is None


def test_a_reader_never_sees_half_a_status(tmp_path: Path) -> None:
    """A reader gets the status before or after a replacement, whole."""
    write_status(tmp_path, TOLD)
    done = threading.Event()

    def replace_often() -> None:
        for epoch in range(500):
            write_status(tmp_path, dataclasses.replace(TOLD, epoch=epoch, notices=("x" * epoch * 50,)))
        done.set()

    writer = threading.Thread(target=replace_often)
    writer.start()
    seen = []
    while not done.is_set():
        seen.append(read_status(tmp_path))
    writer.join()

    assert seen
    assert None not in seen
    assert all(found.notices == ("x" * found.epoch * 50,) for found in seen if found and found.epoch != TOLD.epoch)


# --- the lock ---------------------------------------------------------------------------------------------------------


def test_held_while_a_process_works_on_the_run(tmp_path: Path) -> None:
    """A run is held from the taking of its lock to its letting go, and asking takes nothing from anyone."""
    before = is_held(tmp_path)
    lock = RunLock(tmp_path, wait_s=0)
    during = is_held(tmp_path), is_held(tmp_path)
    lock.close()

    assert (before, during, is_held(tmp_path)) == (False, (True, True), False)
    RunLock(tmp_path, wait_s=0).close()
    assert not is_held(tmp_path / LOCK), "a file is no run folder"
    assert not is_held(tmp_path / "no")


# --- what is believed -------------------------------------------------------------------------------------------------


def test_the_process_that_works_on_a_run_is_believed(tmp_path: Path) -> None:
    """While a process holds the run, its status is the one that this process wrote, whatever the journal has."""
    make_run(tmp_path, ["a", "b"]).close()
    lock = RunLock(tmp_path)
    write_status(tmp_path, TOLD)

    assert find_status(tmp_path) == TOLD
    lock.close()


def test_a_holder_that_has_told_nothing_yet(tmp_path: Path) -> None:
    """The status of the previous process is not used for the one that has just taken the run: the journal counts."""
    make_run(tmp_path, ["a", "b"], completed(0, 1)).close()
    write_status(tmp_path, TOLD)
    os.utime(tmp_path / STATUS, (1.0, 1.0))
    lock = RunLock(tmp_path)

    found = find_status(tmp_path)

    lock.close()
    assert found.working
    assert (found.process, found.host) == (0, "")
    assert found.counts == {**dict.fromkeys(STATES, 0), "pending": 1, "completed": 1}


def test_a_run_that_was_killed_is_counted(tmp_path: Path) -> None:
    """The status of a process that was killed is not believed: only commits count."""
    make_run(tmp_path, ["a", "b", "c", "d"], completed(0, 1), failed(1, "exception", "no")).close()
    RunLock(tmp_path).close()
    write_status(tmp_path, TOLD)

    found = find_status(tmp_path)

    assert found.counts == {**dict.fromkeys(STATES, 0), "pending": 2, "completed": 1, "failed": 1}
    assert (found.working, found.leases, found.tasks_per_s, found.left_s) == (False, 0, None, None)
    assert (found.epoch, found.process, found.host) == (3, 4711, "host-a"), "who worked on it last"
    assert (found.run_id, found.name, found.slots) == ("r", "test", 2)
    assert found.updated_at == pytest.approx((tmp_path / "run.sqlite").stat().st_mtime)


@pytest.mark.parametrize("locked", [True, False])
def test_a_run_that_was_closed_need_not_be_counted(locked: bool, tmp_path: Path) -> None:
    """The status that a manager wrote after its last commit holds as long as nothing was committed since."""
    make_run(tmp_path, ["a", "b"], completed(0, 1)).close()
    if locked:
        RunLock(tmp_path).close()
    write_status(tmp_path, told_at_the_end(tmp_path))
    told, closed = told_at_the_end(tmp_path), find_status(tmp_path)

    writer = JournalWriter(tmp_path)
    writer.commit(completed(1, 2, writer.epoch))
    writer.close()

    assert closed == told
    assert find_status(tmp_path).counts == {**dict.fromkeys(STATES, 0), "completed": 2}


def test_whoever_had_the_lock_since_is_not_spoken_for(tmp_path: Path) -> None:
    """A status from before the lock was last taken is not believed: it would miss tasks reopened since."""
    make_run(tmp_path, ["a"], failed(0, "exception", "no")).close()
    write_status(tmp_path, told_at_the_end(tmp_path))
    os.utime(tmp_path / STATUS, (1.0, 1.0))
    RunLock(tmp_path).close()

    assert find_status(tmp_path).counts == {**dict.fromkeys(STATES, 0), "failed": 1}


def test_a_folder_without_a_run_has_no_status(tmp_path: Path) -> None:
    """A folder that holds no run is refused, whatever lies in it."""
    write_status(tmp_path, dataclasses.replace(TOLD, working=False))
    with pytest.raises(JournalDamaged, match="is no run folder"):
        find_status(tmp_path)


# --- the rate ---------------------------------------------------------------------------------------------------------


def meter_of(*points: tuple[float, int]) -> ThroughputMeter:
    meter = ThroughputMeter()
    for now, ended in points:
        meter.note(now, ended)
    return meter


def test_the_rate_is_that_of_the_last_ten_seconds() -> None:
    """A run that has become ten times as fast shows its new rate ten seconds later, and its old one no more."""
    meter = meter_of(*((second, 10 * second) for second in range(100)))
    assert meter.tasks_per_s == pytest.approx(10)

    for second in range(1, 11):
        meter.note(99 + second, 990 + 100 * second)

    assert meter.tasks_per_s == pytest.approx(100)
    assert meter.left_s(500) == pytest.approx(5)


def test_too_little_is_known_at_first() -> None:
    """There is no rate until a second has passed, and no time left until a task has ended."""
    assert (ThroughputMeter().tasks_per_s, ThroughputMeter().left_s(1)) == (None, None)
    assert (meter_of((0, 0), (0.5, 7)).tasks_per_s, meter_of((0, 0), (0.5, 7)).left_s(7)) == (None, None)
    assert (meter_of((0, 0), (5, 0)).tasks_per_s, meter_of((0, 0), (5, 0)).left_s(7)) == (0.0, None)


def test_long_tasks_are_judged_over_the_whole_run() -> None:
    """Where hardly any task ended lately, the time left follows from all that have ended, and does not jump."""
    meter = meter_of(*((second, second // 60) for second in range(601)))

    assert meter.left_s(10) == pytest.approx(600)
    assert meter.tasks_per_s == pytest.approx(0.1)


def test_what_ended_before_gives_no_rate() -> None:
    """A resumed run does not count tasks that had ended when it was opened."""
    assert meter_of((0, 1_000_000), (10, 1_000_020)).tasks_per_s == pytest.approx(2)


@given(st.lists(st.tuples(st.floats(0.001, 30), st.integers(0, 10**6)), max_size=60), st.integers(0, 10**6))
def test_a_rate_is_a_number_that_can_be_shown(steps: list[tuple[float, int]], open_tasks: int) -> None:
    """Whatever ends when, rate and time left are finite and not negative."""
    now, ended, meter = 0.0, 0, ThroughputMeter()
    for seconds, more in steps:
        now, ended = now + seconds, ended + more
        meter.note(now, ended)
        told: list[Any] = [meter.tasks_per_s, meter.left_s(open_tasks)]
        assert all(value is None or 0 <= value < float("inf") for value in told)


def test_a_long_run_takes_no_more_memory() -> None:
    """However long a run takes, no more is kept than the last ten seconds need."""
    short, long = (meter_of(*((second, second) for second in range(1000, 1000 + count))) for count in (12, 10_000))

    assert len(pickle.dumps(long)) <= len(pickle.dumps(short))
