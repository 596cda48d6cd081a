"""The domain of function calls: each of its tasks is one call, or several calls of one function.

A function travels within its call, or once per run as one of its files. Pickle is code: so no batch can name this
domain, and no other process goes on with such a run. Ray is imported only to pickle by value, with its cloudpickle.

An exception travels beside its text, and is never written down; `error_packing` says how.
"""

from __future__ import annotations

import hashlib
import pickle
import struct
import sys
from collections.abc import Callable, Mapping
from contextvars import copy_context
from enum import IntEnum
from time import perf_counter  # bound here, for a call may put another one in its place
from typing import Any, NamedTuple

import msgpack

from dfz_ray.domains.domain import Domain, Parameters
from dfz_ray.domains.registry import CALLS
from dfz_ray.execution.execute import ENDS, Settle, count_forks, end_child
from dfz_ray.execution.failure import Failure, describe_exception
from dfz_ray.execution.interruption import find_cause, note_exception, pass_on_interruption
from dfz_ray.executor.error_packing import pack_error
from dfz_ray.specs.encoding import SCALARS
from dfz_ray.specs.input_file import Content, FileShelf

Function = Callable[..., Any]

KEPT_FUNCTIONS = 256
"""The most loaded functions that a worker keeps. Beyond it all are forgotten."""
_CONTAINERS = frozenset({tuple, list, set, frozenset})


# --- parameters -------------------------------------------------------------------------------------------------------


class Form(IntEnum):
    """The content of the pickled arguments of a task."""

    CALL = 0
    """A pair: positional and keyword arguments."""
    WHOLE_CALL = 1
    """A triple: the function, and the same two."""
    GROUP = 2
    """A pair: a budget in seconds, after which no further call is begun, and the positional arguments of each call, as
    a tuple, or as a pickled one where another call could see changes in it.
    """


_APART = 0x80
"""Added to the form if the arguments are an input of the run, whose name is in their place."""


_HEAD = struct.Struct(">BIB?64s")
"""MessagePack's type for bytes, their number, the form, True if the function is fixed, and its SHA-256 in hex. The
pickled arguments follow. Packing this piece by piece with MessagePack takes ten times as long.
"""
_BIN32 = 0xC6
_BIN32_HEAD_BYTES = 5


class FunctionCall(NamedTuple):
    """The parameters of a task, read: a call of a function, or several calls."""

    form: int
    is_fixed: bool
    """As in PackedFunction."""
    key: bytes
    """SHA-256 of the pickled function, in hex; zeros where the function is among the arguments."""
    loaded: Function | None
    """The function, if this process has loaded it already and it is fixed."""
    content: Content
    """The pickled function, if it has to be loaded."""
    arguments: Content
    """Pickled as the form says."""


class PackedFunction(NamedTuple):
    """A function, ready to travel."""

    sha256: str
    content: bytes
    is_fixed: bool
    """True if nothing that it refers to can change, so that a worker may load it once for many calls."""
    kind: str

    @classmethod
    def of(cls, content: bytes, is_fixed: bool, kind: str) -> PackedFunction:
        """A pickled function."""
        return cls(hashlib.sha256(content).hexdigest(), content, is_fixed, kind)

    def pack_parameters(self, form: Form, arguments: bytes) -> bytes:
        """The parameters of a task that calls the function; the arguments are pickled as the form says."""
        return _pack_parameters(form, self.is_fixed, self.sha256.encode(), arguments)


def pack_whole_call(arguments: bytes) -> bytes:
    """The parameters of a task that calls a function which is among the pickled arguments."""
    return _pack_parameters(Form.WHOLE_CALL, False, b"", arguments)


def arguments_of(parameters: bytes) -> memoryview:
    """The pickled arguments in the parameters of a task."""
    return memoryview(parameters)[_HEAD.size :]


def put_apart(parameters: bytes, name: str) -> bytes:
    """The same parameters, where the arguments are an input of the run."""
    _, _, form, is_fixed, key = _HEAD.unpack_from(parameters)
    return _pack_parameters(form | _APART, is_fixed, key, name.encode())


def _pack_parameters(form: int, is_fixed: bool, function: bytes, arguments: bytes) -> bytes:
    size_bytes = _HEAD.size - _BIN32_HEAD_BYTES + len(arguments)
    return _HEAD.pack(_BIN32, size_bytes, form, is_fixed, function) + arguments


def read_call(packed: bytes, shelf: FileShelf) -> FunctionCall:
    """The parameters of a task.

    Raises:
        ValueError: the run has no such function or arguments.
    """
    _, _, form, is_fixed, key = _HEAD.unpack_from(packed)
    arguments: Content = packed[_HEAD.size :]
    if form & _APART:
        form -= _APART
        name = bytes(arguments).decode()
        if name not in shelf.contents:
            raise ValueError(f"the run was not sent the arguments {name}")
        arguments = shelf.contents.pop(name)  # so that the node's memory has them no longer than the task needs
    loaded = _loaded.get(key) if is_fixed else None
    content: Content = b""
    if loaded is None and form != Form.WHOLE_CALL:
        sha256 = key.decode()
        if sha256 not in shelf.contents:
            raise ValueError(f"the run was not sent the function {sha256}")
        content = shelf.contents[sha256]
    return FunctionCall(form, is_fixed, key, loaded, content, arguments)


# --- in a worker ------------------------------------------------------------------------------------------------------


_loaded: dict[bytes, Function] = {}
"""The fixed functions that this process was sent, by SHA-256."""


def forget_functions() -> None:
    """Load the fixed functions anew when they are next called."""
    _loaded.clear()


