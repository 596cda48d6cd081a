"""The plan of a batch: what it says, from what a pilot found."""

from __future__ import annotations

import json
from typing import Any

import pytest

from dfz_ray.scaling.batch_plan import BatchPlan, ShapePlan
from dfz_ray.scaling.pilot import KindTimes, Pilot
from dfz_ray.specs.resources import Resources

PILOT = Pilot((KindTimes("maze", "large", Resources(), 7200, 10, 2.0, 3.0, 2.0, 0),))


def planned(**changes: Any) -> BatchPlan:
    values: dict[str, Any] = {
        "pilot": PILOT,
        "shapes": (ShapePlan("1 CPU", 7200, 4),),
        "infeasible": (),
        "workers": 4,
        "cores": 4,
        "cores_held": 4.0,
        "least_s": PILOT.least_s(4, 4),
        "most_s": PILOT.most_s(4, 4),
        "price": 0.5,
        "remarks": (),
    }
    return BatchPlan(**(values | changes))


def test_a_plan_has_time_core_hours_and_price() -> None:
    """Four hours of work on four cores take one hour, four core-hours, and their price."""
    assert planned().describe() == [
        "1 CPU: 7200 tasks, 4 at once",
        "work: 4 h in one process, by 10 tasks that were tried",
        "time with 4 workers: 60 min, and what dispatch takes",
        "cost: 4 core-hours on 4 cores",
        "price: 2 at 0.5 per core-hour",
    ]
    found = planned().to_dict()
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert found["feasible"] is True
    assert found["core_hours"] == pytest.approx([4.0, 4.0025])
    assert found["price"] == pytest.approx([2.0, 2.00125])


def test_a_batch_that_cannot_run_has_no_time() -> None:
    """Where a shape fits no node the plan has the reason, and neither time nor price."""
    plan = planned(infeasible=("3 tasks: needs 8 GPU",), shapes=(ShapePlan("8 GPUs", 3, 0),))
    assert plan.describe() == ["8 GPUs: 3 tasks, 0 at once"]
    found = plan.to_dict()
    assert (found["feasible"], found["makespan_s"], found["core_hours"], found["price"]) == (False, None, None, None)


def test_without_a_price_there_is_none() -> None:
    """A plan without a price of the core-hour says nothing of money."""
    assert planned(price=None).to_dict()["price"] is None
    assert not any("price" in line for line in planned(price=None).describe())
