"""What goes on in a run: as its manager writes it, and as it is counted where nobody works."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from support.sample_run import build
from support.small_run import cancelled, completed, failed, make_run

from dfz_ray.journal.reader import JournalReader
from dfz_ray.journal.run_activity import (
    MOST_CAUSES,
    MOST_KINDS,
    Activity,
    FailureCause,
    FailureTally,
    KindActivity,
    KindTable,
    ManagerLoad,
    SlotActivity,
    count_activity,
)
from dfz_ray.specs.states import STATES

COUNTS = {state: count for count, state in enumerate(STATES, 1)}
ACTIVITY = Activity(
    domains=(KindActivity("coin", "", COUNTS, None),),
    kinds=(KindActivity("coin", "coin of 3", COUNTS, 0.5),),
    more_kinds=2,
    slots=(SlotActivity(7, "host-a", 4711, 1, "coin", "coin of 3", 12, 3.5),),
    more_slots=1,
    failures=(FailureCause("coin", "exception", "ValueError: no", 3, 4),),
    load=ManagerLoad(0.25, None, 12.5, 0.0),
)


def as_json(activity: Activity) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(activity)))
    return found


def test_an_activity_is_read_as_it_was_written() -> None:
    """An activity comes back from JSON as it was, also an empty one."""
    assert Activity.of_json(as_json(ACTIVITY)) == ACTIVITY
    assert Activity.of_json(as_json(Activity())) == Activity()


@pytest.mark.parametrize(
    "change",
    [
        {"more": 1},
        {"kinds": {}},
        {"kinds": [1]},
        {"kinds": [{"domain": "coin"}]},
        {"kinds": [{**as_json(ACTIVITY)["kinds"][0], "counts": {"pending": 1}}]},
        {"domains": [{**as_json(ACTIVITY)["domains"][0], "task_s": "long"}]},
        {"slots": [{**as_json(ACTIVITY)["slots"][0], "tasks": True}]},
        {"failures": [{**as_json(ACTIVITY)["failures"][0], "signature": None}]},
        {"failures": [{**as_json(ACTIVITY)["failures"][0], "more": 1}]},
        {"load": 1},
        {"more_slots": "1"},
    ],
    ids=str,
)
def test_anything_else_is_refused(change: dict[str, Any]) -> None:
    """JSON that is no activity, or has a part of another type, is refused."""
    with pytest.raises(ValueError, match=r"found|expected"):
        Activity.of_json({**as_json(ACTIVITY), **change})


def test_what_a_journal_has_is_counted(tmp_path: Path) -> None:
    """Of a run that nobody works on, tasks by domain and kind, and failures by cause, come from its journal."""
    ended = [
        completed(0, 1),
        failed(1, "exception", "ValueError: 12 is too small"),
        failed(2, "exception", "ValueError: 7 is too small"),
        failed(3, "timeout", "it ran longer than its deadline"),
        cancelled(4),
    ]
    make_run(tmp_path, list("abcdef"), *ended).close()

    with JournalReader(tmp_path) as journal:
        found = count_activity(journal)

    counts = {"pending": 1, "running": 0, "completed": 1, "failed": 3, "cancelled": 1}
    assert found.domains == (KindActivity("coin", "", counts, None),)
    assert found.kinds == (KindActivity("coin", "coin of 3", counts, None),)
    assert found.failures == (
        FailureCause("coin", "exception", "ValueError: <number> is too small", 2, 0),
        FailureCause("coin", "timeout", "it ran longer than its deadline", 1, 0),
    )
    assert (found.slots, found.load) == ((), None)


def test_attempts_that_were_tried_again_are_counted(tmp_path: Path) -> None:
    """Failures after which another attempt followed are counted beside those that were the last of their task."""
    build(tmp_path / "run")
    with JournalReader(tmp_path / "run") as journal:
        found, counts = count_activity(journal), journal.counts()

    assert found.domains[0].counts == counts
    assert sum(cause.failed for cause in found.failures) == counts["failed"]
    assert {cause.reason for cause in found.failures if cause.retried} >= {"worker_crashed", "out_of_memory"}


def test_domains_are_exact_however_many_kinds_there_are() -> None:
    """Kinds beyond those that are listed are numbered, and their tasks count in their domain."""
    table = KindTable()
    for number in range(MOST_KINDS + 5):
        table.add("maze", f"maze of {number}", [number, 0, 1, 0, 0], task_s=2.0)

    kinds, more = table.kinds()

    assert (len(kinds), more) == (MOST_KINDS, 5)
    assert kinds[0].kind == f"maze of {MOST_KINDS + 4}", "those with the most open tasks are listed"
    (domain,) = table.domains()
    assert (domain.open, domain.ended, domain.task_s) == (sum(range(MOST_KINDS + 5)), MOST_KINDS + 5, 2.0)


def test_the_time_of_tasks_that_never_ran_is_not_known() -> None:
    """The mean run time of a domain is that of its open tasks; it is not known while one of their kinds never ran."""
    table = KindTable()
    table.add("maze", "small", [3, 0, 9, 0, 0], task_s=1.0)
    table.add("maze", "large", [1, 0, 9, 0, 0], task_s=5.0)
    before = table.domains()[0].task_s
    table.add("maze", "new", [1, 0, 0, 0, 0])

    assert (before, table.domains()[0].task_s) == (2.0, None)


def test_no_failure_is_left_out() -> None:
    """Failures whose messages were not looked at, and causes beyond the limit, count without a signature."""
    tally = FailureTally(looks=2 * MOST_CAUSES)
    for letter in range(2 * MOST_CAUSES):
        tally.add("coin", "exception", f"cause {chr(0x4E00 + letter)}", is_final=True)
    tally.add("coin", "exception", "cause \u4e00", is_final=False)
    tally.refresh()
    tally.add("coin", "exception", "cause \u4e00", is_final=False)

    rows = tally.rows()
    assert rows[0] == FailureCause("coin", "exception", "", MOST_CAUSES, 1)
    assert len(rows) == MOST_CAUSES + 1
    assert FailureCause("coin", "exception", "cause \u4e00", 1, 1) in rows
