"""The plan of a study: its trials and their order."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest
from support.extras import NEEDS_TORCH

from dfz_ray.domains.registry import REGISTRY
from dfz_ray.errors import InvalidInput
from dfz_ray.scaling.measurement import Mode
from dfz_ray.scaling.study_plan import (
    BASELINE,
    StudyPlan,
    Trial,
    default_batch,
    default_worker_counts,
    parse_worker_counts,
)
from dfz_ray.specs.batch_checks import read_batch


def plan(counts: list[int], seed: int = 0, modes: tuple[Mode, ...] = ("processes",)) -> StudyPlan:
    batch = read_batch([{"domain": "maze", "resources": {"cpus": 2}}], REGISTRY)
    return StudyPlan(batch, tuple(counts), seed, modes)


def trials_of(plan: StudyPlan, repeats: int) -> list[Trial]:
    return [trial for repeat in range(repeats) for trial in plan.repeat(repeat)]


def test_every_repeat_measures_the_baseline_and_every_point_once() -> None:
    """In each repeat the sequential program and every worker count are measured once."""
    trials = trials_of(plan([1, 2, 4]), 5)
    assert [trial.order for trial in trials] == list(range(20))
    for repeat in range(5):
        mine = [trial.workers for trial in trials if trial.repeat == repeat]
        assert sorted(mine) == [BASELINE, 1, 2, 4]


def test_repeats_are_interleaved_in_an_order_that_the_seed_decides() -> None:
    """The order within a repeat is random, differs between repeats, and is the same again for the same seed."""
    first, again, other = (trials_of(plan([1, 2, 4, 8], seed), 6) for seed in (3, 3, 4))
    assert first == again != other
    orders = {tuple(trial.workers for trial in first if trial.repeat == repeat) for repeat in range(6)}
    assert len(orders) > 1


def test_two_modes_are_interleaved_in_the_same_study() -> None:
    """Where processes and threads are compared, each repeat has every worker count in both, and the baseline once."""
    compared = plan([1, 2], modes=("processes", "threads"))
    for repeat in range(3):
        mine = [(trial.workers, trial.mode) for trial in compared.repeat(repeat)]
        assert len(mine) == 5
        assert {(workers, mode) for workers in (1, 2) for mode in ("processes", "threads")} < set(mine)


def test_the_digest_of_a_plan_says_whether_a_study_can_go_on() -> None:
    """Equal plans have equal digests; another batch, seed, number or mode gives another one."""
    digests = [
        plan([1, 2]).digest,
        plan([1, 4]).digest,
        plan([1, 2], seed=1).digest,
        plan([1, 2], modes=("threads",)).digest,
        StudyPlan(read_batch([{"domain": "maze"}], REGISTRY), (1, 2), 0).digest,
        StudyPlan(read_batch([{"domain": "maze", "policy": {"max_attempts": 9}}], REGISTRY), (1, 2), 0).digest,
    ]
    assert plan([1, 2]).digest == digests[0]
    assert len(set(digests)) == len(digests)


def test_a_study_does_not_go_on_with_other_code(tmp_path: Path) -> None:
    """The digest changes with the file of a user's function: its tasks may take longer now."""
    digests = []
    for seconds in (0, 0, 1):
        file = tmp_path / "rests.py"
        code = f"import time\nfrom dfz_ray import domain\n@domain('rests')\ndef rest() -> None: time.sleep({seconds})\n"
        file.write_text(code)
        runpy.run_path(str(file))
        digests.append(StudyPlan(read_batch([{"domain": "rests"}], REGISTRY), (1, 2), 0).digest)
    assert digests[0] == digests[1] != digests[2]


def test_a_task_of_two_cpus_makes_a_worker_cost_two() -> None:
    """The CPUs that a worker costs are the most that any task of the batch declares."""
    assert plan([1]).cpus_per_task == 2


@pytest.mark.parametrize(
    ("cores", "counts"), [(1, [1, 2]), (2, [1, 2, 4]), (6, [1, 2, 4, 8, 16]), (64, [2**n for n in range(8)])]
)
def test_the_default_worker_counts_go_beyond_the_cores(cores: int, counts: list[int]) -> None:
    """By default a study measures 1, 2, 4 ... until there are twice as many workers as cores."""
    assert default_worker_counts(cores) == counts


def test_worker_counts_are_read_in_any_order() -> None:
    """`--max-workers 4, 1,2` means 1, 2 and 4."""
    assert parse_worker_counts("4, 1,2") == [1, 2, 4]


@pytest.mark.parametrize("text", ["", "1,", "1,x", "0", "-1", "1.5", "1,1", "٣", "99999999999"])
def test_worker_counts_that_cannot_be_are_refused(text: str) -> None:
    """A text that is no list of different positive whole numbers is refused, and the message shows an example."""
    with pytest.raises(InvalidInput, match="--max-workers"):
        parse_worker_counts(text)


@NEEDS_TORCH
def test_the_default_study_has_all_three_domains_and_its_seed_decides_it() -> None:
    """The default batch mixes the three domains; another seed makes other tasks of the same number."""
    data, left_out = default_batch(seed=1)
    assert left_out == []
    one = read_batch(data, REGISTRY)
    other = read_batch(default_batch(seed=2)[0], REGISTRY)
    assert {task.domain for task in one.tasks} == {"quantum", "maze", "image_classification"}
    assert len(one.tasks) == len(other.tasks)
    assert {task.seed for task in one.tasks}.isdisjoint(task.seed for task in other.tasks)


def test_the_digest_of_tasks_is_that_of_what_they_compute() -> None:
    """Other seeds or parameters are other tasks; other resources are not, since they change no answer."""

    def digest(seed: int = 0, **block: object) -> str:
        batch = read_batch(
            {"name": "mazes", "seed": seed, "generate": [{"domain": "maze", "count": 2, **block}]}, REGISTRY
        )
        return StudyPlan(batch, (1, 2), 0).tasks_digest

    assert digest() == digest(resources={"cpus": 2})
    assert len({digest(), digest(seed=1), digest(parameters={"size_x": 30})}) == 3
