"""The tasks of `generate` are the same whether they are kept, or made when they are accessed."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

import pytest

from dfz_ray.domains.domain import Domain, Parameters
from dfz_ray.domains.registry import REGISTRY, Registry
from dfz_ray.errors import InvalidInput
from dfz_ray.specs.batch import Batch
from dfz_ray.specs.batch_checks import read_batch
from dfz_ray.specs.encoding import decode
from dfz_ray.specs.generated_tasks import JoinedTasks

BLOCKS = [
    {"domain": "sorting", "count": 40},
    {"domain": "maze", "count": 30, "parameters": {"size_x": 30}, "description": "thirty"},
    {"domain": "quantum", "count": 1_100},
    {"domain": "sorting", "count": 50, "policy": {"priority": 1, "max_attempts": 2}},
    {"domain": "maze", "count": 50, "resources": {"cpus": 2}, "policy": {"speculate": True}},
]


def read(source: Any, kept: int, simple: bool = True, domains: Any = REGISTRY) -> Batch:
    """Read a batch of which blocks up to so many tasks are kept; the careful way makes each task by itself."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dfz_ray.specs.batch_checks.KEPT_TASKS", kept)
        if not simple:
            patch.setattr("dfz_ray.specs.batch_checks.SIMPLE_KEYS", frozenset())
        return read_batch(source, domains)


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: "-".join([block["domain"], *list(block)[2:]]))
def test_a_task_is_the_same_whenever_it_is_made(block: Mapping[str, Any]) -> None:
    """A large block's tasks, made when they are accessed, are those that are made one by one, in any slice."""
    source = {"seed": 7, "tasks": [{"domain": "sorting"}], "generate": [block, {"domain": "sorting", "count": 3}]}

    kept, made, careful = read(source, 10**9), read(source, 10), read(source, 10**9, simple=False)

    assert isinstance(kept.tasks, tuple)
    assert isinstance(made.tasks, JoinedTasks)
    assert list(made.tasks) == list(kept.tasks) == list(careful.tasks) == list(made.tasks)
    assert len(made.tasks) == len(kept.tasks)
    for begin, end in ((0, 2), (1, 17), (0, None), (25, 44), (40, 40), (-4, None), (-30, -2)):
        assert list(made.tasks[begin:end]) == list(kept.tasks[begin:end])
    assert [made.tasks[at] for at in (0, 1, -1, -4)] == [kept.tasks[at] for at in (0, 1, -1, -4)]
    assert list(made.tasks[::7]) == list(kept.tasks[::7])
    with pytest.raises(IndexError):
        made.tasks[len(kept.tasks)]


def test_a_larger_block_is_checked_whole_before_anything_runs() -> None:
    """A task that is wrong at the end of a large block is refused when the batch is read."""

    class Bounded(Parameters):
        x: int = 0

    def draw(rng: random.Random, given: Mapping[str, Any]) -> dict[str, Any]:
        return {"x": rng.randrange(1000)}

    def kind(parameters: Bounded) -> str:
        if parameters.x == wrong:
            raise ValueError("that one is wrong")
        return "fine"

    domains = Registry()
    domains.add(Domain("bounded", Bounded, lambda p, seed, threads: p.x, kind, draw=draw))
    source = {"generate": [{"domain": "bounded", "count": 50}]}
    wrong = -1
    last = decode(read(source, 10, domains=domains).tasks[-1].parameters)

    wrong = last["x"]
    with pytest.raises(InvalidInput, match="that one is wrong"):
        read(source, 10, domains=domains)


def test_an_id_of_a_list_is_not_given_again() -> None:
    """A listed task with the id of a generated one is refused, however many are generated."""
    source = {"tasks": [{"id": "gen-0-42", "domain": "sorting"}], "generate": [{"domain": "sorting", "count": 50}]}

    for kept in (10, 100):
        with pytest.raises(InvalidInput, match="gen-0-42"):
            read(source, kept)


def test_a_block_of_millions_takes_no_memory() -> None:
    """Ten million tasks without drawn parameters are there at once, and none of them is kept."""
    tasks = read_batch({"generate": [{"domain": "sorting_alone", "count": 10_000_000}]}, _alone()).tasks

    assert len(tasks) == 10_000_000
    assert tasks[9_999_999].id == "gen-0-9999999"


@pytest.mark.parametrize("own", [{"policy": {"priority": 1}}, {"resources": {"cpus": 2}}], ids=["policy", "resources"])
def test_neither_does_a_block_with_a_policy_or_resources(own: Mapping[str, Any]) -> None:
    """Its tasks are made with what the block gives, when they are accessed."""
    source = {"generate": [{"domain": "sorting_alone", "count": 10_000_000, **own}]}
    tasks = read_batch(source, _alone()).tasks

    assert isinstance(tasks, JoinedTasks)
    given = tasks[9_999_999].policy if "policy" in own else tasks[9_999_999].resources
    for key, value in next(iter(own.values())).items():
        assert getattr(given, key) == value


def test_a_block_that_takes_speculation_back_takes_no_memory() -> None:
    """The batch asks for second attempts, which its domain does not allow; the block does not."""
    defaults, block = {"policy": {"speculate": True}}, {"domain": "sorting_alone", "count": 10_000_000}
    tasks = read_batch({"defaults": defaults, "generate": [block | {"policy": {"speculate": False}}]}, _alone()).tasks

    assert isinstance(tasks, JoinedTasks)
    with pytest.raises(InvalidInput, match="speculate"):
        read_batch({"defaults": defaults, "generate": [block]}, _alone())


@pytest.mark.parametrize(
    "own", [{"policy": {"priority": "high"}}, {"policy": 7}, {"resources": {"cpus": -1}}, {"resources": []}], ids=str
)
def test_what_is_wrong_with_a_block_is_told_once(own: Mapping[str, Any]) -> None:
    """A policy or resources that are wrong are one problem, however many tasks would have them."""
    with pytest.raises(InvalidInput) as refused:
        read({"generate": [{"domain": "sorting_alone", "count": 50, **own}]}, 10, domains=_alone())

    (problem,) = refused.value.problems
    assert problem.where.startswith(f"generate[0].{next(iter(own))}")


def test_blocks_are_kept_up_to_a_limit_of_the_batch() -> None:
    """Many blocks take no more memory than one; a small one is kept in any case."""
    counts = [400, 500, 600, 20]
    blocks = [{"domain": "sorting", "count": count, "policy": {"priority": count}} for count in counts]

    tasks = read({"generate": blocks}, 1_000).tasks

    kept = [position for position in range(len(tasks)) if tasks[position] is tasks[position]]
    assert kept == [*range(900), *range(1_500, 1_520)]
    assert list(tasks) == list(read({"generate": blocks}, 10**9).tasks)


def _alone() -> Registry:
    domains = Registry()
    domains.add(Domain("sorting_alone", Parameters, lambda p, seed, threads: 0, lambda p: "one"))
    return domains
