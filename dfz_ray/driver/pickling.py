"""Pickles functions, arguments and results with Ray's cloudpickle, which every worker has."""

from __future__ import annotations

import functools
import io
import sys
import tempfile
import types
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ray import cloudpickle
from ray.cloudpickle import cloudpickle as reducers

from dfz_ray.errors import Unserializable

if "__mp_main__" in sys.modules:  # the script, in a process spawned by multiprocessing
    cloudpickle.register_pickle_by_value(sys.modules["__mp_main__"])

_INHERITED = "should only be shared between processes through inheritance"
"""Words of multiprocessing where one of its locks, queues or events is pickled."""
_ADVICE = (
    "Functions and classes of the script travel with the variables that they refer to. Make what can't travel, such as "
    "a lock or a connection, in the call, or keep it in a module that workers can import."
)
"""A note of errors of pickle, which name only a type."""
_reduce_stream = cloudpickle.Pickler.dispatch_table[io.TextIOWrapper]


def _refuse_file(file: Any) -> Any:
    if file in (sys.stdin, sys.stdout, sys.stderr):  # a worker has its own
        return _reduce_stream(file)
    name = getattr(file, "name", None)
    name = "(no name)" if name is None else name
    raise Unserializable(
        f"an open file can't be sent to another process: found {name!r}, opened with "
        f"mode {getattr(file, 'mode', '?')!r}; expected its path, or its content: open the file in the call"
    )


def make_cached(function: Callable[..., Any], maxsize: int | None, typed: bool) -> Any:
    """A function with a cache of its results, as `functools.lru_cache` makes it."""
    return functools.lru_cache(maxsize, typed)(function)


def _reduce_cached(function: Any) -> Any:
    """A function with a cache travels as its name or, if it can't be imported elsewhere, by value and an empty cache.

    Python sends the name in any case, and cloudpickle leaves it at that.
    """
    if is_by_reference(function):
        return function.__reduce__()
    return make_cached, (function.__wrapped__, *function.cache_parameters().values())


def _reduce_cached_property(value: functools.cached_property[Any]) -> Any:
    """A cached property of a class that travels by value: it has a lock, which can't travel, until Python 3.12."""
    return functools.cached_property, (value.func,), {"attrname": value.attrname, "__doc__": value.__doc__}


_DISPATCHES: types.CodeType = getattr(functools.singledispatch(len), "__code__")  # noqa: B009
"""The code that all functions of `functools.singledispatch` share."""
_DISPATCHES_OWN = frozenset(vars(functools.singledispatch(len)))
"""The attributes that each of them gets anew."""


def make_dispatching(default: Callable[..., Any], others: Sequence[tuple[type, Callable[..., Any]]]) -> Any:
    """A function that calls another one for each type of its first argument, as `functools.singledispatch` makes it."""
    made = functools.singledispatch(default)
    for of_type, function in others:
        made.register(of_type, function)
    return made


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc]
    """Refuses open files: cloudpickle would send a copy of a text file's content as if it were the file.

    It sends functions and properties with a cache, and functions of `singledispatch`, that cloudpickle can't send.
    """

    dispatch_table = cloudpickle.Pickler.dispatch_table.new_child(
        dict.fromkeys(
            (
                io.TextIOWrapper,
                io.BufferedReader,
                io.BufferedWriter,
                io.BufferedRandom,
                io.FileIO,
                tempfile.SpooledTemporaryFile,  # while it is small, it is a file in memory, which would be copied
            ),
            _refuse_file,
        )
        | {functools._lru_cache_wrapper: _reduce_cached, functools.cached_property: _reduce_cached_property}
    )

    def reducer_override(self, value: Any) -> Any:
        """The reduction of a value; NotImplemented for the usual one."""
        if type(value) is types.FunctionType and value.__code__ is _DISPATCHES and not is_by_reference(value):
            functions = dict(vars(value)["registry"])
            default = functions.pop(object)
            added = {name: held for name, held in vars(value).items() if name not in _DISPATCHES_OWN}
            return make_dispatching, (default, list(functions.items())), added
        return super().reducer_override(value)


