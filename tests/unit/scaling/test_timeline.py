"""The timeline of a trial: small, and true to what the slots did."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.sample_timelines import CALLED_AT, schedule

from dfz_ray.journal.executions import Executed
from dfz_ray.scaling.timeline import BINS, CELLS, KINDS, LANES, LEVELS, OTHER_KINDS, UNITS, make_timeline


def test_a_small_trial_has_a_span_for_each_task() -> None:
    """Every task of a small trial is in the timeline, where and when it ran."""
    executed = [
        Executed(0, (1, 0), CALLED_AT + 1, CALLED_AT + 3, 2.0),
        Executed(1, (1, 1), CALLED_AT + 2, CALLED_AT + 4, 2.0),
        Executed(2, (1, 0), CALLED_AT + 3, CALLED_AT + 8, 5.0),
    ]
    timeline = make_timeline(executed, ["a", "b", "a"], CALLED_AT, 10.0, 2)
    assert timeline is not None
    assert timeline["units"] == UNITS
    assert timeline["kinds"] == ["a", "b"]
    tenth = UNITS // 10
    assert timeline["lanes"] == [
        [[tenth, 2 * tenth, 0, LEVELS], [3 * tenth, 5 * tenth, 0, LEVELS]],
        [[2 * tenth, 2 * tenth, 1, LEVELS]],
    ]
    assert (timeline["tail_s"], timeline["ended_s"]) == (pytest.approx(4), pytest.approx(8))
    assert sum(timeline["running"]) * 10 / BINS == pytest.approx(9, abs=0.05)
    assert max(timeline["running"]) == 2
    assert timeline["task_s"][0] == {"tasks": 2, "quantiles": [2.0, 2.15, 2.75, 3.5, 4.25, 4.85, 5.0]}


@pytest.mark.parametrize(("tasks", "workers"), [(5_000, 1), (5_000, 16), (20_000, 200)])
def test_a_large_trial_is_binned(tasks: int, workers: int) -> None:
    """However many tasks there are, the timeline is small, and has the time that the slots were busy."""
    executed, kinds, wall_s = schedule(tasks, workers, 30)
    timeline = make_timeline(executed, kinds, CALLED_AT, wall_s, workers)
    assert timeline is not None
    assert len(json.dumps(timeline)) < 60_000
    assert sum(len(spans) for spans in timeline["lanes"]) <= CELLS
    assert len(timeline["lanes"]) <= LANES
    assert len(timeline["lanes"]) * timeline["slots_per_lane"] >= workers
    assert (len(timeline["kinds"]), timeline["kinds"][-1]) == (KINDS + 1, OTHER_KINDS)
    busy_s = sum(one.ended_at - one.began_at for one in executed)
    assert sum(timeline["running"]) * wall_s / BINS == pytest.approx(busy_s, rel=0.01)
    unit_s = wall_s / timeline["units"]
    shown_s = sum(span[1] * span[3] / LEVELS for spans in timeline["lanes"] for span in spans) * unit_s
    assert shown_s * timeline["slots_per_lane"] == pytest.approx(busy_s, rel=0.1)
    assert sum(box["tasks"] for box in timeline["task_s"]) == tasks


spans = st.lists(
    st.tuples(st.integers(0, 5), st.floats(-1, 12), st.floats(0, 3), st.sampled_from("abcdefghijk")), max_size=30
)


@settings(deadline=None)
@given(spans, st.integers(1, 40))
def test_any_executions_have_a_timeline(drawn: list[tuple[int, float, float, str]], workers: int) -> None:
    """Also where clocks disagree, so that tasks begin before the call, and where nothing was executed."""
    executed = [
        Executed(number, (1, lease), CALLED_AT + at, CALLED_AT + at + took, took)
        for number, (lease, at, took, _) in enumerate(drawn)
    ]
    executed.sort(key=lambda one: one.began_at)
    timeline = make_timeline(executed, [kind for *_, kind in drawn], CALLED_AT, 10.0, workers)
    assert (timeline is None) == (not drawn)
    for lane in timeline["lanes"] if timeline else ():
        for begins, length, kind, level in lane:
            assert begins >= 0
            assert length >= 1
            assert 0 <= kind < len(timeline["kinds"] if timeline else ())
            assert 1 <= level <= LEVELS
    json.dumps(timeline, allow_nan=False)
