"""The trace of a run: what Perfetto shows."""

from __future__ import annotations

import itertools
import json
from array import array
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from support.sample_run import build, completed, create

from dfz_ray.cli import group
from dfz_ray.errors import InvalidInput
from dfz_ray.journal.executions import Executed, assign_slots
from dfz_ray.journal.reader import JournalReader
from dfz_ray.journal.trace import trace_events
from dfz_ray.journal.writer import Group
from dfz_ray.protocol.columns import pack


def assert_follows_the_format(events: list[dict[str, Any]]) -> None:
    """Assert the rules of the Trace Event Format, and those that Perfetto adds to it."""
    named: dict[str, set[tuple[int, ...]]] = {"process_name": set(), "thread_name": set()}
    spans = defaultdict(list)
    for event in events:
        assert event["ph"] in {"M", "X", "i", "C"}
        assert isinstance(event["name"], str)
        assert all(type(event[key]) is int for key in ("pid", "tid", "ts", "dur") if key in event)
        assert event["pid"] > 0  # Perfetto takes 0 for the idle process
        assert event.get("tid", 1) > 0
        if event["ph"] == "M":
            (argument,) = event["args"]
            assert argument == {"process_name": "name", "thread_name": "name"}.get(event["name"], "sort_index")
            if event["name"] in named:
                where = (event["pid"],) if event["name"] == "process_name" else (event["pid"], event["tid"])
                assert where not in named[event["name"]]
                named[event["name"]].add(where)
        else:
            assert event["ts"] >= 0
            assert (event["pid"],) in named["process_name"]
        if event["ph"] in {"X", "i"}:
            assert (event["pid"], event["tid"]) in named["thread_name"]
        if event["ph"] == "X":
            assert event["dur"] >= 0
            spans[event["pid"], event["tid"]].append((event["ts"], event["ts"] + event["dur"]))
        elif event["ph"] == "i":
            assert event["s"] in {"g", "p", "t"}
        elif event["ph"] == "C":
            assert all(isinstance(value, int | float) for value in event["args"].values())
    threads = [tid for _, tid in named["thread_name"]]
    assert len(set(threads)) == len(threads)  # some readers look at tid alone
    for track in spans.values():
        assert all(one[1] <= other[0] for one, other in itertools.pairwise(sorted(track)))
    json.dumps(events, allow_nan=False)


def test_every_attempt_is_in_the_trace(tmp_path: Path) -> None:
    """In the trace of a run with retries and losses, which went on later, each attempt is a slice or an instant."""
    build(tmp_path / "run")
    events = list(trace_events(tmp_path / "run"))
    assert_follows_the_format(events)
    slices = [event for event in events if event["ph"] == "X"]
    with JournalReader(tmp_path / "run") as journal:
        completed = sorted(record.task_id for record in journal.records() if record.status == "completed")
    assert sorted(event["args"]["task"] for event in slices if "outcome" not in event["args"]) == completed
    failed = sorted((event["args"]["task"], event["args"]["outcome"]) for event in slices if "outcome" in event["args"])
    assert failed == [
        ("task-0", "superseded"),
        ("task-2", "failed: exception"),
        ("task-3", "failed: exception"),
        ("task-3", "failed: timeout"),
    ]
    instants = Counter(event["name"] for event in events if event["ph"] == "i")
    assert instants == {
        "the run was opened": 1,
        "the run was opened again": 1,
        "cancelled: 1 task": 1,
        "lost: worker_crashed": 1,
        "lost: cancelled": 1,
        "lost: node_lost": 1,
        "lost: out_of_memory": 1,
    }
    nodes = {event["args"]["name"] for event in events if event["name"] == "process_name"}
    assert nodes == {"run sample", "host-a", "host-b"}


def build_threads(folder: Path) -> None:
    """A run in which one lease executes three tasks at a time, on threads; then it was left, with tasks open."""
    writer = create(folder)
    group = Group()
    for number in range(12):
        began_at = 4.0 + number // 3 + number % 3 / 10
        times = array("d", (began_at, began_at + 1, 0.1)).tobytes()
        group.completions.append((number, pack([number]), times, *completed(number, number)[3:]))
    writer.commit(group)
    writer.close()


def test_threads_of_one_lease_have_tracks_of_their_own(tmp_path: Path) -> None:
    """In the trace of a run on threads, which was interrupted, tasks that run side by side are on different tracks."""
    build_threads(tmp_path / "run")
    events = list(trace_events(tmp_path / "run"))
    assert_follows_the_format(events)
    slices = [event for event in events if event["ph"] == "X"]
    assert len(slices) == 12
    assert Counter(event["tid"] for event in slices).most_common() == [(tid, 4) for tid in (2, 3, 4)]
    running = [event["args"]["tasks"] for event in events if event["ph"] == "C"]
    assert max(running) == 3
    assert running[-1] == 0


def test_a_run_that_did_nothing_has_a_trace(tmp_path: Path) -> None:
    """The trace of a run whose manager died before the first task says when the run was opened."""
    create(tmp_path / "run").close()
    events = list(trace_events(tmp_path / "run"))
    assert_follows_the_format(events)
    assert [event["name"] for event in events if event["ph"] == "i"] == ["the run was opened"]


def test_clocks_that_disagree_leave_no_overlap(tmp_path: Path) -> None:
    """A slice that begins a little before the end of the one before it is cut, so that the track can be read."""
    writer = create(tmp_path / "run")
    group = Group()
    for number in range(5):
        times = array("d", (4.0 + number, 5.0005 + number, 0.1)).tobytes()
        group.completions.append((number, pack([number]), times, *completed(number, number)[3:]))
    writer.commit(group)
    writer.close()
    events = list(trace_events(tmp_path / "run"))
    assert_follows_the_format(events)
    assert len({event["tid"] for event in events if event["ph"] == "X"}) == 1


def test_tasks_that_overlap_have_tracks_of_their_own() -> None:
    """A slot has one task at a time."""
    executed = [Executed(number, (1, 0), 1.0 + number / 10, 3.0, 0.0) for number in range(3)]
    assert [len(slot.executed) for slot in assign_slots(executed, 3)] == [1, 1, 1]


def test_the_command_writes_json(tmp_path: Path) -> None:
    """`dfz trace` writes a file that any reader of Trace Event JSON takes."""
    build(tmp_path / "run")
    target = tmp_path / "trace.json"
    done = CliRunner().invoke(group, ["trace", str(tmp_path / "run"), "--output", str(target)], standalone_mode=False)
    assert done.return_value == 0, done.output
    whole = json.loads(target.read_text())
    assert whole["traceEvents"] == list(trace_events(tmp_path / "run"))
    assert_follows_the_format(whole["traceEvents"])


def test_a_trace_replaces_no_file_of_its_run(tmp_path: Path) -> None:
    """The journal stays what it is, also where it is reached by a link; a new file may be beside it."""
    run = tmp_path / "run"
    build(run)
    before, link = (run / "run.sqlite").read_bytes(), tmp_path / "link"
    link.symlink_to(run / "run.sqlite")
    for target in (run / "run.sqlite", link):
        with pytest.raises(InvalidInput, match="--output"):
            CliRunner().invoke(
                group, ["trace", str(run), "--output", str(target)], standalone_mode=False, catch_exceptions=False
            )
    assert (run / "run.sqlite").read_bytes() == before
    done = CliRunner().invoke(group, ["trace", str(run), "--output", str(run / "new.json")], standalone_mode=False)
    assert done.return_value == 0, done.output
