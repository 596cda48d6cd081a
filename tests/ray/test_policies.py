"""Deadlines, crashes, retries and priorities, on a Ray that runs: only the task that is to blame pays."""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import os
import re
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from support import careless_tasks
from support.attempt_rows import assert_sound, charged_tasks, read_attempts, workers_lost
from support.careless_tasks import fork, hold_the_gil
from support.driver import wait_until

from dfz_ray import domain, run
from dfz_ray.client import Results
from dfz_ray.driver.domain_shipping import ship_by_value
from dfz_ray.journal.run_status import read_status

pytestmark = pytest.mark.usefixtures("cluster")
ship_by_value(sys.modules[__name__])  # the domains call functions of this module

TIMEOUT_S = 0.6
FAR_S = 100.0
"""Far more than anything here takes on a busy machine, and far less than a task that nobody ends."""
SWIFT = {"faults": {"grace_s": 0.3}}
"""For tasks that do not end when they are interrupted."""
PATIENT = {"faults": {"grace_s": FAR_S}}
"""For tasks that do: a busy machine may keep their worker from running for a second."""


@domain("deed")
def deed(what: str = "", note: str = "") -> Any:
    """Do something short, or do as asked."""
    if what:
        _deeds()[what](note)
    return {"lock": threading.Lock()} if what == "return a lock" else {"process": os.getpid()}


@domain("nap")
def nap(s: float = 0.1) -> None:
    """Sleep."""
    time.sleep(s)


@domain("latecomer")
def latecomer(note: str, done: str = "") -> None:
    """Fail until the other one has begun, so as to come again later; then say that it is done."""
    if not Path(note).exists():
        raise ValueError("not yet")
    if done:
        Path(done).touch()


@domain("uneven", repeatable=True)
def uneven(note: str = "") -> int:
    """Take a quarter of a second; with a note the first attempt takes far longer, and the next one no time."""
    first = not note or not Path(note).exists()
    if note:
        Path(note).touch()
    time.sleep(0.25 if not note else 10 * FAR_S if first else 0)
    return os.getpid()


@domain("courteous")
def courteous(begun: str, done: str, most_s: float) -> None:
    """Say that it has begun, and keep the slot until the other one is done, or for so long."""
    Path(begun).touch()
    end = time.monotonic() + most_s
    while not Path(done).exists() and time.monotonic() < end:
        time.sleep(0.01)


@domain("until_told")
def until_told(note: str) -> None:
    """Say which process this is, and wait for a word; at the second time there is nothing to do."""
    if Path(note).exists():
        return
    part = Path(note).with_suffix(".part")
    part.write_text(str(os.getpid()))
    part.rename(note)
    while not Path(note).with_suffix(".go").exists():
        time.sleep(0.01)


def _deeds() -> dict[str, Any]:
    return {
        "sleep": lambda _: time.sleep(3600),
        "hold the GIL": hold_the_gil,
        "swallow": _swallow,
        "raise while it cleans up": _raise_while_cleaning,
        "take the alarm": _take_the_alarm,
        "set an alarm": _set_an_alarm,
        "turn the watchdog off": _turn_the_watchdog_off,
        "segfault": lambda _: ctypes.string_at(0),
        "exit": lambda _: os._exit(3),
        "be killed": lambda _: os.kill(os.getpid(), signal.SIGKILL),
        "be terminated": lambda _: (os.kill(os.getpid(), signal.SIGTERM), time.sleep(3600)),
        "close everything": lambda _: (os.closerange(3, 4096), time.sleep(3600)),
        "raise": _raise,
        "raise twice": _raise_twice,
        "leave": lambda _: sys.exit("enough"),
        "ignore an interrupt": lambda _: (os.kill(os.getpid(), signal.SIGINT), time.sleep(0.05)),
        "return a lock": lambda _: None,
        "fork": fork,
    }


def _swallow(note: str) -> None:
    while True:
        with contextlib.suppress(BaseException):
            time.sleep(3600)


def _raise_while_cleaning(note: str) -> None:
    try:
        time.sleep(3600)
    finally:
        raise RuntimeError("the connection is gone already")


def _take_the_alarm(note: str) -> None:
    signal.signal(signal.SIGALRM, lambda *_: None)
    signal.alarm(30)
    time.sleep(3600)


def _set_an_alarm(note: str) -> None:
    signal.setitimer(signal.ITIMER_REAL, 0.01)
    time.sleep(0.1)


