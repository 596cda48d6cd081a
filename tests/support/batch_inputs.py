"""Batches as input: builders of small ones, the forms that each can be given in, and their refusals."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from dfz_ray.domains.domain import Parameters
from dfz_ray.domains.registry import BUILT_IN, Registry
from dfz_ray.errors import InvalidInput
from dfz_ray.specs.batch import Batch
from dfz_ray.specs.batch_checks import read_batch
from support.extras import NEEDS_TORCH

NAMES = f"one of {', '.join(sorted(BUILT_IN))}"
MAPPING = "a mapping of names to values"
TIMEOUTS = "a number greater than 0, up to 2592000, or null"
COUNTS = "a whole number from 1 to 10000000"
MAP = "type octile\nheight 1\nwidth 3\nmap\n...\n"
MAZE = {"domain": "maze"}


class Anything(Parameters):
    x: Any = None


class Unprintable:
    """A user's object that raises whenever it is to be shown."""

    def __repr__(self) -> str:
        raise RuntimeError("no")

    __str__ = __repr__


class Case(NamedTuple):
    """An input and its problems: the path, the value found, and a part of the values expected."""

    name: str
    data: Any
    problems: list[tuple[str, str, str]]


def case(name: str, data: Any, where: str, found: str, expected: str) -> Case:
    """An input with one problem."""
    return Case(name, data, [(where, found, expected)])


def task(**fields: Any) -> list[Any]:
    """A batch of one task: a maze, unless it says otherwise."""
    return [MAZE | fields]


def quantum(**parameters: Any) -> list[Any]:
    """A batch of one quantum circuit."""
    return [{"domain": "quantum", "parameters": {"algorithm": "ghz"} | parameters}]


def policy(**fields: Any) -> list[Any]:
    """A batch of one task that is to be treated so."""
    return task(policy=fields)


def block(**fields: Any) -> dict[str, Any]:
    """A batch of one block of generated mazes."""
    return {"generate": [{"domain": "maze", "count": 3} | fields]}


def nested(levels: int) -> Any:
    """A list in a list in a list ..."""
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


def containing_itself() -> dict[str, Any]:
    """A mapping without a bottom."""
    value: dict[str, Any] = {}
    value["again"] = value
    return value


class PlainDumper(yaml.SafeDumper):
    """Writes YAML as people do: without anchors and tags."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


PlainDumper.add_representer(bytes, yaml.SafeDumper.represent_undefined)


def as_yaml(data: Any) -> str:
    return yaml.dump(data, Dumper=PlainDumper)


def as_json(data: Any) -> str:
    return json.dumps(data, allow_nan=False)


def write_yaml(folder: Path, data: Any) -> Path:
    """The data as a YAML file."""
    path = folder / "batch.yaml"
    path.write_text(as_yaml(data))
    return path


def write_json(folder: Path, data: Any) -> Path:
    """The data as a JSON file."""
    path = folder / "batch.json"
    path.write_text(as_json(data))
    return path


FORMS: dict[str, Callable[[Path, Any], Any]] = {
    "python": lambda folder, data: data,
    "list": lambda folder, data: data["tasks"] if isinstance(data, dict) else {"tasks": data},
    "yaml": write_yaml,
    "json": write_json,
}


def can_be_written(write: Callable[[Any], str], data: Any) -> bool:
    """Whether a format can hold the data: not every Python value has a form in it."""
    try:
        return bool(yaml.load(write(data), Loader=yaml.CSafeLoader) == data)  # JSON is YAML
    except (TypeError, ValueError, RecursionError, yaml.YAMLError):
        return False


def forms_of(data: Any) -> Iterator[str]:
    """The forms in which the same batch can be given."""
    yield "python"
    if isinstance(data, list) or (
        isinstance(data, dict) and data.keys() == {"tasks"} and isinstance(data["tasks"], list)
    ):
        yield "list"
    if can_be_written(as_yaml, data):
        yield "yaml"
    if can_be_written(as_json, data):
        yield "json"


def refusal(source: Any, domains: Registry | None = None, **options: Any) -> InvalidInput:
    """The error that a batch is refused with."""
    with pytest.raises(InvalidInput) as caught:
        read_batch(source, domains or Registry(), **options)
    return caught.value


def accept(source: Any, domains: Registry | None = None, **options: Any) -> Batch:
    """The batch that is made of an input."""
    return read_batch(source, domains or Registry(), **options)


def assert_readable(error: InvalidInput) -> None:
    """Whatever was given, each problem is one printable line of bearable length."""
    lines = str(error).split("\n")
    told = min(len(error.problems), InvalidInput.SHOWN)
    more = len(error.problems) > InvalidInput.SHOWN
    assert len(lines) == (1 if len(error.problems) == 1 else 1 + told + more)
    assert all(line.isprintable() and len(line) < 2_000 for line in lines)


def assert_told(error: InvalidInput, problems: list[tuple[str, str, str]]) -> None:
    """The error has exactly these problems, in this order, each in one readable line."""
    assert [problem.where for problem in error.problems] == [where for where, _, _ in problems]
    for problem, (_, found, expected) in zip(error.problems, problems, strict=True):
        assert problem.found == found
        assert expected in f"{problem.expected} {problem.hint}"
    assert_readable(error)


def _has_images(data: Any) -> bool:
    tasks = data if isinstance(data, list) else ()
    return any(isinstance(task, dict) and task.get("domain") == "image_classification" for task in tasks)


def cases_in_all_forms(cases: Sequence[Case]) -> Any:
    """Each case in each form in which it can be given, for a test that takes data, problems and form."""
    return pytest.mark.parametrize(
        ("data", "problems", "form"),
        [
            pytest.param(
                one.data,
                one.problems,
                form,
                id=f"{one.name}-{form}",
                marks=NEEDS_TORCH if _has_images(one.data) else (),
            )
            for one in cases
            for form in forms_of(one.data)
        ],
    )