class _ErrorPickler(_Pickler):
    """Pickles exceptions, wherever they are in a value, as a function says."""

    def __init__(self, buffer: io.BytesIO, reduce_error: Callable[[BaseException], Any]) -> None:
        super().__init__(buffer)
        self._reduce_error = reduce_error

    def reducer_override(self, value: Any) -> Any:
        """The reduction of a value; NotImplemented for the usual one."""
        found = self._reduce_error(value) if isinstance(value, BaseException) else NotImplemented
        return super().reducer_override(value) if found is NotImplemented else found


def dumps(value: Any, reduce_error: Callable[[BaseException], Any] | None = None) -> bytes:
    """Pickle a value; things that can't be imported elsewhere by value. `pickle.loads` reads it where Ray is installed.

    Args:
        value: the value.
        reduce_error: returns the reduction of an exception in it, as `__reduce__` does, or NotImplemented for the
            usual one; None: each has the usual one.

    Raises:
        Unserializable: the value refers to an open file.
        RuntimeError: the value refers to a lock, a queue or the like of multiprocessing that is not a manager's.
    """
    with io.BytesIO() as buffer:
        try:
            pickler = _Pickler(buffer) if reduce_error is None else _ErrorPickler(buffer, reduce_error)
            pickler.dump(value)
        except RuntimeError as error:
            if _INHERITED not in str(error):
                raise
            raise RuntimeError(f"{error}; those of a manager travel: multiprocessing.Manager().RLock()") from None
        except TypeError as error:
            if str(error).startswith("cannot pickle"):
                error.add_note(_ADVICE)
            raise
        return buffer.getvalue()


def add_to_functions(find: Callable[[str], Mapping[str, Any]]) -> None:
    """Give functions that are unpickled by value more variables: those that `find` returns for their module."""
    set_state = reducers._function_setstate
    if hasattr(set_state, "by_dfz_ray"):
        return

    @functools.wraps(set_state)  # it is pickled by its name
    def set_state_and_add(function: types.FunctionType, state: Any) -> None:
        set_state(function, state)
        own = function.__globals__
        own.update(find(own.get("__name__", "")))

    set_state_and_add.by_dfz_ray = True  # type: ignore[attr-defined]
    reducers._function_setstate = set_state_and_add


def add_to_classes(find: Callable[[type], Mapping[str, Any]]) -> None:
    """Give classes that are unpickled by value more attributes, or others: those that `find` returns for them."""
    set_state = reducers._class_setstate
    if hasattr(set_state, "by_dfz_ray"):
        return

    @functools.wraps(set_state)  # it is pickled by its name
    def set_state_and_add(kind: type, state: Any) -> type:
        set_state(kind, state)
        for name, value in find(kind).items():
            setattr(kind, name, value)
        return kind

    set_state_and_add.by_dfz_ray = True  # type: ignore[attr-defined]
    reducers._class_setstate = set_state_and_add


def is_by_reference(value: Any) -> bool:
    """True if a function, class or module travels as the name under which it is imported."""
    name = value.__name__ if isinstance(value, types.ModuleType) else _find_module(value)
    if name not in sys.modules:
        return False
    module = f"{name}."
    return not any(module.startswith(f"{other}.") for other in cloudpickle.list_registry_pickle_by_value())


def _find_module(value: Any) -> str | None:
    """The module in which another process finds this very object under its name, or None."""
    module, name = getattr(value, "__module__", None), getattr(value, "__qualname__", None)
    if module is None or module == "__main__" or name is None or "<locals>" in name:  # `__main__` is another one there
        return None
    found: Any = sys.modules.get(module)
    for part in name.split("."):
        found = getattr(found, part, None)
    return module if found is value else None
