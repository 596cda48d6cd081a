"""Packs the exceptions of calls, so that the driver raises one that is equal: of the same class, with the same content.

The worker tries the round trip: first as pickle does it, and then by parts, of which only the nearest built-in class
makes an exception again, without any code of the exception's own class. What survives neither becomes `CallFailed`.
Exceptions within the exception, such as the members of a group, travel by their parts, too.
Pickle alone calls the class with the `args`, which loses what a class takes or keeps in another way, without a word:
texts that `__init__` has composed, fields that the built-in class fills from other arguments, and slots.
"""

from __future__ import annotations

import contextlib
import functools
import pickle
from collections.abc import Mapping
from types import GetSetDescriptorType, MemberDescriptorType
from typing import Any

from dfz_ray.execution.traceback_text import text_of

ERROR_LIMIT_BYTES = 2**20
"""A larger exception reaches the driver as text."""

_ARGS: Any = vars(BaseException)["args"]
_ATTRIBUTES: Any = vars(BaseException)["__dict__"]
_NOT_SENT = {vars(AttributeError)["obj"]}
"""The object that lacked an attribute may be anything; pickle does not send it either."""
_IS_HEAP_TYPE = 1 << 9
"""The flag of classes that are made while a program runs."""
_UNSET = object()


def pack_error(error: BaseException) -> bytes | None:
    """Pickle an exception; None if it is too large, or does not come back as an equal one of its class."""
    from dfz_ray.driver.pickling import dumps

    with contextlib.suppress(Exception):
        packed = dumps(error)
        if len(packed) > ERROR_LIMIT_BYTES:
            return None
        again = pickle.loads(packed)  # noqa: S301 - it was just made
        if _looks_like(again, error) and (_says_how(type(error)) or _dump_content(again) == _dump_content(error)):
            return packed
    packed = dumps(error, functools.partial(_reduce, error))
    if len(packed) > ERROR_LIMIT_BYTES:
        return None
    return packed if _looks_like(pickle.loads(packed), error) else None  # noqa: S301 - it was just made


def _dump_content(error: BaseException) -> bytes:
    """The content of an exception, pickled; exceptions in it by their parts, for pickle alone may lose some of them."""
    from dfz_ray.driver.pickling import dumps

    return dumps(_read(error), functools.partial(_reduce, None))


def _looks_like(again: BaseException, error: BaseException) -> bool:
    return type(again) is type(error) and text_of(again) == text_of(error)


def _says_how(kind: type[BaseException]) -> bool:
    """True if a class says itself how it is pickled: what it leaves out is not wanted."""
    base = _find_base(kind)
    return any(
        getattr(kind, name) is not getattr(base, name) for name in ("__reduce__", "__reduce_ex__", "__setstate__")
    )


def _reduce(outer: BaseException | None, error: BaseException) -> Any:
    """How an exception is pickled by its parts; one within `outer` as its class says, if that says how.

    The content is set when the exception is there, since that may refer to it again.
    """
    if error is not outer and _says_how(type(error)):
        return NotImplemented
    base: Any = _find_base(type(error))
    if issubclass(base, BaseExceptionGroup):  # its `args` are whatever its class was called with
        arguments = tuple(vars(BaseExceptionGroup)[name].__get__(error) for name in ("message", "exceptions"))
    else:
        arguments = base.__reduce__(error)[1]  # an OSError's `args` lack its file
    return make_error, (type(error), arguments), _read(error), None, None, fill_error


def make_error(kind: type[BaseException], arguments: tuple[Any, ...]) -> BaseException:
    """Make an exception, without its content, of the arguments of its nearest built-in class."""
    base: Any = _find_base(kind)
    error: BaseException = base.__new__(kind, *arguments)
    base.__init__(error, *arguments)
    return error


def fill_error(error: BaseException, content: tuple[tuple[Any, ...], Mapping[str, Any], Mapping[str, Any]]) -> None:
    """Give an exception its content, as `_read` returns it."""
    args, attributes, fields = content
    _ARGS.__set__(error, args)
    _ATTRIBUTES.__get__(error).update(attributes)
    for name, descriptor in _find_fields(type(error)).items():
        if name in fields and _get(descriptor, error) is not fields[name]:
            descriptor.__set__(error, fields[name])


def _read(error: BaseException) -> tuple[tuple[Any, ...], dict[str, Any], dict[str, Any]]:
    """The content of an exception: its `args`, its `__dict__`, and its fields by name."""
    values = {name: _get(descriptor, error) for name, descriptor in _find_fields(type(error)).items()}
    fields = {name: value for name, value in values.items() if value is not _UNSET}
    return _ARGS.__get__(error), _ATTRIBUTES.__get__(error), fields


def _find_base(kind: type) -> Any:
    """The nearest built-in class of an exception's class: the one whose memory it has."""
    while kind.__flags__ & _IS_HEAP_TYPE and kind.__base__ is not None:
        kind = kind.__base__
    return kind


def _find_fields(kind: type) -> dict[str, Any]:
    """The attributes outside `__dict__` of an exception's class, slots and those of built-in classes, by name.

    Those of BaseException are left out, and those of groups, which can't be set.
    """
    found: dict[str, Any] = {}
    for base in reversed(kind.__mro__):
        if base in (object, BaseException, BaseExceptionGroup):
            continue
        kinds = (MemberDescriptorType, GetSetDescriptorType) if base.__module__ == "builtins" else MemberDescriptorType
        for name, value in vars(base).items():
            if isinstance(value, kinds) and not name.startswith("__") and value not in _NOT_SENT:
                found[name] = value
    return found


def _get(descriptor: Any, error: BaseException) -> Any:
    try:
        return descriptor.__get__(error)
    except AttributeError:
        return _UNSET
