"""The meaning of a batch that is accepted: defaults, seeds, resources, ids, generated tasks and kinds."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.amount import amount
from support.batch_inputs import FORMS, MAZE, Anything, accept, quantum, task
from support.extras import NEEDS_TORCH

from dfz_ray.domains.domain import Domain
from dfz_ray.domains.registry import REGISTRY, Registry
from dfz_ray.errors import InvalidInput
from dfz_ray.specs.batch_checks import read_batch
from dfz_ray.specs.encoding import decode
from dfz_ray.specs.policy import Policy
from dfz_ray.specs.resources import Resources
from dfz_ray.specs.task import derive_seed


def test_what_is_missing_has_a_default() -> None:
    """A task needs nothing but its domain: id, seed, parameters and resources have defaults."""
    batch = accept(
        [MAZE, {"domain": "maze", "id": None, "seed": None, "parameters": None, "resources": None, "policy": None}]
    )

    first, second = batch.tasks
    assert (batch.name, batch.seed, batch.files) == ("batch", 0, {})
    assert (first.id, first.seed, first.description) == ("task-0", derive_seed(0, "task-0"), "")
    assert first.resources == Resources()
    assert first.policy == Policy()
    assert second == first._replace(id="task-1", seed=derive_seed(0, "task-1"))


@pytest.mark.parametrize("form", FORMS)
def test_every_form_means_the_same(form: str, tmp_path: Path) -> None:
    """A dict, a list, a YAML file and a JSON file with the same content are the same batch."""
    tasks = [MAZE | {"id": "a", "parameters": {"size_x": 5}}, MAZE]

    batch = accept(FORMS[form](tmp_path, {"tasks": tasks}))

    assert batch.tasks == accept({"tasks": tasks}).tasks


def test_tasks_may_be_any_iterable() -> None:
    """In Python the tasks may come from a tuple or a generator."""
    assert accept(MAZE for _ in range(3)).tasks == accept((MAZE,) * 3).tasks == accept({"tasks": (MAZE,) * 3}).tasks


def test_seeds_do_not_depend_on_position() -> None:
    """A task's seed comes from the batch's seed and its id, so that tasks may be added, removed and reordered."""
    tasks = [MAZE | {"id": name} for name in "abcdef"]
    shuffled = random.Random(1).sample(tasks, 4)  # noqa: S311 - an order, not a secret

    seeds = {one.id: one.seed for one in accept({"seed": 7, "tasks": tasks}).tasks}

    assert {one.id: one.seed for one in accept({"seed": 7, "tasks": shuffled}).tasks}.items() <= seeds.items()
    assert len(set(seeds.values())) == len(tasks)
    assert not set(seeds.values()) & {one.seed for one in accept({"seed": 8, "tasks": tasks}).tasks}


@pytest.mark.parametrize("seed", [0, 5, 2**63 - 1, np.int64(5), np.uint64(2**63 - 1)])
def test_a_given_seed_wins(seed: Any) -> None:
    """A seed that a task is given is its seed, whatever the batch's is."""
    for batch_seed in (0, np.int32(9)):
        (one,) = accept({"seed": batch_seed, "tasks": [MAZE | {"seed": seed}]}).tasks

        assert one.seed == int(seed)
        assert type(one.seed) is int


SOURCES = {"task": 16.0, "defaults": 8.0, "domain": 4.0, "configuration": 2.0, "nothing": 1.0}


@pytest.mark.parametrize(
    "said", [chosen for size in range(5) for chosen in itertools.combinations(list(SOURCES)[:4], size)]
)
def test_what_wins(said: tuple[str, ...]) -> None:
    """For each resource the task wins over `defaults`, those over the domain, and the configuration comes last."""
    given = {name: {"cpus": SOURCES[name]} if name in said else {"gpus": 1} for name in SOURCES}
    domains = Registry()
    shape = Resources.model_validate(given["domain"])
    domains.add(Domain("own", Anything, lambda *_: {}, lambda _: "own", resources=shape))

    batch = accept(
        {
            "defaults": {"resources": given["defaults"]},
            "tasks": [{"domain": "own", "resources": given["task"]}],
            "generate": [{"domain": "own", "count": 1, "resources": given["task"]}],
        },
        domains,
        default_resources=Resources.model_validate(given["configuration"]),
    )

    strongest = next((name for name in SOURCES if name in said), "nothing")
    for one in batch.tasks:
        assert one.resources.cpus == SOURCES[strongest]
        assert one.resources.gpus == (0 if len(said) == 4 else 1)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    "name",
    ["../../etc/passwd", "/", "..", "a/../b", "<script>alert(1)</script>", "%s{0}$HOME`id`", "';--", "🦖", "x" * 1000],
)
def test_an_id_is_only_a_name(name: str, form: str, tmp_path: Path) -> None:
    """Any printable text is an id, also one that looks like a path, a script or a command."""
    batch = accept(FORMS[form](tmp_path, {"tasks": [MAZE | {"id": name, "description": f"{name}\n"}]}))

    (one,) = batch.tasks
    assert (one.id, one.description) == (name, f"{name}\n")


