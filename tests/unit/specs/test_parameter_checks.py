"""Equal parameters are checked once in a batch, and mean what they would mean if each had been checked alone."""

from __future__ import annotations

import enum
import itertools
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import Field, model_validator
from support.amount import amount

from dfz_ray.domains.domain import Domain, Parameters
from dfz_ray.domains.registry import Registry
from dfz_ray.domains.user_domain import domain
from dfz_ray.errors import InvalidInput
from dfz_ray.specs.batch_checks import read_batch
from dfz_ray.specs.encoding import decode
from dfz_ray.specs.input_file import InputFile
from dfz_ray.specs.resources import Resources
from dfz_ray.specs.task import Task


class Level(enum.IntEnum):
    ONE = 1


class Key(str):
    """A text that a dict can hold beside an equal one."""

    def __hash__(self) -> int:
        return 7


X = Key("x")


class Anything(Parameters):
    x: Any = None
    y: Any = 1


class Number(Parameters):
    x: float = 0.5
    y: int | None = None


class WithFile(Parameters):
    file: InputFile


class Spoken(Parameters):
    """A model with a `model_dump` of its own."""

    x: Any = None
    y: Any = None

    def model_dump(self, **options: Any) -> dict[str, Any]:
        return {"said": super().model_dump(**options)}


class Other(Anything):
    z: int = 3


class Turning(Parameters):
    """A model that may become another one."""

    x: Any = None
    y: Any = None

    @model_validator(mode="wrap")
    @classmethod
    def _turn(cls, values: Any, handler: Any) -> Any:
        return Other(**values) if isinstance(values, dict) and values.get("y") else handler(values)


class Keyed(Anything):
    """A model that takes any key for its own."""

    @model_validator(mode="before")
    @classmethod
    def _as_own(cls, values: Any) -> Any:
        return {"y" if key == "y" else "x": value for key, value in values.items()}


def no_larger_than_the_cpus(parameters: Any, resources: Resources) -> None:
    if isinstance(parameters.x, (int, float)) and parameters.x > resources.cpus:
        raise ValueError(f"at most {resources.cpus}")


def make_registry() -> Registry:
    """Domains of all sorts."""
    registry = Registry()
    kinds = {"typed": lambda p: f"{p.x!r} {type(p.y).__name__}", "partial": lambda p: str(1 / (p.x or 1))}
    for name, model in (
        ("any", Anything),
        ("number", Number),
        ("spoken", Spoken),
        ("turning", Turning),
        ("keyed", Keyed),
    ):
        registry.add(Domain(name, model, lambda p, seed, threads: {}, kinds["typed"]))
    registry.add(Domain("partial", Anything, lambda p, seed, threads: {}, kinds["partial"]))
    registry.add(Domain("fitting", Anything, lambda p, seed, threads: {}, str, check=no_larger_than_the_cpus))
    registry.add(Domain("file", WithFile, lambda p, seed, threads: {}, lambda p: p.file.name))

    @domain("open", kind=lambda p: ",".join(f"{key}={value!r}" for key, value in p.items()))
    def open_ended(x: Any = 0, **more: Any) -> None: ...

    @domain("exact")
    def exact(x: int = 0, y: str | None = None) -> None: ...

    for made in (open_ended, exact):
        registry.add(made.domain)
    return registry


DOMAINS = make_registry()
ALIKE = [
    1, True, 1.0, "1", b"1", Level.ONE, np.int64(1), np.float64(1), np.bool_(True), np.str_("1"), bytearray(b"1"),
    0, False, 0.0, -0.0, None, "", b"", [], {}, (), [1], (1,), {1}, np.array([1]), [True], [1.0], [[1]], {"x": 1},
    {X: 1}, {1: 1}, float("nan"), float("inf"), 2**70, 2**63, -(2**63), "\ud800", "\U00010000", "\ud800\udc00",
    object, Path("a"),
]  # fmt: skip
"""Values that some container, or some encoding, might take for another."""
GIVEN = st.dictionaries(st.sampled_from(["x", "y"]), st.sampled_from(ALIKE), max_size=2)
ODD = st.dictionaries(st.sampled_from(["x", "y", X, 1, b"x", "z", "\ud800"]), st.sampled_from(ALIKE), max_size=2)
NAMES = st.sampled_from(["any", "number", "spoken", "turning", "keyed", "partial", "fitting", "open", "exact"])


