"""Warms workers up before a measurement: they are started, and import their modules.

Ray may place a lease on any idle worker, so all workers that may be idle are warmed.
"""

from __future__ import annotations

import contextlib
import os
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import ray
from ray.exceptions import RayError

from dfz_ray.driver.manager_actor import get_manager
from dfz_ray.errors import DfzError
from dfz_ray.execution.alarm import keep_deadlines
from dfz_ray.execution.execute import Work, execute_chunk, thread_budget
from dfz_ray.manager.nodes import capacity, live_nodes, remote_options, request_of
from dfz_ray.manager.ray_errors import describe_loss
from dfz_ray.specs.input_file import FileShelf
from dfz_ray.specs.resources import Resources
from dfz_ray.worker.lease import load_domain, spare_the_collector

GATE_S = 120.0
"""Seconds that workers wait for each other; a busy cluster may never serve them all."""
TOGETHER = 32
"""So many workers may wait in calls of the manager, each of which holds a thread there; more look now and then."""
LOOK_S = 0.5
"""Seconds between two looks."""
ATTEMPTS = 3
"""So many times workers are warmed up if one of them is lost."""
SHOWN = 5
"""The most tasks that an error names."""
SAMPLES_S = 10.0
"""Seconds that a worker tries tasks, one of each kind, so that no measured task is the first of its kind."""


@dataclass(frozen=True)
class Sample:
    """One task of each kind of a domain and shape."""

    pickled_domain: bytes
    resources: Resources
    works: Sequence[Work]
    tasks: Sequence[str]
    """Their ids."""


@dataclass(frozen=True)
class WarmUp:
    """The findings of a warm-up."""

    served: int
    """The number of the requested slots that the cluster could run at once."""
    wall_s: float
    niceness: int
    """The niceness of the worker processes; a program that is compared with them must have the same."""


def warm_workers(samples: Sequence[Sample], slots: int, at_least: int, files: Mapping[str, bytes]) -> WarmUp:
    """Hold as many leases as will run, of each shape in turn, until all of them have begun and tried the samples.

    At least `at_least` are held: Ray keeps idle workers, and may place a lease on any of them.
    """
    begun = time.perf_counter()
    manager, nodes = get_manager(), live_nodes()
    shipped = [(sample.pickled_domain, sample.resources.threads, list(sample.works)) for sample in samples]
    served, niceness, held_files = slots, 0, ray.put(dict(files))
    for shape in {sample.resources.key(): sample.resources for sample in samples}.values():
        count = int(min(max(slots, at_least), capacity(request_of(shape), nodes)))
        if count == 0:
            served = 0
            continue
        function = ray.remote(max_retries=0, max_calls=0)(hold).options(name="dfz warm-up", **remote_options(shape))
        tried = [task for sample in samples for task in sample.tasks]
        answers = _hold_all(function, (shipped, held_files, manager), count, tried)
        served = min(served, max(arrived for arrived, _ in answers))
        niceness = answers[0][1]
    return WarmUp(served, time.perf_counter() - begun, niceness)


def _hold_all(function: Any, arguments: tuple[Any, ...], count: int, tried: Sequence[str]) -> list[tuple[int, int]]:
    """Hold so many workers at once; their answers. A worker may end as the run before it ends: then all try again."""
    manager, loss = arguments[-1], ""
    for _ in range(ATTEMPTS):
        gate = uuid.uuid4().hex
        calls = [function.remote(*arguments, gate, count) for _ in range(count)]
        try:
            answers: list[tuple[int, int]] = ray.get(calls)
        except RayError as error:
            loss = describe_loss(error)[1]
            manager.arrive.remote(gate, 0, GATE_S)  # so that the others do not wait for the one that is lost
        else:
            return answers
    few = ", ".join(map(repr, tried[:SHOWN])) + (f" and {len(tried) - SHOWN} more" if len(tried) > SHOWN else "")
    raise DfzError(
        f"the workers can't be warmed up: {loss}; they try the first task of each kind, {few}: a run of these "
        "tells which one ends its worker"
    )


_tried: set[tuple[bytes, Work]] = set()
"""The samples that this worker process has tried already."""


def hold(
    shipped: Sequence[tuple[bytes, int, list[Work]]], files: dict[str, bytes], manager: Any, gate: str, count: int
) -> tuple[int, int]:
    """Import, try a task of each kind, and wait for the others; returns the number of workers, and the niceness."""
    shelf = FileShelf(contents=dict(files))
    for pickled, threads, works in shipped:
        domain = load_domain(pickled)
        with contextlib.suppress(Exception):  # each task that needs the domain reports the error
            domain.load()
        fresh = [work for work in works if (pickled, work) not in _tried]
        with thread_budget(threads), keep_deadlines(fresh) as guard:
            execute_chunk(domain, fresh, threads, shelf, SAMPLES_S, guard)
        _tried.update((pickled, work) for work in fresh)
    spare_the_collector()  # as the first lease of a process does
    return _wait_for_others(manager, gate, count), os.nice(0)


def _wait_for_others(manager: Any, gate: str, count: int) -> int:
    """Wait until so many workers are at a gate; returns how many were there when it opened."""

    def ask(method: Any, *arguments: Any) -> Any:
        return method.remote(gate, *arguments).future().result()

    if count <= TOGETHER:
        return int(ask(manager.arrive, count, GATE_S))
    arrived, until = ask(manager.look_at_gate, count), time.monotonic() + GATE_S
    while arrived is None and time.monotonic() < until:
        time.sleep(LOOK_S)
        arrived = ask(manager.look_at_gate, -1)
    return int(ask(manager.arrive, 0, 0.0) if arrived is None else arrived)
