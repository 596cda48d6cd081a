"""What a function refers to, and whether it may be another function the next time that it is called."""

from __future__ import annotations

import datetime
import decimal
import dis
import enum
import fractions
import functools
import logging
import pathlib
import re
import sys
import types
import uuid
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

_IMMUTABLE = (
    *(int, float, complex, bool, str, bytes, range, types.NoneType, types.EllipsisType, types.NotImplementedType),
    *(types.CodeType, types.GetSetDescriptorType, types.MemberDescriptorType, types.WrapperDescriptorType),
    *(types.MethodDescriptorType, types.ClassMethodDescriptorType, types.GenericAlias, types.UnionType),
    *(decimal.Decimal, fractions.Fraction, datetime.date, datetime.time, datetime.timedelta, datetime.timezone),
    *(pathlib.PurePath, re.Pattern, uuid.UUID),
    logging.Logger,  # it travels by its name
)
_IMMUTABLE_EXACT = frozenset(_IMMUTABLE) | {type(pathlib.PurePath()), type(pathlib.Path()), datetime.datetime}
_ABSENT = object()
_NODES_LIMIT = 10_000
"""What refers to more objects than this is not looked at each time: to pickle it anew is as quick."""
_CODES_LIMIT = 4_000
"""What was found in so many codes is remembered; then it begins anew."""


class _Changeable(Exception):
    """Something was found that can change in place."""


class Captures:
    """What a function, or another thing that can be called, refers to as it was when this was made.

    Args:
        function: what is called.
        is_by_reference: whether the workers import a function, class or module instead of getting its content.
    """

    def __init__(self, function: Any, is_by_reference: Callable[[Any], bool]) -> None:
        self._is_by_reference = is_by_reference
        self._names: list[tuple[Any, str, object]] = []
        """Mappings, a key of each, and what was there."""
        self._cells: list[tuple[types.CellType, object]] = []
        self._functions: list[tuple[types.FunctionType, types.CodeType, object, object, object]] = []
        """With what they do."""
        self._bases: list[tuple[type, object]] = []
        self._sizes: list[tuple[Mapping[str, Any], int]] = []
        """All their keys are among `_names`, so a new one shows in their number."""
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
        for function, code, defaults, more, attributes in self._functions:
            if (
                function.__code__ is not code
                or function.__defaults__ is not defaults
                or function.__kwdefaults__ is not more
                or function.__dict__ is not attributes
            ):
                return False
        for mapping, size in self._sizes:
            if len(mapping) != size:
                return False
        for kind, bases in self._bases:
            if kind.__bases__ is not bases:
                return False
        for mapping, name, value in self._names:
            if mapping.get(name, _ABSENT) is not value:
                return False
        return not self._cells or self._have_same_cells()

    def _have_same_cells(self) -> bool:
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
        if isinstance(value, (types.FunctionType, type, types.ModuleType)) and self._is_by_reference(value):
            return
        if isinstance(value, types.FunctionType):
            self._visit_function(value)
        elif isinstance(value, enum.Enum):
            self._visit(type(value))
        elif isinstance(value, type):
            self._visit_class(value)
        elif isinstance(value, (types.BuiltinFunctionType, types.MethodWrapperType)):
            if not isinstance(value.__self__, types.ModuleType):  # then it travels by its name
                self._visit(value.__self__)
        elif type(value) is functools.partial:
            self._visit(value.func)
            self._visit(value.args)
            self._visit_mapping(value.keywords)
            self._visit_mapping(vars(value))
        else:
            for part in _parts(value):
                self._visit(part)

    def _visit_function(self, function: types.FunctionType) -> None:
        code, defaults = function.__code__, function.__defaults__
        more, attributes = function.__kwdefaults__, function.__dict__
        found = _look_into(code)
        if found.sets_globals or found.sets_cells:
            raise _Changeable  # one call would see what another one has set
        self._functions.append((function, code, defaults, more, attributes))
        self._visit(defaults)
        if more is not None:
            self._visit_mapping(more)
        self._visit_mapping(attributes)
        for cell in function.__closure__ or ():
            try:
                content = cell.cell_contents
            except ValueError:
                raise _Changeable from None  # it is filled later
            self._cells.append((cell, content))
            self._visit(content)
        for name in found.names:
            value = function.__globals__.get(name, _ABSENT)
            self._names.append((function.__globals__, name, value))
            if value is not _ABSENT:
                self._visit(value)

    def _visit_class(self, kind: type) -> None:
        self._bases.append((kind, kind.__bases__))
        for base in kind.__bases__:
            self._visit(base)
        metaclass = type(kind)
        if metaclass is not type:
            self._visit(metaclass)
        self._visit_mapping(kind.__dict__, skip=_CLASS_OWN)

    def _visit_mapping(self, mapping: Mapping[str, Any], skip: frozenset[str] = frozenset()) -> None:
        self._sizes.append((mapping, len(mapping)))
        for name, value in list(mapping.items()):
            if name not in skip:
                self._names.append((mapping, name, value))
                self._visit(value)


_CLASS_OWN = frozenset(
    {
        *("__dict__", "__weakref__", "__annotations__", "__static_attributes__", "__abstractmethods__", "_abc_impl"),
        *("__annotate__", "__annotations_cache__", "__dataclass_fields__", "__dataclass_params__", "__slotnames__"),
    }
)
"""Of a class: made by Python, `dataclass` or pickle, and changed by nobody."""


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


class _Found(NamedTuple):
    """What a code, with those inside it, does with names that are not its own."""

    names: tuple[str, ...]
    """Those that may be global ones."""
    sets_globals: bool
    sets_cells: frozenset[str]
    """The names from outside that it sets or deletes (`nonlocal`)."""


_FOUND: dict[int, tuple[types.CodeType, _Found]] = {}
"""By the code's id, which is its own as long as it is held here. Codes may hold constants without a hash."""
_SET_GLOBAL = frozenset({"STORE_GLOBAL", "DELETE_GLOBAL"})
_SET_CELL = frozenset({"STORE_DEREF", "DELETE_DEREF"})
_SET = frozenset(dis.opmap[name] for name in _SET_GLOBAL | _SET_CELL)


def _look_into(code: types.CodeType) -> _Found:
    known = _FOUND.get(id(code))
    if known is not None:
        return known[1]
    names, sets_globals, cells = set(code.co_names), False, set()
    if not _SET.isdisjoint(code.co_code[::2]):  # most have none, and `dis` takes its time
        for instruction in dis.get_instructions(code):
            sets_globals = sets_globals or instruction.opname in _SET_GLOBAL
            if instruction.opname in _SET_CELL:
                cells.add(instruction.argval)
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            inner = _look_into(constant)
            names.update(inner.names)
            sets_globals = sets_globals or inner.sets_globals
            cells |= inner.sets_cells
    found = _Found(tuple(sorted(names)), sets_globals, frozenset(cells.intersection(code.co_freevars)))
    if len(_FOUND) >= _CODES_LIMIT:
        _FOUND.clear()
    _FOUND[id(code)] = (code, found)
    return found


def is_importable(value: Any) -> bool:
    """Whether another process would find this very object where it says that it is; `__main__` is another one there."""
    module, name = getattr(value, "__module__", None), getattr(value, "__qualname__", None)
    if module is None or module == "__main__" or name is None or "<locals>" in name:
        return False
    found: Any = sys.modules.get(module)
    for part in name.split("."):
        found = getattr(found, part, None)
    return found is value