def _turn_the_watchdog_off(note: str) -> None:
    faulthandler.cancel_dump_traceback_later()
    hold_the_gil(note)


def _raise(note: str) -> None:
    raise ValueError("bad")


def _raise_twice(note: str) -> None:
    """Raise at the first two attempts, each time with another text, and note when."""
    with Path(note).open("a") as file:
        file.write(f"{time.time()}\n")
    tries = len(Path(note).read_text().splitlines())
    if tries <= 2:
        raise ValueError(f"try {tries}")


def run_among_mates(
    folder: Path, policy: dict[str, Any], *whats: str, mates: int = 300, config: dict[str, Any] = PATIENT
) -> Results:
    """Run tasks in the middle of many short ones of the same kind, so that they share a chunk."""
    tasks: list[dict[str, Any]] = [{**deed.task(), "policy": policy} for _ in range(mates)]
    for position, what in enumerate(whats):
        tasks[mates // 3 + 30 * position] = {**deed.task(what=what), "id": what, "policy": policy}
    return run(tasks, run_dir=folder, max_workers=2, config=config)


def assert_mates_completed(results: Results, folder: Path, *guilty: str) -> None:
    """All others have completed, once and uncharged; the guilty ones had mates."""
    assert [record.task_id for record in results if record.status != "completed"] == list(guilty)
    rows = read_attempts(folder)
    assert {row.task for row in rows if row.charged} <= set(guilty)
    assert sorted(row.task for row in rows if row.outcome == "completed") == sorted(
        record.task_id for record in results if record.task_id not in guilty
    )
    for task in guilty:
        assert next(row.chunk_size for row in rows if row.task == task) > 4
    assert_sound(folder)


def lines_of(text: str, file: str = __file__) -> set[str]:
    """The lines of a file that a text is in, as tracebacks name them."""
    lines = Path(file).read_text().splitlines()
    return {f"line {number}" for number, line in enumerate(lines, 1) if text in line}


def test_a_task_that_sleeps_past_its_deadline_fails_on_time_and_costs_no_worker(tmp_path: Path) -> None:
    """A sleeping task ends at its deadline with its own line in the traceback; its worker goes on with the others."""
    results = run_among_mates(tmp_path / "run", {"timeout_s": TIMEOUT_S}, "sleep")
    record = results["sleep"]
    assert record.error.reason == "timeout"
    assert record.error.message == f"it ran longer than its deadline of {TIMEOUT_S} s"
    assert "test_policies.py" in record.error.traceback
    assert lines_of('"sleep": lambda') & set(re.findall("line [0-9]+", record.error.traceback))
    assert "deadlines.py" not in record.error.traceback
    assert TIMEOUT_S <= record.duration < 3600  # it would sleep for an hour
    assert workers_lost(tmp_path / "run") == 0
    assert_mates_completed(results, tmp_path / "run", "sleep")


@pytest.mark.parametrize(
    ("what", "line", "file"),
    [
        ("hold the GIL", "    library.pthread_mutex_lock(mutex)", careless_tasks.__file__),
        ("swallow", "            time.sleep(3600)", __file__),
    ],
    ids=["hold the GIL", "swallow"],
)
def test_a_task_that_does_not_let_go_is_ended_with_its_worker_alone(
    what: str, line: str, file: str, tmp_path: Path
) -> None:
    """Native code that holds the GIL, and code that swallows the interruption, cost one worker, and tell where."""
    results = run_among_mates(tmp_path / "run", {"timeout_s": TIMEOUT_S}, what, config=SWIFT)
    error = results[what].error
    assert error.reason == "timeout"
    assert error.message == "it ran longer than its deadline, and did not end when interrupted: its worker was killed"
    assert lines_of(line, file) & set(re.findall("line [0-9]+", error.traceback))
    assert workers_lost(tmp_path / "run") == 1
    assert_mates_completed(results, tmp_path / "run", what)


def test_a_task_that_raises_while_it_is_interrupted_is_late_all_the_same(tmp_path: Path) -> None:
    """An exception that a task raises while it cleans up after its deadline does not hide that it was late."""
    results = run_among_mates(tmp_path / "run", {"timeout_s": TIMEOUT_S}, "raise while it cleans up")
    error = results["raise while it cleans up"].error
    assert error.reason == "timeout"
    assert "time.sleep(3600)" in error.traceback
    assert workers_lost(tmp_path / "run") == 0


@pytest.mark.parametrize("what", ["take the alarm", pytest.param("turn the watchdog off", marks=pytest.mark.long)])
def test_tasks_that_use_the_means_of_a_deadline_meet_it_all_the_same(what: str, tmp_path: Path) -> None:
    """A task that takes SIGALRM for itself, or turns faulthandler's watchdog off, is ended with its worker alone."""
    results = run_among_mates(tmp_path / "run", {"timeout_s": TIMEOUT_S}, what, config=SWIFT)
    assert results[what].error.reason == "timeout"
    assert workers_lost(tmp_path / "run") == 1
    assert_mates_completed(results, tmp_path / "run", what)


def test_an_alarm_that_a_task_sets_is_no_deadline(tmp_path: Path) -> None:
    """An alarm that comes before the deadline ends nothing."""
    results = run_among_mates(tmp_path / "run", {"timeout_s": FAR_S}, "set an alarm")
    assert_mates_completed(results, tmp_path / "run")


def test_deadlines_of_a_millisecond_hold(tmp_path: Path) -> None:
    """300 tasks of which every tenth sleeps past a deadline of a millisecond: each of those is late, alone."""
    tasks = [{**deed.task(what="" if n % 10 else "sleep"), "policy": {"timeout_s": 0.001}} for n in range(300)]
    results = run(tasks, run_dir=tmp_path / "run", max_workers=2, config=PATIENT)
    late = [n for n, record in enumerate(results) if record.error and record.error.reason == "timeout"]
    assert set(range(0, 300, 10)) <= set(late)
    assert results.counts["completed"] > 0  # though a short one may be late too, on a machine that is busy
    assert results.counts["completed"] + len(late) == 300
    assert workers_lost(tmp_path / "run") == 0
    assert_sound(tmp_path / "run")


def test_a_late_task_is_tried_again_where_asked_for_and_each_attempt_counts(tmp_path: Path) -> None:
    """With `timeout` in retry_on a late task has max_attempts attempts, apart by at least its backoff."""
    policy = {
        "timeout_s": 0.2,
        "max_attempts": 3,
        "retry_on": ["timeout"],
        "backoff": {"first_s": 0.3, "factor": 2, "jitter": 0},
    }
    results = run_among_mates(tmp_path / "run", policy, "sleep")
    assert results["sleep"].error.reason == "timeout"
    assert results["sleep"].attempts == 3
    began = [row.began_at for row in read_attempts(tmp_path / "run") if row.task == "sleep"]
    assert began[1] - began[0] >= 0.2 + 0.3
    assert began[2] - began[1] >= 0.2 + 0.6
    assert charged_tasks(tmp_path / "run") == ["sleep"] * 3
    assert_mates_completed(results, tmp_path / "run", "sleep")


@pytest.mark.long
def test_a_crash_is_charged_to_the_task_that_crashed_alone(tmp_path: Path) -> None:
    """Tasks that kill their worker, in whatever way, are each charged for it, and none of their chunk-mates is."""
    guilty = ("segfault", "exit", "be killed", "be terminated", "close everything")
    results = run_among_mates(tmp_path / "run", {"max_attempts": 1}, *guilty)
    assert {results[what].error.reason for what in guilty} == {"worker_crashed"}
    assert charged_tasks(tmp_path / "run") == list(guilty)
    assert len(guilty) <= workers_lost(tmp_path / "run") <= 2 * len(guilty)  # one that was not alone runs again alone
    assert_mates_completed(results, tmp_path / "run", *guilty)


def test_a_crash_is_tried_again_and_each_attempt_counts(tmp_path: Path) -> None:
    """A crash is retried by default, up to max_attempts."""
    results = run_among_mates(tmp_path / "run", {"max_attempts": 2}, "exit")
    assert results["exit"].error.reason == "worker_crashed"
    assert charged_tasks(tmp_path / "run") == ["exit"] * 2
    assert results["exit"].attempts == workers_lost(tmp_path / "run")
    assert workers_lost(tmp_path / "run") in (2, 3)  # at first it was not alone in its chunk
    assert_mates_completed(results, tmp_path / "run", "exit")


def test_signals_from_outside_are_no_failure_of_the_task(tmp_path: Path) -> None:
    """SIGINT to a worker is ignored; SIGTERM kills it, which is a crash that is tried again, never an exception."""
    notes = {number: tmp_path / number.name for number in (signal.SIGINT, signal.SIGTERM)}

    def send() -> None:
        for number, note in notes.items():
            wait_until(note.exists, "the task is at work")
            os.kill(int(note.read_text()), number)
        notes[signal.SIGINT].with_suffix(".go").touch()

    sender = threading.Thread(target=send)
    sender.start()
    results = run([until_told.task(note=str(note)) for note in notes.values()], run_dir=tmp_path / "run", max_workers=2)
    sender.join()
    assert results.counts["completed"] == 2
    assert [record.attempts for record in results] == [1, 2]
    lost = [(row.outcome, row.reason, row.charged) for row in read_attempts(tmp_path / "run")][1]
    assert lost == ("failed", "worker_crashed", True)


@pytest.mark.long
def test_without_a_mark_the_guilty_task_is_found_in_halves(tmp_path: Path) -> None:
    """If a node has no room for crash markers, the task that crashes alone is blamed, and no other."""
    folder = Path(f"/tmp/dfz_ray-{os.getuid()}")  # noqa: S108 - where the workers of this test would mark
    moved = folder.with_name(f"{folder.name}-away")
    if folder.exists():
        folder.rename(moved)
    try:
        folder.write_text("no folder")
        results = run_among_mates(tmp_path / "run", {"max_attempts": 1, "timeout_s": 20.0}, "exit", mates=60)
    finally:
        folder.unlink()
        if moved.exists():
            moved.rename(folder)
    assert results["exit"].error.reason == "worker_crashed"
    assert charged_tasks(tmp_path / "run") == ["exit"]
    assert workers_lost(tmp_path / "run") > 2
    assert_mates_completed(results, tmp_path / "run", "exit")


def test_exceptions_are_not_retried_unless_asked_for(tmp_path: Path) -> None:
    """An exception ends a task at its first attempt; with `exception` in retry_on it is tried max_attempts times."""
    often = {"retry_on": ["exception"], "max_attempts": 4, "backoff": {"first_s": 0.01}}
    tasks = [
        {**deed.task(what="raise"), "id": "default"},
        {**deed.task(what="raise"), "id": "once", "policy": {**often, "max_attempts": 1}},
        {**deed.task(what="raise"), "id": "often", "policy": often},
        {**deed.task(what="raise twice", note=str(tmp_path / "mends")), "id": "mends", "policy": often},
        {
            **deed.task(what="raise twice", note=str(tmp_path / "last")),
            "id": "last",
            "policy": {**often, "max_attempts": 2},
        },
    ]
    results = run(tasks, run_dir=tmp_path / "run", max_workers=2)
    assert {record.task_id: record.attempts for record in results} == {
        "default": 1,
        "once": 1,
        "often": 4,
        "mends": 3,
        "last": 2,
    }
    assert results["mends"].status == "completed"
    assert results["mends"].error is None
    assert str(results["last"].error) == "exception: ValueError: try 2"
    assert "ValueError: try 2" in results["last"].error.traceback
    assert_sound(tmp_path / "run")


def test_what_a_task_returns_is_tried_again_only_where_asked_for(tmp_path: Path) -> None:
    """A result that can't be stored fails its task, which is tried again if `unserializable` is in retry_on."""
    often = {"retry_on": ["unserializable"], "max_attempts": 2, "backoff": {"first_s": 0.01}}
    tasks = [deed.task(what="return a lock"), {**deed.task(what="return a lock"), "policy": often}, deed.task()]
    results = run(tasks, run_dir=tmp_path / "run", max_workers=2)
    assert [record.attempts for record in results] == [1, 2, 1]
    assert [record.error and record.error.reason for record in results] == ["unserializable", "unserializable", None]
    assert_sound(tmp_path / "run")


def test_a_task_that_exits_python_fails_and_its_worker_goes_on(tmp_path: Path) -> None:
    """`sys.exit()` is the task's own failure; it costs no worker. A forked child that exits is no failure at all."""
    results = run_among_mates(tmp_path / "run", {}, "leave", "fork", "ignore an interrupt")
    assert str(results["leave"].error) == "exception: SystemExit: enough"
    assert workers_lost(tmp_path / "run") == 0
    assert_mates_completed(results, tmp_path / "run", "leave")


def test_with_one_slot_the_higher_priority_goes_first(tmp_path: Path) -> None:
    """Tasks begin in the order of their priorities, whatever the order of submission."""
    priorities = [0, 3, -1, 7, 3, 0, 7]
    tasks = [{**deed.task(), "policy": {"priority": priority}} for priority in priorities]
    results = run(tasks, run_dir=tmp_path / "run", max_workers=1)
    begun = sorted(zip((record.start_time for record in results), priorities, strict=True))
    assert [priority for _, priority in begun] == sorted(priorities, reverse=True)


@pytest.mark.parametrize("preemptible", [True, False])
def test_a_late_higher_priority_takes_the_slot_of_a_preemptible_task(preemptible: bool, tmp_path: Path) -> None:
    """A task that waits too long behind a lower priority takes its slot, uncharged, unless it is not preemptible."""
    backoff = {"first_s": 1.0, "factor": 1.0, "jitter": 0}
    first = {"priority": 5, "retry_on": ["exception"], "max_attempts": 99, "backoff": backoff}
    begun, done = str(tmp_path / "begun"), str(tmp_path / "done")
    low = courteous.task(begun=begun, done=done, most_s=FAR_S * 3 if preemptible else 3.0)
    tasks = [
        {**latecomer.task(note=begun, done=done), "id": "high", "policy": first},
        {**low, "id": "low", "policy": {"preemptible": preemptible, "max_attempts": 1}},
    ]
    results = run(tasks, run_dir=tmp_path / "run", max_workers=1, config={"faults": {"preempt_after_s": 0.3}})
    assert [record.status for record in results] == ["completed", "completed"]
    rows = [row for row in read_attempts(tmp_path / "run") if row.task == "low"]
    if preemptible:
        assert [(row.outcome, row.reason, row.charged) for row in rows] == [
            ("lost", "preempted", False),
            ("completed", None, False),
        ]
        assert results["high"].end_time < results["low"].start_time
    else:
        assert [row.outcome for row in rows] == ["completed"]
        assert results["high"].start_time > results["low"].end_time
    assert_sound(tmp_path / "run")


def test_a_shape_that_no_node_holds_fails_at_once_and_says_what_is_there(tmp_path: Path) -> None:
    """A task that can never run here fails without waiting, with the nearest node in its message; the others run."""
    tasks = [
        {**deed.task(), "id": "fits"},
        {**deed.task(), "id": "wide", "resources": {"cpus": 9}},
        {**deed.task(), "id": "strange", "resources": {"custom": {"widget": 2}}},
    ]
    results = run(tasks, run_dir=tmp_path / "run")
    assert results["fits"].status == "completed"
    assert results["wide"].error.reason == results["strange"].error.reason == "infeasible"
    assert results["wide"].error.message == "needs 9 CPUs; no node has that, the nearest one has 4 CPU of 9 CPU"
    assert "the nearest one has 0 widget of 2 widget" in results["strange"].error.message
    assert [record.attempts for record in results] == [1, 0, 0]
    assert_sound(tmp_path / "run")


def test_a_shape_may_wait_for_a_node_and_fails_when_none_comes(tmp_path: Path) -> None:
    """With node_wait_s such a task waits, and status.json says for what, until the time is over."""
    notices: set[str] = set()

    def look(counts: dict[str, int]) -> None:
        status = read_status(tmp_path / "run")
        notices.update(status.notices if status else ())

    tasks = [{**deed.task(), "resources": {"cpus": 9}}, deed.task()]
    faults = {"faults": {"node_wait_s": 2}}
    begun = time.monotonic()
    results = run(tasks, run_dir=tmp_path / "run", config=faults, progress=look)
    assert time.monotonic() - begun >= 2
    assert results[0].error.message.endswith("; waited 2 s for one")
    assert notices == {"waits for a node: needs 9 CPUs; no node has that, the nearest one has 4 CPU of 9 CPU"}
    assert results[1].status == "completed"


def test_a_late_task_gets_a_second_attempt_that_counts(tmp_path: Path) -> None:
    """With `speculate` a task that hangs completes by its second attempt; the first is superseded, and not charged."""
    tasks = [uneven.task() | {"id": f"even-{number}"} for number in range(22)]
    hangs = uneven.task(note=str(tmp_path / "note")) | {"id": "hangs"}
    batch = {"name": "late", "defaults": {"policy": {"speculate": True, "max_attempts": 1}}, "tasks": [*tasks, hangs]}
    before = time.monotonic()

    results = run(batch, max_workers=2, run_dir=tmp_path / "run")

    assert time.monotonic() - before < 5 * FAR_S
    assert all(record.status == "completed" for record in results)
    assert_sound(tmp_path / "run")
    assert charged_tasks(tmp_path / "run") == []
    attempts = [one.outcome for one in read_attempts(tmp_path / "run") if one.task == "hangs"]
    assert attempts == ["superseded", "completed"]
