"""Tasks in a row with the same parameters share what was read, and only where none could change it for the next."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, ValidationError

from dfz_ray.domains.domain import Domain, Parameters
from dfz_ray.execution.parameters_reader import ParametersReader
from dfz_ray.specs.encoding import encode
from dfz_ray.specs.input_file import FileShelf


class Plain(Parameters):
    n: int = 0
    name: str = ""


class WithList(Parameters):
    items: list[int] = Field(default_factory=list)


class Changeable(BaseModel):
    n: int = 0


class OpenEnded(BaseModel):
    model_config = ConfigDict(frozen=True, extra="allow")


class WithPrivate(Parameters):
    n: int = 0
    _seen: list[int] = PrivateAttr(default_factory=list)


def reader_of(parameters: type[BaseModel]) -> ParametersReader:
    """A reader of a domain with these parameters."""
    domain = Domain("own", parameters, lambda *_: None, lambda _: "own")  # type: ignore[arg-type]
    return ParametersReader(domain, FileShelf())


def read_twice(parameters: type[BaseModel], **given: Any) -> tuple[BaseModel, BaseModel]:
    """What two tasks in a row with these parameters get."""
    reader = reader_of(parameters)
    return reader.read(encode(given)), reader.read(encode(given))


def test_plain_parameters_are_read_once() -> None:
    """Frozen numbers and texts are the same object for the tasks of a row."""
    first, second = read_twice(Plain, n=3, name="three")
    assert first is second
    assert first == Plain(n=3, name="three")


@pytest.mark.parametrize(
    ("parameters", "given"),
    [(WithList, {"items": [1]}), (Changeable, {"n": 1}), (OpenEnded, {"extra": 1}), (WithPrivate, {"n": 1})],
)
def test_parameters_that_a_task_could_change_are_its_own(parameters: type[BaseModel], given: dict[str, Any]) -> None:
    """A list, a model that is not frozen, one with extra keys or private attributes: each task gets a new one."""
    first, second = read_twice(parameters, **given)
    assert first == second
    assert first is not second


def test_other_parameters_are_read_anew() -> None:
    """What differs in a type only, too, and what follows something wrong."""
    reader = reader_of(Plain)
    assert reader.read(encode({"n": 1})) == Plain(n=1)
    with pytest.raises(ValidationError):
        reader.read(encode({"n": True}))
    with pytest.raises(ValidationError):
        reader.read(encode({"n": 1.0}))
    assert reader.read(encode({"n": 2})) == Plain(n=2)
    assert reader.read(encode({"n": 1})) == Plain(n=1)
