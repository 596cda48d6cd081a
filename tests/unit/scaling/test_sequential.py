"""The sequential program: one pass over a batch, with the deadlines of its tasks."""

from __future__ import annotations

import itertools
import time

import pytest

from dfz_ray.domains.domain import Domain, Parameters
from dfz_ray.execution.alarm import keep_deadlines
from dfz_ray.execution.execute import Work
from dfz_ray.scaling import sequential
from dfz_ray.scaling.sequential import Job, Part, Pass, take_samples
from dfz_ray.specs.batch_checks import read_batch
from dfz_ray.specs.encoding import encode
from dfz_ray.specs.input_file import FileShelf
from dfz_ray.specs.policy import Policy
from dfz_ray.specs.resources import Resources


class Nap(Parameters):
    """The seconds that a task sleeps."""

    nap_s: float = 0.0


def nap(parameters: Nap, seed: int, threads: int) -> int:
    time.sleep(parameters.nap_s)
    return seed


def make_pass(*works: Work) -> Pass:
    """One pass over such tasks, in this process."""
    domain = Domain("nap", Nap, nap, lambda _: "nap")
    job = Job([Part(b"", 1, works[:1])], [(str(work.number), 0, work) for work in works], {}, 0)
    with keep_deadlines(works) as guard:
        return sequential._pass(job, [domain], FileShelf(), guard)


def test_a_task_over_its_deadline_fails_as_it_does_with_workers() -> None:
    """Else a study would say that workers lose tasks which the sequential program completes."""
    made = make_pass(*(Work(number, number, encode({"nap_s": nap_s}), 0.1) for number, nap_s in enumerate((0, 60, 0))))
    assert (made.completed, made.failed) == (2, 1)
    assert made.wall_s < 30


def test_waits_for_a_core_between_tasks_are_none_of_the_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Most of a pass over tasks of microseconds lies between them: so do the waits for a free core."""
    queued_s = itertools.count(step=1e6)
    monkeypatch.setattr(sequential, "read_queued_s", lambda: float(next(queued_s)))
    made = make_pass(*(Work(number, number, encode({})) for number in range(20)))
    assert made.queued_s == pytest.approx(1e6 * made.busy_s / made.wall_s)


def test_a_sample_has_time_to_import() -> None:
    """A task that is tried before the measurement ends in time, if it has a deadline, but imports may take longer."""
    from dfz_ray.domains.registry import REGISTRY

    tasks = [{"domain": "sorting", "policy": {"timeout_s": 0.5}}, {"domain": "maze", "policy": {"timeout_s": 60}}]
    batch = read_batch({"tasks": [*tasks, {"domain": "sorting"}]}, REGISTRY, Resources(), Policy())
    found = {work.timeout_s for sample in take_samples(batch) for work in sample.works}
    assert found == {10.0, 60.0}
