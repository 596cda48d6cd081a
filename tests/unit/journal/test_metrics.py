"""The metrics of a run, against counting by hand."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from dfz_ray.journal.metrics import compute_metrics, concurrency

Span = tuple[float, float]

COUNTS = {"pending": 0, "running": 0, "completed": 0, "failed": 0, "cancelled": 0}

# Starts and lengths on a grid, so that many starts and ends fall together.
SPAN = st.tuples(st.integers(0, 20), st.integers(0, 8)).map(lambda pair: (pair[0] / 4, (pair[0] + pair[1]) / 4))


def under_way(spans: Sequence[Span], time_s: float) -> int:
    """How many executions are under way: begun, and not ended."""
    return sum(began <= time_s < ended for began, ended in spans)


def test_the_keys_are_those_that_scripts_rely_on() -> None:
    """The metrics have the names of the DFZ interface and our own three, whether or not anything ran."""
    keys = [
        *("total_tasks", "successful_tasks", "failed_tasks", "success_rate", "failure_rate"),
        *("avg_duration", "min_duration", "max_duration", "avg_concurrency", "max_concurrency"),
        *("task_durations", "concurrent_executions"),
        *("total_duration", "throughput", "utilization"),
    ]

    assert sorted(compute_metrics([], COUNTS, None)) == sorted(keys)
    assert sorted(compute_metrics([(0.0, 1.0)], COUNTS | {"completed": 1}, 2)) == sorted(keys)


@given(spans=st.lists(SPAN, min_size=1, max_size=60))
@example(spans=[(1.0, 1.0), (1.0, 1.0)])
@example(spans=[(0.0, 1.0), (1.0, 1.0), (1.0, 2.0)])
def test_concurrency_is_what_counting_at_each_start_gives(spans: list[Span]) -> None:
    """For each start, in order, concurrency is how many have begun by then and not ended; it is never negative."""
    levels = concurrency(np.asarray(spans))

    assert levels.tolist() == [under_way(spans, began) for began, _ in sorted(spans)]


@given(spans=st.lists(SPAN, min_size=1, max_size=40), slots=st.integers(1, 8), open_tasks=st.integers(0, 5))
def test_metrics_are_what_counting_by_hand_gives(spans: list[Span], slots: int, open_tasks: int) -> None:
    """Durations, rates, throughput, utilization and concurrency follow from starts and ends as they are defined."""
    completed = (len(spans) + 1) // 2
    counts = COUNTS | {"completed": completed, "failed": len(spans) - completed, "pending": open_tasks}
    lengths = [ended - began for began, ended in spans]
    makespan = max(ended for _, ended in spans) - min(began for began, _ in spans)

    metrics = compute_metrics(spans, counts, slots)

    total = len(spans) + open_tasks
    assert (metrics["total_tasks"], metrics["successful_tasks"]) == (total, completed)
    assert metrics["failed_tasks"] == len(spans) - completed
    assert metrics["success_rate"] == completed / total
    assert metrics["failure_rate"] == (len(spans) - completed) / total
    assert metrics["task_durations"] == lengths
    assert metrics["avg_duration"] == pytest.approx(math.fsum(lengths) / len(lengths))
    assert (metrics["min_duration"], metrics["max_duration"]) == (min(lengths), max(lengths))
    assert metrics["total_duration"] == makespan
    assert metrics["max_concurrency"] == max(under_way(spans, began) for began, _ in spans)
    assert metrics["concurrent_executions"] == [under_way(spans, began) for began, _ in sorted(spans)]
    if makespan:
        grid = np.arange(min(began for began, _ in spans), max(ended for _, ended in spans), 0.25)
        assert metrics["avg_concurrency"] == pytest.approx(np.mean([under_way(spans, time_s) for time_s in grid]))
        assert metrics["throughput"] == pytest.approx(completed / makespan)
        assert metrics["utilization"] == pytest.approx(math.fsum(lengths) / (slots * makespan))
    else:
        assert metrics["avg_concurrency"] is metrics["throughput"] is metrics["utilization"] is None


def test_executions_that_touch_do_not_overlap() -> None:
    """A task that starts at the very moment at which another ends does not run at the same time."""
    metrics = compute_metrics([(0.0, 1.0), (1.0, 2.0), (2.0, 3.0)], COUNTS | {"completed": 3}, 1)

    assert metrics["max_concurrency"] == 1
    assert metrics["concurrent_executions"] == [1, 1, 1]
    assert metrics["utilization"] == metrics["avg_concurrency"] == 1.0


def test_four_slots_of_which_half_the_time_is_used() -> None:
    """Two tasks of 2 s side by side on four slots: throughput 1 task/s, utilization 50 %, two at once."""
    metrics = compute_metrics([(10.0, 12.0), (10.0, 12.0)], COUNTS | {"completed": 2}, 4)

    assert metrics["throughput"] == 1.0
    assert metrics["utilization"] == 0.5
    assert metrics["avg_concurrency"] == 2.0
    assert metrics["concurrent_executions"] == [2, 2]
    assert metrics["total_duration"] == 2.0


def test_a_failed_execution_is_busy_time_but_no_throughput() -> None:
    """The time of a failed task counts as use of its slot; throughput counts completed tasks only."""
    metrics = compute_metrics([(0.0, 1.0), (1.0, 2.0)], COUNTS | {"completed": 1, "failed": 1}, 1)

    assert (metrics["utilization"], metrics["throughput"]) == (1.0, 0.5)


def test_nothing_measured_is_none_and_not_zero() -> None:
    """Where nothing ran there are no durations and no rates of speed, and a run without tasks has no success rate."""
    empty = compute_metrics([], COUNTS, 4)
    infeasible = compute_metrics([], COUNTS | {"failed": 2}, 4)

    assert empty["success_rate"] is empty["failure_rate"] is None
    assert (infeasible["success_rate"], infeasible["failure_rate"], infeasible["total_tasks"]) == (0.0, 1.0, 2)
    for metrics in (empty, infeasible):
        for key in ("avg_duration", "min_duration", "max_duration", "avg_concurrency", "total_duration"):
            assert metrics[key] is None
        assert metrics["throughput"] is metrics["utilization"] is None
        assert metrics["task_durations"] == metrics["concurrent_executions"] == []
        assert metrics["max_concurrency"] == 0


def test_utilization_is_told_only_where_the_slots_are_known() -> None:
    """Without the number of slots there is no utilization, and everything else is there."""
    metrics = compute_metrics([(0.0, 1.0)], COUNTS | {"completed": 1}, None)

    assert metrics["utilization"] is None
    assert metrics["throughput"] == 1.0


def test_metrics_are_plain_numbers() -> None:
    """Metrics hold Python's own numbers and lists, so that JSON takes them as they are."""
    metrics = compute_metrics([(0.0, 1.0), (0.5, 2.0)], COUNTS | {"completed": 2}, 2)

    values = [item for value in metrics.values() for item in (value if isinstance(value, list) else [value])]
    assert {type(value) for value in values} == {int, float}


def test_utilization_goes_by_the_slots_that_there_were() -> None:
    """Where the number of slots moves, each number counts for as long as it was in force within the makespan."""
    spans = [(10.0, 20.0), (10.0, 20.0)]
    counts = COUNTS | {"completed": 2}

    metrics = compute_metrics(spans, counts, 2, [(5.0, 8), (15.0, 4), (30.0, 100)])

    assert metrics["utilization"] == pytest.approx(20 / (5 * 8 + 5 * 4))


def test_a_pause_does_not_count() -> None:
    """A run of 2 s that was left for a day, and then took 2 s more, took 4 s; slots that changed then count so."""
    day = 86_400.0
    spans = [(10.0, 12.0), (12.0 + day, 14.0 + day)]
    counts = COUNTS | {"completed": 2}

    metrics = compute_metrics(spans, counts, 1, [(day, 2)], [(12.0, 12.0 + day)])

    assert metrics["total_duration"] == pytest.approx(4.0)
    assert metrics["throughput"] == pytest.approx(0.5)
    assert metrics["utilization"] == pytest.approx(4.0 / (2 * 1 + 2 * 2))
    assert metrics["task_durations"] == [2.0, 2.0]
