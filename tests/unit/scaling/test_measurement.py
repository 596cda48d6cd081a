"""Trials and the file that keeps them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from dfz_ray.scaling.measurement import Measurement, append_measurement


def trial(**changes: Any) -> Measurement:
    values: dict[str, Any] = {
        "kind": "point",
        "workers": 2,
        "repeat": 0,
        "order": 3,
        "wall_s": 1.25,
        "warm_up_s": 0.5,
        "tasks": 10,
        "completed": 10,
        "failed": 0,
        "cancelled": 0,
        "digest": "ab" * 32,
        "avg_concurrency": 1.9,
        "max_concurrency": 2,
        "busy_s": 2.4,
        "served": 2,
        "started_at": 1.75e9,
        "load": 0.25,
    }
    return Measurement(**(values | changes))


@pytest.mark.parametrize(
    "measured",
    [
        trial(),
        trial(kind="baseline", workers=0, served=None, warm_up_s=None),
        trial(digest=None, avg_concurrency=None, error="the cluster 'Ünï' was lost\nwithin \u2028 30 s"),
    ],
)
def test_one_line_brings_back_the_same_trial(measured: Measurement) -> None:
    """A trial is one line of JSON, whatever its texts hold, and reads back equal."""
    line = measured.to_json()
    assert "\n" not in line
    assert Measurement(**json.loads(line)) == measured


def test_trials_are_on_disk_as_they_end(tmp_path: Path) -> None:
    """Every trial is in the file as soon as it was added, in the order in which they ended."""
    path = tmp_path / "measurements.jsonl"
    trials = [trial(order=order) for order in (2, 0, 1)]
    for count, measured in enumerate(trials, start=1):
        append_measurement(path, measured)
        lines = path.read_text().splitlines()
        assert [Measurement(**json.loads(line)) for line in lines] == trials[:count]


@pytest.mark.parametrize(
    ("changes", "where"), [({"completed": -1}, "completed"), ({"kind": "warm-up"}, "kind"), ({"workers": 0}, "workers")]
)
def test_impossible_values_are_refused(changes: dict[str, Any], where: str) -> None:
    """Values that no trial can have are refused with the name of the field."""
    with pytest.raises(ValueError, match=where):
        trial(**changes)


def test_numbers_that_are_not_finite_are_no_measurement() -> None:
    """A time that is infinite or no number can't become a trial."""
    for value in (float("inf"), float("nan"), -1.0):
        with pytest.raises(ValueError, match="wall_s"):
            trial(wall_s=value)


def test_a_failed_trial_has_no_time_that_counts() -> None:
    """The wall time of a trial that failed as a whole is kept, but does not count."""
    assert trial().timed
    assert not trial(error="lost").timed


@pytest.mark.parametrize(
    "edited",
    [
        *({"wall_s": "0.3"}, {"workers": "2"}, {"completed": True}, {"tasks": 10.0}, {"completed": 11}),
        *({"mode": "fast"}, {"repeat": None}, {"profile": "none"}, {"thread_settings": {}}, {"error": 7}),
    ],
)
def test_a_value_that_no_trial_has_is_refused(edited: dict[str, Any]) -> None:
    """Somebody may have edited the file of trials: another type, or more tasks than all, is named and refused."""
    with pytest.raises(ValueError, match=f"{next(iter(edited))}: found"):
        trial(**edited)