def read(tasks: list[Any], quick: bool = True, known: int = 10_000) -> Any:
    """The result of reading: tasks, or the text of the problems."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dfz_ray.specs.parameter_checks.KNOWN_LIMIT", known)
        if not quick:
            patch.setattr("dfz_ray.specs.batch_checks.SIMPLE_KEYS", frozenset())
        try:
            return read_batch(tasks, DOMAINS).tasks
        except InvalidInput as error:
            return error.problems


@settings(max_examples=amount(400), deadline=None)
@given(
    NAMES,
    st.lists(GIVEN, min_size=1, max_size=4) | st.lists(ODD, min_size=1, max_size=4),
    st.integers(0, 4) | st.just(10_000),
    st.randoms(use_true_random=False),
)
def test_remembered_parameters_mean_the_same(
    name: str, parameters: list[dict[Any, Any]], known: int, rng: random.Random
) -> None:
    """However often parameters come again, and whatever resembles them, each is as if it had been checked alone."""
    all_of_them = [{"domain": name, "parameters": given} for given in parameters * 4]
    rng.shuffle(all_of_them)
    right = [task for task in all_of_them if isinstance(read([task], quick=False)[0], Task)]

    assert read(all_of_them, known=known) == read(all_of_them, quick=False)
    assert read(right, known=known) == read(right, quick=False)


@pytest.mark.parametrize(
    "values", [*itertools.combinations([1, True, 1.0, "1", b"1", [1], None, -0.0, 0, False, 0.0], 2)]
)
def test_values_that_look_alike_are_kept_apart(values: tuple[Any, Any]) -> None:
    """1, True, 1.0, "1" and others that are equal somewhere are never taken for each other."""
    tasks = read([{"domain": "any", "parameters": {"x": value}} for value in values * 4])

    for task, value in zip(tasks, values * 4, strict=True):
        found = decode(task.parameters)["x"]
        assert (type(found), repr(found)) == (type(value), repr(value))


def test_equal_parameters_are_checked_twice() -> None:
    """Parameters that gave the same twice are known; those of other tasks are checked nevertheless."""
    looked_at = []
    registry = Registry()
    registry.add(Domain("seen", Anything, lambda p, seed, threads: {}, lambda p: looked_at.append(p.x) or "kind"))

    batch = read_batch([{"domain": "seen", "parameters": {"x": x}} for x in [1, 2, 1, 1, 2, 2, 1, 3]], registry)

    assert looked_at == [1, 2, 1, 2, 3]
    assert [decode(task.parameters)["x"] for task in batch.tasks] == [1, 2, 1, 1, 2, 2, 1, 3]


@pytest.mark.parametrize("limit", [{"KNOWN_LIMIT": 3}, {"KEY_LIMIT_BYTES": 3}], ids=str)
def test_what_is_remembered_is_bounded(limit: dict[str, int], monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the limits of the memory each task is checked by itself."""
    looked_at = []
    registry = Registry()
    registry.add(Domain("seen", Anything, lambda p, seed, threads: {}, lambda p: looked_at.append(p.x) or "kind"))
    for name, value in limit.items():
        monkeypatch.setattr(f"dfz_ray.specs.parameter_checks.{name}", value)

    read_batch([{"domain": "seen", "parameters": {"x": x}} for x in [*range(9), *range(9), *range(9)]], registry)

    assert looked_at == [*range(9)] * 3


def test_a_kind_that_is_never_the_same() -> None:
    """A domain whose kinds, or whose defaults, differ from task to task is asked for each task."""
    numbers = itertools.count()

    class Numbered(Parameters):
        number: int = Field(default_factory=lambda: next(numbers))

    registry = Registry()
    registry.add(Domain("numbered", Numbered, lambda p, seed, threads: {}, lambda p: "kind"))
    registry.add(Domain("other", Anything, lambda p, seed, threads: {}, lambda p: f"kind {next(numbers)}"))

    batch = read_batch([{"domain": name} for name in ["numbered", "other"] * 5], registry)

    assert [decode(task.parameters)["number"] for task in batch.tasks[::2]] == [0, 2, 4, 6, 8]
    assert [task.kind for task in batch.tasks[1::2]] == [f"kind {number}" for number in (1, 3, 5, 7, 9)]


