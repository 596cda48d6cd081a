"""The parameters of one domain's tasks, checked quickly: equal ones are checked once in a batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pydantic import BaseModel

from dfz_ray.specs.batch import KnownDomain
from dfz_ray.specs.encoding import SCALARS, encode, plain
from dfz_ray.specs.input_file import FileShelf
from dfz_ray.specs.problems import show_name
from dfz_ray.specs.resources import Resources

KNOWN_LIMIT = 10_000
"""How many different parameters are remembered for one domain."""
KEY_LIMIT_BYTES = 1024
"""Longer ones are not remembered."""
LEVELS = 10
"""What nests deeper is not checked in the quick way. Far from DEPTH_LIMIT, it can't matter whether a list was given as
an array or a set, which count as a level more.
"""
_TEXT = frozenset({str})
CheckedParameters = tuple[bytes, str]
"""What a task's parameters are, the defaults included, as MessagePack; and their kind."""


class ParameterChecks:
    """Checks parameters for one domain and one shape; it says that something is wrong, and not what.

    Most tasks of a large batch share their parameters with others, for they differ in their seeds. So it remembers
    what it made of which parameters, by their MessagePack, which tells 1 from True and 1.0. A domain whose check or
    kind is not the same each time is not remembered: parameters are known when they gave the same twice.
    """

    def __init__(self, domain: KnownDomain, shape: Resources, shelf: FileShelf) -> None:
        self.shape = shape
        self._shelf = shelf
        self._model = domain.parameters
        self._names = frozenset(domain.parameters.model_fields)
        self._check_shape, self._kind = domain.check, domain.kind
        self._validate, self._dump = _validator(domain.parameters), _serializer(domain.parameters)
        self._remembers = True
        self._seen: dict[bytes, CheckedParameters] = {}
        self._known: dict[bytes, CheckedParameters] = {}

    def check(self, given: dict[str, Any]) -> CheckedParameters:
        """What the parameters mean.

        Raises:
            Exception: of any type; something is wrong with them, or they can't be checked quickly.
        """
        if not self._remembers:
            return self._check(given)
        key = encode(given)
        known = self._known.get(key)
        if known is None:
            known = self._check(given)
            self._remember(key, known)
        return known

    def _check(self, given: dict[str, Any]) -> CheckedParameters:
        if not self._names.issuperset(given):
            _refuse_odd_keys(given)
        if not SCALARS.issuperset(map(type, given.values())):
            given = plain(given, LEVELS)
        checked = self._validate(given, context=self._shelf)
        self._check_shape(checked, self.shape)
        values = self._dump(checked) if type(checked) is self._model else checked.model_dump()
        return encode(values), show_name(self._kind(checked))

    def _remember(self, key: bytes, checked: CheckedParameters) -> None:
        before = self._seen.get(key)
        if before == checked:
            self._known[key] = checked
        elif before is None and len(self._seen) < KNOWN_LIMIT:
            if len(key) <= KEY_LIMIT_BYTES:
                self._seen[key] = checked
        elif before is not None or not self._known:  # it gives another each time, or no two tasks are alike
            self._remembers = False
            self._seen.clear()
            self._known.clear()


def _refuse_odd_keys(given: dict[Any, Any]) -> None:
    """Raise for keys that a model might take for its own, and that are no texts, or have a hash of their own."""
    if not _TEXT.issuperset(map(type, given)):
        raise TypeError("keys that are texts")
    "".join(given).encode()


def _validator(model: type[BaseModel]) -> Callable[..., BaseModel]:
    """`model_validate` without its Python part, which takes half a microsecond, unless the model has its own."""
    own = getattr(model.model_validate, "__func__", None) is not BaseModel.model_validate.__func__  # type: ignore[attr-defined]
    return model.model_validate if own else model.__pydantic_validator__.validate_python


def _serializer(model: type[BaseModel]) -> Callable[[BaseModel], dict[str, Any]]:
    """`model_dump` without its Python part, likewise."""
    own = model.model_dump is not BaseModel.model_dump
    return model.model_dump if own else model.__pydantic_serializer__.to_python
