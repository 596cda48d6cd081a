"""Checks the parameters of one domain's tasks quickly: equal parameters are checked once in a batch."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from pydantic import BaseModel

from dfz_ray.specs.encoding import SCALARS, encode, plain
from dfz_ray.specs.input_file import FileShelf
from dfz_ray.specs.problems import show_name
from dfz_ray.specs.resources import Resources

KNOWN_LIMIT = 10_000
"""The most different parameters that are remembered for one domain."""
DRAWN_LIMIT = 500
"""If none of so many drawn parameters came again, no further ones are remembered."""
KEY_LIMIT_BYTES = 1024
"""Longer parameters are not remembered."""
LEVELS = 10
"""Deeper parameters are not checked in the quick way. This is so far below DEPTH_LIMIT that an array or a set may count
as one level more than a list.
"""
CheckedParameters = tuple[bytes, str]
"""The parameters of a task with their defaults, as MessagePack; and their kind."""
Draw = Callable[[random.Random, Mapping[str, Any]], dict[str, Any]]
"""Returns parameters that are valid beside the given ones."""


class KnownDomain(Protocol):
    """The attributes of a domain that checking needs; `dfz_ray.domains.domain.Domain` has them."""

    @property
    def name(self) -> str: ...  # noqa: D102 - Domain explains them
    @property
    def parameters(self) -> type[BaseModel]: ...  # noqa: D102
    @property
    def kind(self) -> Callable[[Any], str]: ...  # noqa: D102
    @property
    def resources(self) -> Resources: ...  # noqa: D102
    @property
    def draw(self) -> Draw | None: ...  # noqa: D102
    @property
    def repeatable(self) -> bool: ...  # noqa: D102
    @property
    def check(self) -> Callable[[Any, Resources], None]: ...  # noqa: D102
    def require_libraries(self) -> None: ...  # noqa: D102


class ParameterChecks:
    """Checks parameters for one domain and one shape. It detects problems, but does not describe them.

    Most tasks of a large batch differ only in their seeds. So results are remembered, by the MessagePack of the given
    parameters, which distinguishes 1 from True and 1.0. A result is reused once the same parameters have given it
    twice, in case a domain's check or kind does not return the same each time.
    """

    def __init__(self, domain: KnownDomain, shape: Resources, shelf: FileShelf) -> None:
        self.shape = shape
        self._shelf = shelf
        self._model = domain.parameters
        self._validate = domain.parameters.__pydantic_validator__.validate_python
        # All that `model_dump` does, unless the model has one of its own.
        self._dump = domain.parameters.__pydantic_serializer__.to_python
        self._dumps_plainly = domain.parameters.model_dump is BaseModel.model_dump
        self._names = frozenset(domain.parameters.model_fields)
        self._check_shape, self._kind = domain.check, domain.kind
        self._remembers = True
        self._seen: dict[bytes, CheckedParameters] = {}
        self._known: dict[bytes, CheckedParameters] = {}

    def check(self, given: dict[str, Any]) -> CheckedParameters:
        """Check parameters. Any exception means that they are wrong, or can't be checked quickly."""
        if not self._remembers:
            return self._check(given)
        key = encode(given)
        known = self._known.get(key)
        if known is None:
            known = self._check(given)
            self._remember(key, known)
        return known

    def check_drawn(self, drawn: dict[str, Any]) -> CheckedParameters:
        """Check parameters that were drawn; as `check`, but it gives up remembering sooner."""
        if self._remembers and not self._known and len(self._seen) >= DRAWN_LIMIT:
            self._forget()
        return self.check(drawn)

    def _check(self, given: dict[str, Any]) -> CheckedParameters:
        if not self._names.issuperset(given):
            _refuse_odd_keys(given)
        if not SCALARS.issuperset(map(type, given.values())):
            given = plain(given, LEVELS)
        checked = self._validate(given, context=self._shelf)
        self._check_shape(checked, self.shape)
        kind = self._kind(checked)
        is_plain = self._dumps_plainly and type(checked) is self._model  # a validator may return something else
        return encode(self._dump(checked) if is_plain else checked.model_dump()), show_name(kind)

    def _remember(self, key: bytes, checked: CheckedParameters) -> None:
        before = self._seen.get(key)
        if before == checked:
            self._known[key] = checked
        elif before is None and len(self._seen) < KNOWN_LIMIT:
            if len(key) <= KEY_LIMIT_BYTES:
                self._seen[key] = checked
        elif before is not None or not self._known:  # results differ each time, or no two tasks are alike
            self._forget()

    def _forget(self) -> None:
        self._remembers = False
        self._seen.clear()
        self._known.clear()


def _refuse_odd_keys(given: dict[Any, Any]) -> None:
    """Raise for keys that are not of type str exactly, or that UTF-8 can't hold: a model might accept them."""
    if not all(type(key) is str for key in given):
        raise TypeError("keys that are texts")
    "".join(given).encode()