def test_a_kind_that_changes_once() -> None:
    """Where equal parameters gave something else, nothing is taken for known any more."""
    looked_at = []
    registry = Registry()

    def kind(parameters: Any) -> str:
        looked_at.append(parameters.x)
        return "same" if parameters.x == 1 else f"kind {len(looked_at)}"

    registry.add(Domain("changing", Anything, lambda p, seed, threads: {}, kind))

    read_batch([{"domain": "changing", "parameters": {"x": x}} for x in [1, 1, 1, 2, 2, 1, 1, 1]], registry)

    assert looked_at == [1, 1, 2, 2, 1, 1, 1]


@pytest.mark.parametrize("key", [1, b"x", "\ud800"])
def test_keys_that_are_no_texts(key: Any) -> None:
    """A key that is no text is refused, also where a model would take it for one."""
    problem = read([{"domain": "keyed", "parameters": {key: 1}}])[0]

    assert (problem.where, problem.expected) == ("tasks[0].parameters", "keys that are texts")


def test_what_was_wrong_may_become_right() -> None:
    """Only correct parameters are remembered: wrong ones are reported for every task."""
    problems = read([{"domain": "exact", "parameters": {"x": x}} for x in [1, "1", 1, True, 1, 1.0, "1"]])

    assert [problem.where for problem in problems] == [f"tasks[{number}].parameters.x" for number in (1, 3, 5, 6)]


def test_remembered_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tasks that name a file have its content as it was when the batch was read, and the next batch reads it anew."""
    monkeypatch.chdir(tmp_path)
    tasks = [{"domain": "file", "parameters": {"file": name}} for name in ["a", "b", "./a", "a"] * 3]
    for name in "ab":
        Path(name).write_text(name)
    before = read_batch(tasks, DOMAINS)
    Path("a").write_text("changed")
    after = read_batch(tasks, DOMAINS)

    assert [decode(task.parameters)["file"]["name"] for task in before.tasks] == ["a", "b", "a", "a"] * 3
    assert sorted(before.files.values()) == [b"a", b"b"]
    assert sorted(after.files.values()) == [b"b", b"changed"]
    assert [task.parameters for task in before.tasks[1::4]] == [task.parameters for task in after.tasks[1::4]]
    assert before.tasks[0].parameters == before.tasks[-1].parameters != after.tasks[0].parameters
    assert {decode(task.parameters)["file"]["sha256"] for task in after.tasks} == after.files.keys()


def test_a_check_that_looks_at_the_shape() -> None:
    """Parameters that are correct for one shape are checked anew for another."""
    task = {"domain": "fitting", "parameters": {"x": 2}}
    more = {"resources": {"cpus": 2}}

    (problem,) = read([*[task | more] * 4, task, *[task | more] * 4])
    with_defaults = read_batch({"defaults": more, "tasks": [task] * 4}, DOMAINS)

    assert (problem.where, problem.expected) == ("tasks[4].parameters", "at most 1.0")
    assert len(with_defaults.tasks) == 4


def test_ids_that_are_given_twice() -> None:
    """A repeated id is refused with the place that had it first, in whichever way that one was checked."""
    tasks = [{"domain": "any", "id": name} for name in ("a", "task-3", "a")] + [{"domain": "any"}]
    slow = [task | {"resources": {"cpus": 1}} for task in tasks]

    for first, second in itertools.product([tasks, slow], repeat=2):
        problems = read([*first[:2], *second[2:]])
        assert [problem.where for problem in problems] == ["tasks[2].id", "tasks[3].id"]
        assert [problem.expected for problem in problems] == [
            "an id of its own; tasks[0] has this one",
            "an id of its own; tasks[1] has this one",
        ]


def test_a_domain_whose_library_is_missing() -> None:
    """A domain that can't run here is reported once, and its tasks are never left out of the batch."""
    registry = Registry()
    registry.add(Domain("far", Anything, lambda p, seed, threads: {}, str, libraries=("not_there_",), extra="quantum"))

    for tasks in ([{"domain": "far"}], [{"domain": "maze"}, {"domain": "far"}, {"domain": "far"}, {"domain": "maze"}]):
        with pytest.raises(InvalidInput) as caught:
            read_batch(tasks, registry)
        (problem,) = caught.value.problems
        assert problem.where == f"tasks[{len(tasks) > 1:d}].domain"
        assert "not_there_" in problem.expected


def test_a_description_that_is_no_text() -> None:
    """A description that can't be compared with a text is refused like any other."""
    (problem,) = read([{"domain": "any", "description": np.array(["a", "b"])}])

    assert problem.where == "tasks[0].description"
