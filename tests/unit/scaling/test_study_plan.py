"""The plan of a study: its trials and their order."""

from __future__ import annotations

import pytest

from dfz_ray.domains.registry import REGISTRY
from dfz_ray.errors import InvalidInput
from dfz_ray.scaling.study_plan import (
    BASELINE,
    StudyPlan,
    default_batch,
    default_worker_counts,
    make_plan,
    parse_worker_counts,
)
from dfz_ray.specs.batch_checks import read_batch


def plan(counts: list[int], repeats: int, seed: int = 0) -> StudyPlan:
    return make_plan(read_batch([{"domain": "maze", "resources": {"cpus": 2}}], REGISTRY), counts, repeats, seed)


def test_every_repeat_measures_the_baseline_and_every_point_once() -> None:
    """In each repeat the sequential program and every worker count are measured once."""
    trials = plan([1, 2, 4], repeats=5).trials
    assert [trial.order for trial in trials] == list(range(20))
    for repeat in range(5):
        mine = [trial.workers for trial in trials if trial.repeat == repeat]
        assert sorted(mine) == [BASELINE, 1, 2, 4]


def test_repeats_are_interleaved_in_an_order_that_the_seed_decides() -> None:
    """The order within a repeat is random, differs between repeats, and is the same again for the same seed."""
    first, again, other = (plan([1, 2, 4, 8], 6, seed).trials for seed in (3, 3, 4))
    assert first == again != other
    orders = {tuple(trial.workers for trial in first if trial.repeat == repeat) for repeat in range(6)}
    assert len(orders) > 1


def test_two_modes_are_interleaved_in_the_same_study() -> None:
    """Where processes and threads are compared, each repeat has every worker count in both, and the baseline once."""
    batch = read_batch([{"domain": "maze"}], REGISTRY)
    compared = make_plan(batch, [1, 2], 3, 0, ["processes", "threads"])
    for repeat in range(3):
        mine = [(trial.workers, trial.mode) for trial in compared.trials if trial.repeat == repeat]
        assert len(mine) == 5
        assert {(workers, mode) for workers in (1, 2) for mode in ("processes", "threads")} < set(mine)
    assert compared.modes == ("processes", "threads")


def test_a_task_of_two_cpus_makes_a_worker_cost_two() -> None:
    """The CPUs that a worker costs are the most that any task of the batch declares."""
    assert plan([1], 1).cpus_per_task == 2


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


def test_the_default_study_has_all_three_domains_and_its_seed_decides_it() -> None:
    """The default batch mixes the three domains; another seed makes other tasks of the same number."""
    data, left_out = default_batch(seed=1)
    assert left_out == []
    one = read_batch(data, REGISTRY)
    other = read_batch(default_batch(seed=2)[0], REGISTRY)
    assert {task.domain for task in one.tasks} == {"quantum", "maze", "image_classification"}
    assert len(one.tasks) == len(other.tasks)
    assert {task.seed for task in one.tasks}.isdisjoint(task.seed for task in other.tasks)