def _load(call: FunctionCall) -> Function:
    if call.loaded is not None:
        return call.loaded
    function: Function = pickle.loads(call.content)  # noqa: S301 - the driver of this run has made it
    if call.is_fixed:
        if len(_loaded) >= KEPT_FUNCTIONS:
            _loaded.clear()
        _loaded[call.key] = function
    return function


def go_on() -> bool:
    """The end of a call that any other one may follow."""
    return False


def compute(call: FunctionCall, seed: int, threads: int, end_call: Settle = go_on) -> bytes:
    """Make a call, or the calls of a group, with `end_call` between them; the result is pickled."""
    arguments = pickle.loads(call.arguments)  # noqa: S301 - the driver of this run has made it
    if call.form == Form.GROUP:
        return _dump_group(_call_each(call, end_call, *arguments))
    function, args, kwargs = arguments if call.form == Form.WHOLE_CALL else (_load(call), *arguments)
    return dump(function(*args, **kwargs))


class GroupResult(NamedTuple):
    """The results of a group of calls."""

    values: list[Any]
    """In the order of the calls; None for a call that raised. Fewer than there were calls where the budget ended, or a
    call has changed its process for good.
    """
    failures: Mapping[int, Failure]
    """By position, of the calls that raised."""


def _call_each(call: FunctionCall, end_call: Settle, budget_s: float, arguments: list[Any]) -> GroupResult:
    """Make calls as if each were a task: none feels what another one has changed, none is made in a forked child."""
    values: list[Any] = []
    failures: dict[int, Failure] = {}
    known, forks, count, ends_at = call.loaded, count_forks(), len(arguments), perf_counter() + budget_s

    def end() -> bool:
        end_child(forks)
        return len(values) == count or perf_counter() > ends_at or end_call()  # the last one ends with the task

    for args in arguments:
        values.append(None)
        try:
            context = copy_context()  # so that no other call, nor a look at the state, finds this one's variables
            function = context.run(_load, call) if known is None else known
            if call.is_fixed:
                known = function
            if type(args) is bytes:
                args = context.run(pickle.loads, args)  # noqa: PLW2901 - the driver of this run has made it
            values[-1] = context.run(function, *args)
            is_last = end()
        except BaseException as error:  # also SystemExit: a call ends itself, not the others
            values[-1] = None
            failures[len(values) - 1], is_last = _end_failed(error, forks, end)
        if is_last:
            break
    return GroupResult(values, failures)


def _end_failed(error: BaseException, forks: int, end: Settle) -> tuple[Failure, bool]:
    """End a call that an error has left, or that has left something behind which raises as it is put away."""
    for _ in range(ENDS):
        try:
            end_child(forks, error)
            note_exception(error)
            return _describe(error), end()
        except BaseException as another:
            if find_cause(another) is not None:  # the whole group has to end
                raise
            error = another
    raise error


def _describe(error: BaseException) -> Failure:
    pass_on_interruption(error)
    failure = describe_exception(error, skip_frames=1)
    try:
        return failure._replace(payload=pack_error(error))
    except BaseException as worse:  # an exception's own methods may do anything
        pass_on_interruption(worse)
        return failure


def _dump_group(group: GroupResult) -> bytes:
    values = group.values
    failures = {position: tuple(failure) for position, failure in group.failures.items()}
    are_pickled = not SCALARS.issuperset(map(type, values))
    if are_pickled:  # each by itself: they share nothing, and where one can't travel the others do
        pickled = []
        for position, value in enumerate(values):
            try:
                pickled.append(dump(value))
            except BaseException as error:
                pickled.append(dump(None))
                failures[position] = tuple(_describe(error))
        values = pickled
    return pickle.dumps((values, are_pickled, failures), pickle.HIGHEST_PROTOCOL)


def dump(value: Any) -> bytes:
    """Pickle a value: plainly if that will do, which takes a twentieth of the time, and otherwise by value."""
    if is_plain(value):
        return pickle.dumps(value, pickle.HIGHEST_PROTOCOL)
    from dfz_ray.driver.pickling import dumps

    pickled: bytes = dumps(value)
    return pickled


def is_plain(value: Any) -> bool:
    """True if plain pickle will do: the value, or what it directly contains, is numbers, texts, bytes and None."""
    kind = type(value)
    if kind in SCALARS:
        return True
    if kind in _CONTAINERS:
        return SCALARS.issuperset(map(type, value))
    if kind is dict:
        return SCALARS.issuperset(map(type, value)) and SCALARS.issuperset(map(type, value.values()))
    if kind is bytearray:
        return True
    numpy = sys.modules.get("numpy")
    return numpy is not None and kind is numpy.ndarray and value.dtype.kind in "biufcSUmM"


# --- results ----------------------------------------------------------------------------------------------------------


def read_result(result: bytes) -> Any:
    """The value that a call of this process's run returned; for those of a group see `read_group`."""
    return pickle.loads(msgpack.unpackb(result))  # noqa: S301 - a worker of this run made it


def read_group(result: bytes) -> GroupResult:
    """The results of a group, from the result of its task."""
    values, are_pickled, failures = read_result(result)
    if are_pickled:
        values = [pickle.loads(value) for value in values]  # noqa: S301 - a worker of this run made it
    return GroupResult(values, {position: Failure(*parts) for position, parts in failures.items()})


def _kind(call: Any) -> str:
    return CALLS


FUNCTION_DOMAIN = Domain(
    name=CALLS,
    parameters=Parameters,
    compute=compute,
    compute_calls=compute,
    kind=_kind,
    read=read_call,
    pack_error=pack_error,
    summary="Calls of functions, as an executor makes them.",
)