@pytest.mark.parametrize(
    ("given", "size"),
    [(1, 1), ("1", 1), ("512MiB", 512 * 2**20), (" 1.5 gib ", 3 * 2**29), ("2GB", 2 * 10**9), ("1TiB", 2**40),
     ("9007199254740993", 9007199254740993), ("0.1 KB", 100), (None, None), (2**60, 2**60)],
)  # fmt: skip
def test_sizes(given: Any, size: int | None) -> None:
    """Memory is given in bytes, or as a text with a unit of either kind, and is exact."""
    (one,) = accept(task(resources={"memory": given})).tasks

    assert one.resources.memory == size


def test_shapes_of_equal_tasks_are_equal() -> None:
    """Tasks that ask for the same in other words have the same shape."""
    shapes = [
        {"cpus": 1, "custom": {"a": 1, "b": 2}},
        {"cpus": 1.0, "custom": {"b": 2.0, "a": 1}},
        {"cpus": np.float64(1), "gpus": 0, "memory": None, "custom": {"b": 2, "a": np.int64(1)}},
    ]

    batch = accept([MAZE | {"resources": shape} for shape in shapes])

    assert len({one.resources.key() for one in batch.tasks}) == 1


@NEEDS_TORCH
def test_generated_tasks_are_drawn_from_the_seed() -> None:
    """A larger count only adds tasks; another seed draws others; given parameters are fixed."""

    def drawn(count: int, seed: int) -> tuple[Any, ...]:
        blocks = [{"domain": name, "count": count} for name in ("maze", "quantum", "image_classification")]
        blocks.append({"domain": "maze", "count": count, "parameters": {"size_x": 7}, "description": "small"})
        return accept({"seed": seed, "generate": blocks}).tasks

    few, many, others = drawn(5, 1), drawn(12, 1), drawn(5, 2)

    assert [one for one in many if int(one.id.rpartition("-")[2]) < 5] == list(few)
    assert [one.id for one in few[:2]] == ["gen-0-0", "gen-0-1"]
    assert {one.parameters for one in few} != {one.parameters for one in others}
    assert {decode(one.parameters)["size_x"] for one in many if one.description == "small"} == {7}
    assert len({one.seed for one in many + others}) == len(many + others)


@pytest.mark.parametrize(
    ("given", "stored"),
    [
        ({"size_x": np.int64(5)}, {"size_x": 5}),
        ({"complexity": np.float32(0.5)}, {"complexity": 0.5}),
        ({"visual_patterns": np.bool_(True)}, {"visual_patterns": True}),
        ({"start": np.array([1, 2])}, {"start": [1, 2]}),
        ({"start": (np.int8(1), 2)}, {"start": [1, 2]}),
        ({"algorithm": np.str_("bfs")}, {"algorithm": "bfs"}),
    ],
)
def test_numpy_is_accepted(given: dict[str, Any], stored: dict[str, Any]) -> None:
    """NumPy's scalars and arrays are as good as parameters as Python's own, also in a block and as its count."""
    batch = accept(
        {
            "tasks": task(parameters=given),
            "generate": [{"domain": "maze", "count": np.int64(1), "parameters": given}],
        }
    )

    for one in batch.tasks:
        assert decode(one.parameters).items() >= stored.items()


def test_parameters_travel_with_their_defaults() -> None:
    """A task's parameters are complete: another version's defaults change nothing about a batch."""
    (one,) = accept(quantum(num_qubits=3)).tasks

    assert decode(one.parameters)["shots"] == 1024
    assert one.kind.startswith("ghz")


