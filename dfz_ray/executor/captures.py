"""Finds out if the things that a function refers to have changed.

A function that travels by value takes these things along. Seeing that none of them has changed is far quicker than
pickling the function again. They are compared by identity, so all of them have to be immutable.
"""

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
import types
import uuid
from collections.abc import Callable, Iterable, Mapping
from typing import Any

_IMMUTABLE = frozenset(
    {
        *(int, float, complex, bool, str, bytes, range, types.NoneType, types.EllipsisType, types.NotImplementedType),
        *(types.CodeType, types.GetSetDescriptorType, types.MemberDescriptorType, types.WrapperDescriptorType),
        *(types.MethodDescriptorType, types.ClassMethodDescriptorType, types.GenericAlias, types.UnionType),
        *(decimal.Decimal, fractions.Fraction, re.Pattern, uuid.UUID, type(pathlib.PurePath()), type(pathlib.Path())),
        *(datetime.date, datetime.time, datetime.datetime, datetime.timedelta, datetime.timezone),
        logging.Logger,  # it travels by its name
    }
)
_CLASS_INTERNALS = frozenset(
    {
        *("__dict__", "__weakref__", "__annotations__", "__static_attributes__", "__abstractmethods__", "_abc_impl"),
        *("__annotate__", "__annotations_cache__", "__dataclass_fields__", "__dataclass_params__", "__slotnames__"),
    }
)
"""Attributes of a class that Python, `dataclass` or pickle makes and nobody changes."""
_ABSENT = object()
_OBJECTS_LIMIT = 10_000
"""A function that refers to more objects is pickled for each call: looking at them all would take as long."""
_CODES_LIMIT = 4_000


class _Changeable(Exception):
    """Something was found that can change in place."""


class Captures:
    """The things that a function, or another callable, refers to, as they were when this was made.

    Functions, classes and modules for which `is_by_reference` is true are imported by the workers, and not looked at.
    """

    def __init__(self, function: Any, is_by_reference: Callable[[Any], bool]) -> None:
        self._is_by_reference = is_by_reference
        self._seen: list[tuple[Callable[[Any, Any], object], Any, Any, object]] = []
        """A function that looks, its two arguments, and the thing that it found."""
        try:
            self._look_at_all(function)
            self.can_change = False
            """True if something in it can change in place, so that comparing identities proves nothing."""
        except _Changeable:
            self.can_change = True

    def are_same(self) -> bool:
        """True if everything is still there and the same; it means nothing where `can_change`."""
        try:
            for look, first, second, thing in self._seen:
                if look(first, second) is not thing:
                    return False
        except ValueError:  # the variable of a closure was deleted
            return False
        return True

    def _look_at_all(self, function: Any) -> None:
        known: dict[int, object] = {}  # by id; they are held, since another object could get the id of a lost one
        pending = [function]
        while pending:
            value = pending.pop()
            if type(value) in _IMMUTABLE or id(value) in known:
                continue
            known[id(value)] = value
            if len(known) > _OBJECTS_LIMIT:
                raise _Changeable
            may_be_imported = isinstance(value, (types.FunctionType, type, types.ModuleType))
            if not (may_be_imported and self._is_by_reference(value)):
                pending += self._look_at(value)

    def _look_at(self, value: Any) -> Iterable[Any]:
        """Note how to see that a value is still the same, and return its parts."""
        kind = type(value)
        parts: Iterable[Any] = ()
        if kind is types.FunctionType:
            parts = self._look_at_function(value)
        elif isinstance(value, enum.Enum):
            parts = [kind]
        elif isinstance(value, type):
            bases = self._see(getattr, value, "__bases__")
            parts = [*bases, kind, *self._look_at_mapping(value.__dict__, skip=_CLASS_INTERNALS)]
        elif kind in (types.BuiltinFunctionType, types.MethodWrapperType):
            if not isinstance(value.__self__, types.ModuleType):  # then it travels by its name
                parts = [value.__self__]
        elif kind is functools.partial:
            keywords, attributes = self._look_at_mapping(value.keywords), self._look_at_mapping(vars(value))
            parts = [value.func, value.args, *keywords, *attributes]
        elif kind in (tuple, frozenset):
            parts = value
        elif kind in (staticmethod, classmethod):
            parts = [value.__func__]
        elif kind is property:
            parts = [value.fget, value.fset, value.fdel]
        else:
            raise _Changeable
        return parts

    def _look_at_function(self, function: types.FunctionType) -> list[Any]:
        code = self._see(getattr, function, "__code__")
        try:
            names, sets_outer_names = _look_into(code)
        except TypeError:  # a constant of the code has no hash
            raise _Changeable from None
        if sets_outer_names:
            raise _Changeable  # one call would see what another one has set
        parts = [self._see(getattr, function, "__defaults__")]
        parts += self._look_at_mapping(self._see(getattr, function, "__dict__"))
        keyword_defaults = self._see(getattr, function, "__kwdefaults__")
        if keyword_defaults is not None:
            parts += self._look_at_mapping(keyword_defaults)
        try:
            parts += [self._see(getattr, cell, "cell_contents") for cell in function.__closure__ or ()]
        except ValueError:  # it is set later
            raise _Changeable from None
        found = [self._see(function.__globals__.get, name, _ABSENT) for name in names]
        return parts + [value for value in found if value is not _ABSENT]

    def _look_at_mapping(self, mapping: Mapping[str, Any], skip: frozenset[str] = frozenset()) -> list[Any]:
        self._see(_has_size, mapping, len(mapping))  # so a new name shows
        return [self._see(mapping.get, name, _ABSENT) for name in list(mapping) if name not in skip]

    def _see(self, look: Callable[[Any, Any], Any], first: Any, second: Any) -> Any:
        thing = look(first, second)
        self._seen.append((look, first, second, thing))
        return thing


def _has_size(mapping: Mapping[str, Any], size: int) -> bool:
    return len(mapping) == size


@functools.lru_cache(maxsize=_CODES_LIMIT)
def _look_into(code: types.CodeType) -> tuple[frozenset[str], bool]:
    """The names that a code may look up among the globals, and whether it sets names that are not its own."""
    names: set[str] = set()
    set_variables: set[str] = set()
    sets_globals = False
    codes = [code]
    for one in codes:
        names.update(one.co_names)
        codes += [constant for constant in one.co_consts if isinstance(constant, types.CodeType)]
        for instruction in dis.get_instructions(one):
            if instruction.opname in ("STORE_GLOBAL", "DELETE_GLOBAL"):
                sets_globals = True
            elif instruction.opname in ("STORE_DEREF", "DELETE_DEREF"):
                set_variables.add(instruction.argval)
    return frozenset(names), sets_globals or not set_variables.isdisjoint(code.co_freevars)
