"""The plan of a batch before it runs: whether it can, how many tasks run at once, how long it takes, what it costs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from dfz_ray.driver.cores import usable_cores
from dfz_ray.driver.slot_plan import count_slots
from dfz_ray.manager.nodes import capacity, cpus_by_host, live_nodes, request_of, why_none
from dfz_ray.scaling.hosts import count_cores, describe_hosts
from dfz_ray.scaling.number_texts import show_plain, show_workers
from dfz_ray.scaling.pilot import Pilot
from dfz_ray.specs.batch import Batch
from dfz_ray.specs.resources import Resources


@dataclass(frozen=True)
class ShapePlan:
    """The tasks of one shape."""

    shape: str
    tasks: int
    at_once: int | None
    """The most of them that the cluster holds at one time; None: their shape sets no limit."""


@dataclass(frozen=True)
class BatchPlan:
    """The needs of a batch. Times and costs are those of the tasks that the pilot tried."""

    pilot: Pilot
    shapes: tuple[ShapePlan, ...]
    infeasible: tuple[str, ...]
    """For each shape that no node holds, the reason."""
    workers: int
    """Tasks at once: as many as were asked for, or as `dfz run` takes; no more than the cluster holds."""
    cores: int
    """The cores of the cluster."""
    cores_held: float
    """The cores that the workers hold; no more than there are. Workers without a CPU hold one together."""
    least_s: float
    """No order of the tasks takes less: the time of an equal share, of the longest task, or of the cores."""
    most_s: float
    """One shape after another, with no worker idle while a task waits, takes no more, besides dispatch."""
    price: float | None
    """Of a core-hour."""
    remarks: tuple[str, ...]

    @property
    def core_hours(self) -> tuple[float, float]:
        """At least and at most: the cores that the workers hold, for the time of the batch."""
        return self.cores_held * self.least_s / 3600, self.cores_held * self.most_s / 3600

    @property
    def prices(self) -> tuple[float, float] | None:
        """At least and at most; None without a price of the core-hour."""
        return None if self.price is None else (self.price * self.core_hours[0], self.price * self.core_hours[1])

    def describe(self) -> list[str]:
        """The plan in lines."""
        tried = f"by {self.pilot.tried} tasks that were tried"
        lines = [
            f"{one.shape}: {one.tasks} task{'s' if one.tasks != 1 else ''}, "
            f"{'any number' if one.at_once is None else one.at_once} at once"
            for one in self.shapes
        ]
        if self.infeasible:
            return lines
        lines += [
            f"work: {_time(self.pilot.work_s)} in one process, {tried}",
            f"time with {show_workers(self.workers)}: "
            f"{_span(self.least_s, self.most_s, _time)}, and what dispatch takes",
            f"cost: {_span(*self.core_hours, show_plain)} core-hours on {self.cores_held:g} cores",
        ]
        if self.prices:
            lines.append(f"price: {_span(*self.prices, show_plain)} at {self.price:g} per core-hour")
        if failed := self.pilot.describe_failed():
            lines.append(failed)
        return [*lines, *self.remarks]

    def to_dict(self) -> dict[str, Any]:
        """The plan as plain JSON data."""
        return {
            "feasible": not self.infeasible,
            "infeasible": list(self.infeasible),
            "shapes": [asdict(one) for one in self.shapes],
            "kinds": [
                {**asdict(kind), "resources": kind.resources.model_dump(mode="json")} for kind in self.pilot.kinds
            ],
            "workers": self.workers,
            "cores": self.cores,
            "work_s": self.pilot.work_s,
            "cpu_s": self.pilot.cpu_s,
            "makespan_s": None if self.infeasible else [self.least_s, self.most_s],
            "core_hours": None if self.infeasible else list(self.core_hours),
            "price": None if self.infeasible or not self.prices else list(self.prices),
            "tried": self.pilot.tried,
            "failed": self.pilot.failed,
            "remarks": list(self.remarks),
        }


def plan_batch(batch: Batch, pilot: Pilot, max_workers: int | None, price: float | None) -> BatchPlan:
    """Plan a batch for the cluster that this process is connected to.

    The shapes of the batch share the cluster, so the workers are at most as many as it holds of the smallest shape.
    """
    import platform

    nodes = live_nodes()
    hosts = cpus_by_host()
    cores = count_cores(hosts, platform.node(), usable_cores())
    shapes, infeasible = [], []
    for shape in batch.shapes():
        tasks = sum(task.resources.key() == shape.key() for task in batch.tasks)
        held = capacity(request_of(shape), nodes)
        if held == 0:
            infeasible.append(f"{tasks} task{'s' if tasks != 1 else ''}: {why_none(shape, nodes)}")
        shapes.append(ShapePlan(shape.describe(), tasks, None if math.isinf(held) else int(held)))
    most = count_slots(batch.shapes(), len(batch.tasks))
    workers = min(most, max_workers or most)
    remarks = describe_hosts(hosts, cores)
    if max_workers and max_workers > workers:
        remarks.append(f"the cluster holds {workers} of {max_workers} workers at once, or the batch has no more tasks")
    return BatchPlan(
        pilot,
        tuple(shapes),
        tuple(infeasible),
        workers,
        cores,
        min(workers * max(shape.cpus for shape in batch.shapes()), cores) or 1.0,
        max(pilot.least_s(workers, cores), _least_by_shape(pilot, nodes)),
        _one_shape_after_another(pilot, workers, cores, nodes),
        price,
        tuple(remarks),
    )


def _by_shape(pilot: Pilot) -> list[tuple[Resources, Pilot]]:
    """The findings on each shape."""
    shapes = {kind.resources.key(): kind.resources for kind in pilot.kinds}
    return [
        (shape, Pilot(tuple(kind for kind in pilot.kinds if kind.resources.key() == key)))
        for key, shape in shapes.items()
    ]


def _least_by_shape(pilot: Pilot, nodes: Sequence[dict[str, float]]) -> float:
    """The least time by what the cluster holds of each shape alone, and by the CPUs that all tasks declare together."""
    alone = [_share_s(own, capacity(request_of(shape), nodes)) for shape, own in _by_shape(pilot)]
    cpus = sum(node.get("CPU", 0.0) for node in nodes)
    declared_s = sum(kind.count * kind.wall_s * kind.resources.cpus for kind in pilot.kinds)
    return max(*alone, declared_s / cpus if cpus else 0.0)


def _share_s(pilot: Pilot, held: float) -> float:
    return pilot.work_s / held if held else 0.0


def _one_shape_after_another(pilot: Pilot, workers: int, cores: float, nodes: Sequence[dict[str, float]]) -> float:
    return sum(
        own.most_s(max(1, int(min(workers, capacity(request_of(shape), nodes)))), cores)
        for shape, own in _by_shape(pilot)
    )


def _span(low: float, high: float, show: Any) -> str:
    return show(low) if show(low) == show(high) else f"{show(low)} to {show(high)}"


def _time(seconds: float) -> str:
    """A time that people read at a glance."""
    for unit, name in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * unit:
            return f"{seconds / unit:.3g} {name}"
    return f"{seconds:.3g} s"
