"""The trace of a run: what Perfetto shows."""

from __future__ import annotations

import itertools
import json
from collections import defaultdict
from pathlib import Path

from click.testing import CliRunner
from support.sample_run import build

from dfz_ray.cli import group
from dfz_ray.journal.executions import Executed, assign_slots, read_executed
from dfz_ray.journal.reader import JournalReader
from dfz_ray.journal.trace import trace_events


def test_every_completed_task_is_a_slice(tmp_path: Path) -> None:
    """Each completed task is in the trace once, with its id; slices of one track do not overlap."""
    build(tmp_path / "run")
    events = list(trace_events(tmp_path / "run"))
    slices = [event for event in events if event["ph"] == "X"]
    with JournalReader(tmp_path / "run") as journal:
        completed = sorted(record.task_id for record in journal.records() if record.status == "completed")
    assert sorted(event["args"]["task"] for event in slices) == completed
    tracks = defaultdict(list)
    for event in slices:
        tracks[event["tid"]].append((event["ts"], event["ts"] + event["dur"]))
    for spans in tracks.values():
        assert all(one[1] <= other[0] + 1_000 for one, other in itertools.pairwise(sorted(spans)))
    assert {type(event["tid"]) for event in events if "tid" in event} == {int}
    assert any(event["ph"] == "i" for event in events)


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
    assert sum(event["ph"] == "X" for event in whole["traceEvents"]) == len(read_executed(tmp_path / "run"))
