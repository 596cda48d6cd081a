"""What a function refers to, and whether it may be another function the next time that it is called."""

from __future__ import annotations

import datetime
import decimal
import enum
import fractions
import functools
import logging
import pathlib
import re
import sys
import types
import uuid
from collections.abc import Callable, Iterator
from typing import Any

_IMMUTABLE = (
    *(int, float, complex, bool, str, bytes, range, types.NoneType, types.EllipsisType, types.NotImplementedType),
    *(types.ModuleType, types.BuiltinFunctionType, types.CodeType, types.GetSetDescriptorType),
    *(types.MemberDescriptorType, types.WrapperDescriptorType, types.MethodDescriptorType, types.MethodWrapperType),
    *(types.ClassMethodDescriptorType, types.GenericAlias, types.UnionType),
    *(decimal.Decimal, fractions.Fraction, datetime.date, datetime.time, datetime.timedelta, datetime.timezone),
    *(pathlib.PurePath, re.Pattern, uuid.UUID),
    logging.Logger,  # it travels by its name
)
_IMMUTABLE_EXACT = frozenset(_IMMUTABLE) | {type(pathlib.PurePath()), type(pathlib.Path()), datetime.datetime}
_ABSENT = object()
_NODES_LIMIT = 10_000
"""What refers to more objects than this is not looked at each time: to pickle it anew is as quick."""


class _Changeable(Exception):
    """Something was found that can change in place."""


class Captures:
    """What a function, or another thing that can be called, refers to as it was when this was made.

    Args:
        function: what is called.
        is_by_reference: whether the workers import an object instead of getting its content.
    """

    def __init__(self, function: Any, is_by_reference: Callable[[Any], bool]) -> None:
        self._is_by_reference = is_by_reference
        self._names: list[tuple[Any, str, object]] = []
        """Mappings, a key of each, and what was there."""
        self._cells: list[tuple[types.CellType, object]] = []
        self._functions: list[tuple[types.FunctionType, types.CodeType, object, object]] = []
        """With what they do."""
        self._seen: dict[int, object] = {}
        """By their id, and held, for else another one could get the id."""
        try:
            self._visit(function)
            self.can_change = False
            """Whether there is something in it that could change without a look at its identity telling."""
        except (_Changeable, RecursionError):
            self.can_change = True
        self._seen.clear()

    def are_same(self) -> bool:
        """Whether all of it is still there, and the same; it makes no sense where `can_change`."""
        for function, code, defaults, more in self._functions:
            if (
                function.__code__ is not code
                or function.__defaults__ is not defaults
                or function.__kwdefaults__ is not more
            ):
                return False
        for mapping, name, value in self._names:
            if mapping.get(name, _ABSENT) is not value:
                return False
        try:
            for cell, content in self._cells:
                if cell.cell_contents is not content:
                    return False
        except ValueError:  # an empty one
            return False
        return True

    def _visit(self, value: Any) -> None:
        if type(value) in _IMMUTABLE_EXACT:
            return
        if id(value) in self._seen:
            return
        self._seen[id(value)] = value
        if len(self._seen) > _NODES_LIMIT:
            raise _Changeable
        if isinstance(value, (types.FunctionType, type)) and self._is_by_reference(value):
            return
        if isinstance(value, types.FunctionType):
            self._visit_function(value)
        elif isinstance(value, enum.Enum):
            self._visit(type(value))
        elif isinstance(value, type):
            self._visit_class(value)
        elif type(value) is functools.partial and not vars(value):
            self._visit(value.func)
            self._visit(value.args)
            self._visit_mapping(value.keywords)
        else:
            for part in _parts(value):
                self._visit(part)

    def _visit_function(self, function: types.FunctionType) -> None:
        self._functions.append((function, function.__code__, function.__defaults__, function.__kwdefaults__))
        self._visit(function.__defaults__)
        if function.__kwdefaults__:
            self._visit_mapping(function.__kwdefaults__)
        if function.__dict__:
            self._visit_mapping(function.__dict__)
        for cell in function.__closure__ or ():
            try:
                content = cell.cell_contents
            except ValueError:
                raise _Changeable from None  # it is filled later
            self._cells.append((cell, content))
            self._visit(content)
        for name in sorted(set(_names_of(function.__code__))):
            value = function.__globals__.get(name, _ABSENT)
            self._names.append((function.__globals__, name, value))
            if value is not _ABSENT:
                self._visit(value)

    def _visit_class(self, kind: type) -> None:
        for base in kind.__bases__:
            self._visit(base)
        metaclass = type(kind)
        if metaclass is not type:
            self._visit(metaclass)
        self._visit_mapping(kind.__dict__, skip=_CLASS_OWN)

    def _visit_mapping(self, mapping: Any, skip: frozenset[str] = frozenset()) -> None:
        for name, value in list(mapping.items()):
            if name not in skip:
                self._names.append((mapping, name, value))
                self._visit(value)


_CLASS_OWN = frozenset(
    {
        *("__dict__", "__weakref__", "__annotations__", "__static_attributes__", "__abstractmethods__", "_abc_impl"),
        *("__annotate__", "__annotations_cache__", "__dataclass_fields__", "__dataclass_params__"),
    }
)
"""Of a class: made by Python or by `dataclass`, and changed by nobody."""


def _parts(value: Any) -> Iterator[Any]:
    """What an immutable thing is made of.

    Raises:
        _Changeable: it may not be immutable.
    """
    kind = type(value)
    if kind in (tuple, frozenset):
        yield from value
    elif kind in (staticmethod, classmethod):
        yield value.__func__
    elif kind is property:
        yield from (value.fget, value.fset, value.fdel)
    else:
        raise _Changeable


def _names_of(code: types.CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _names_of(constant)


def is_importable(value: Any) -> bool:
    """Whether another process would find this very object where it says that it is; `__main__` is another one there."""
    module, name = getattr(value, "__module__", None), getattr(value, "__qualname__", None)
    if module is None or module == "__main__" or name is None or "<locals>" in name:
        return False
    found: Any = sys.modules.get(module)
    for part in name.split("."):
        found = getattr(found, part, None)
    return found is value