def test_plain_data_of_any_kind_is_a_parameter() -> None:
    """NaN, infinities, huge integers, bytes and tuples as keys reach the task that is given them."""
    domains = Registry()
    domains.add(Domain("own", Anything, lambda *_: {}, lambda _: "own"))
    value = {"inf": float("inf"), "huge": 10**100, "bytes": b"\0", (1, 2): "pair", "half": "\ud800"}

    (one,) = accept([{"domain": "own", "parameters": {"x": value}}], domains).tasks

    assert decode(one.parameters) == {"x": value}


def test_what_cant_travel_is_refused() -> None:
    """A parameter that can't be stored is refused where it stands, before anything runs."""
    domains = Registry()
    domains.add(Domain("own", Anything, lambda *_: {}, lambda _: "own"))

    with pytest.raises(InvalidInput) as caught:
        accept([{"domain": "own", "parameters": {"x": [Anything]}}, {"domain": "own"}], domains)

    assert [problem.where for problem in caught.value.problems] == ["tasks[0].parameters.x"]
    assert "a value of type 'ModelMetaclass' can't be stored" in str(caught.value)


def refuse_key(parameters: Any) -> str:
    raise KeyError("no\nsuch")


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (lambda _: "a\n\ud800", r"a\n\ud800"),
        (lambda _: "k" * 10_000, "k" * 200 + "..." + "k" * 200),
        (lambda _: 3, "3"),
        (refuse_key, None),
    ],
)
def test_kinds_are_clean(kind: Callable[[Any], Any], expected: str | None) -> None:
    """A kind is a printable text, whatever a domain's function makes of the parameters, or the task is refused."""
    domains = Registry()
    domains.add(Domain("own", Anything, lambda *_: {}, kind))
    source = [{"domain": "own"}]

    if expected is None:
        with pytest.raises(InvalidInput, match=r"tasks\[0\]\.parameters: .* raises KeyError\('no\\nsuch'\)"):
            accept(source, domains)
    else:
        assert accept(source, domains).tasks[0].kind == expected


def test_a_mapping_that_is_no_dict() -> None:
    """Any mapping will do for a batch and its parts."""

    class Frozen(Mapping[str, Any]):
        def __init__(self, **values: Any) -> None:
            self._values = values

        def __getitem__(self, key: str) -> Any:
            return self._values[key]

        def __iter__(self) -> Iterator[str]:
            return iter(self._values)

        def __len__(self) -> int:
            return len(self._values)

    batch = accept(Frozen(tasks=[Frozen(domain="maze", parameters=Frozen(size_x=5), resources=Frozen(cpus=2))]))

    assert batch.tasks == accept(task(parameters={"size_x": 5}, resources={"cpus": 2})).tasks


@settings(max_examples=amount(200), deadline=None)
@given(
    st.lists(
        st.fixed_dictionaries(
            {"domain": st.sampled_from(["maze", "quantum", "nothing"])},
            optional={
                "id": st.one_of(st.none(), st.sampled_from(["a", "b", "", "x\n", 7])),
                "seed": st.one_of(st.none(), st.sampled_from([0, 5, -1, True, 2**63, "1"])),
                "description": st.sampled_from(["", "a text", None, 3, "\ud800"]),
                "parameters": st.one_of(
                    st.none(),
                    st.sampled_from([0, "", [], {}]),
                    st.fixed_dictionaries({}, optional={"size_x": st.integers(0, 30), "num_qubits": st.just(3)}),
                ),
                "resources": st.sampled_from([None, {}, {"cpus": 2}]),
            },
        ),
        max_size=4,
    )
)
def test_the_quick_way_checks_as_the_other_one(tasks: list[Any]) -> None:
    """Simple tasks are checked in a quick way, with the very tasks and problems of the way that all can go."""

    def read(quick: bool) -> Any:
        with pytest.MonkeyPatch.context() as patch:
            if not quick:
                patch.setattr("dfz_ray.specs.batch_checks.SIMPLE_KEYS", frozenset())
            try:
                return read_batch(tasks, REGISTRY)
            except InvalidInput as error:
                return str(error)

    assert read(quick=True) == read(quick=False)
