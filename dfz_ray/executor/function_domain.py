"""The domain of function calls: a task is a call, or several of one function, that a driver has pickled.

A function travels once per run, as one of its files. Pickle is code: so no batch can name this domain, and no run of it
is gone on with by another process. This floor does without ray: who sends the domain gives it cloudpickle's `dumps`.
"""

from __future__ import annotations

import hashlib
import pickle
import sys
import time
from collections.abc import Callable, Mapping
from enum import IntEnum
from typing import Any, NamedTuple

import msgpack

from dfz_ray.domains.domain import Domain, Parameters
from dfz_ray.domains.registry import CALLS
from dfz_ray.execution.execute import Failure, describe_exception, pass_on_interruption
from dfz_ray.specs.encoding import SCALARS, decode, encode
from dfz_ray.specs.input_file import FileShelf

Dumps = Callable[[Any], bytes]

ERROR_LIMIT_BYTES = 2**20
"""A larger exception reaches the driver as text."""
KEPT_FUNCTIONS = 256
"""A worker keeps so many; then it begins anew."""
_CONTAINERS = frozenset({tuple, list, set, frozenset})
_BIN8 = 0xC4
"""MessagePack's type of up to 255 bytes: their number follows in one byte, and then they."""
_SHORT = [bytes([_BIN8, length]) for length in range(256)]
_EMPTY_BIN_BYTES = len(msgpack.packb(b""))


class Form(IntEnum):
    """What the arguments of a task are."""

    CALL = 0
    """Of one call: positional ones, keyword ones."""
    CALL_ANEW = 1
    """The same, of a function that is unpickled for each call: what one call changes in it, no other one sees."""
    WHOLE_CALL = 2
    """The function, and these."""
    GROUP = 3
    """A budget, and a list: the positional ones of each call. After so many seconds no further call is begun.

    Those of a call are a tuple, or a pickled one, where another call could see what is done to them.
    """
    GROUP_ANEW = 4
    """The same, of a function that is unpickled for each call."""


_CALL, _CALL_ANEW = Form.CALL.value, Form.CALL_ANEW.value


class FunctionCall(NamedTuple):
    """A call of a function, or several of one, as a worker gets it."""

    function: str
    """SHA-256 of the pickled function, in hex; empty where it is among the arguments."""
    form: int
    content: bytes
    """The pickled function."""
    arguments: bytes


class PackedFunction(NamedTuple):
    """A function, ready to travel."""

    sha256: str
    content: bytes
    is_fixed: bool
    """Nothing that it refers to can change, so it may be unpickled once for many calls."""
    kind: str
    prefixes: tuple[bytes, ...]
    """By Form: the parameters of a task up to its arguments."""

    @classmethod
    def of(cls, content: bytes, is_fixed: bool, kind: str) -> PackedFunction:
        """A pickled function."""
        sha256 = hashlib.sha256(content).hexdigest()
        prefixes = tuple(
            encode({"function": "" if form == Form.WHOLE_CALL else sha256, "form": int(form), "arguments": b""})
            for form in Form
        )
        return cls(sha256, content, is_fixed, kind, tuple(prefix[:-_EMPTY_BIN_BYTES] for prefix in prefixes))

    def call(self, arguments: bytes) -> bytes:
        """The parameters of a task that is one call.

        Args:
            arguments: the pickled pair of positional and keyword arguments.
        """
        return self.prefixes[_CALL if self.is_fixed else _CALL_ANEW] + _pack_bytes(arguments)

    def group(self, arguments: bytes) -> bytes:
        """The parameters of a task that is several calls.

        Args:
            arguments: a pickled pair: after how many seconds no further call is begun, and a list of the positional
                arguments of each, as tuples or pickled ones.
        """
        return self.prefixes[Form.GROUP if self.is_fixed else Form.GROUP_ANEW] + _pack_bytes(arguments)


def _pack_bytes(value: bytes) -> bytes:
    """As MessagePack; by hand where they are few, for calling the packer takes longer than all the rest."""
    length = len(value)
    packed: bytes = _SHORT[length] + value if length < len(_SHORT) else msgpack.packb(value)
    return packed


def _unpack_bytes(packed: bytes) -> bytes:
    """What was packed."""
    value: bytes = packed[2:] if packed[0] == _BIN8 else decode(packed)
    return value


_HEAD_BYTES = len(PackedFunction.of(b"", True, "").prefixes[Form.CALL])
"""All parameters that name a function have heads of this length."""


def call_once(whole: bytes) -> bytes:
    """The parameters of a task that is one call of a function that travels with it.

    Args:
        whole: the pickled triple of the function, its positional and its keyword arguments.
    """
    return encode({"function": "", "form": int(Form.WHOLE_CALL), "arguments": whole})


class GroupResult(NamedTuple):
    """What came of the calls of a group."""

    values: list[Any]
    """What they returned, in order; None for one that raised. Fewer than there were calls where the budget ended."""
    failures: Mapping[int, Failure]
    """Of those that raised, by position."""


def read_result(result: bytes) -> Any:
    """What a call returned, from the result of a task of the run of this process; of several see `read_group`."""
    return pickle.loads(_unpack_bytes(result))  # noqa: S301 - of this run, as its workers say it


def is_plain(value: Any) -> bool:
    """Whether plain pickle will do: the value, or what it directly contains, is numbers, texts, bytes and None."""
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


class Calls:
    """What a worker does with calls, and `pack_error` of their domain.

    Args:
        dumps: cloudpickle's: it takes by value what the workers, or the driver, can't import.
    """

    def __init__(self, dumps: Dumps) -> None:
        self._dumps = dumps

    def compute(self, call: FunctionCall, seed: int, threads: int) -> bytes:
        """Call; what comes back is pickled."""
        form = call.form
        if form >= Form.GROUP:
            return self._dump_group(_compute_group(self, call))
        if form == Form.WHOLE_CALL:
            function, args, kwargs = pickle.loads(call.arguments)  # noqa: S301 - the driver of this run has made it
        else:
            function = _load_anew(call) if form == Form.CALL_ANEW else _load(call)
            args, kwargs = pickle.loads(call.arguments)  # noqa: S301 - the same
        return self.dump(function(*args, **kwargs))

    def dump(self, value: Any) -> bytes:
        """A value as bytes, by plain pickle where that will do, for it takes a twentieth of the time."""
        return pickle.dumps(value, pickle.HIGHEST_PROTOCOL) if is_plain(value) else self._dumps(value)

    def pack_error(self, error: BaseException) -> bytes | None:
        """An exception as bytes, if it is the same one when it is unpickled; and not too large."""
        packed = self._dumps(error)
        if len(packed) > ERROR_LIMIT_BYTES:
            return None
        again = pickle.loads(packed)  # noqa: S301 - it was just made
        return packed if type(again) is type(error) else None

    def _dump_group(self, group: GroupResult) -> bytes:
        values, failures = group
        plain_failures = {position: tuple(failure) for position, failure in failures.items()}
        are_packed = not SCALARS.issuperset(map(type, values))
        if are_packed:  # each by itself: they share nothing, and where one can't travel the others do
            packed = []
            for position, value in enumerate(values):
                try:
                    packed.append(self.dump(value))
                except BaseException as error:
                    packed.append(self.dump(None))
                    plain_failures[position] = tuple(self.describe(error))
            values = packed
        return pickle.dumps((values, are_packed, plain_failures), pickle.HIGHEST_PROTOCOL)

    def describe(self, error: BaseException) -> Failure:
        """Why a call of a group failed."""
        pass_on_interruption(error)
        failure = describe_exception(error, skip_frames=1)
        try:
            return failure._replace(payload=self.pack_error(error))
        except BaseException as worse:  # an exception's own methods may do anything
            pass_on_interruption(worse)
            return failure


def _compute_group(calls: Calls, call: FunctionCall) -> GroupResult:
    budget_s, arguments = pickle.loads(call.arguments)  # noqa: S301 - the driver of this run has made it
    values: list[Any] = []
    failures: dict[int, Failure] = {}
    load = _load if call.form == Form.GROUP else _load_anew
    ends_at = time.perf_counter() + budget_s
    for args in arguments:
        try:
            function = load(call)
            if type(args) is bytes:
                args = pickle.loads(args)  # noqa: PLW2901, S301 - the same ones, of the driver of this run
            values.append(function(*args))
        except BaseException as error:  # also SystemExit: a call ends itself, not the others
            failures[len(values)] = calls.describe(error)
            values.append(None)
        if time.perf_counter() > ends_at:
            break
    return GroupResult(values, failures)


def read_group(result: bytes) -> GroupResult:
    """What came of a group, from the result of its task."""
    values, are_packed, failures = read_result(result)
    if are_packed:
        values = [pickle.loads(value) for value in values]  # noqa: S301 - of this run, as its workers say it
    return GroupResult(values, {position: Failure(*told) for position, told in failures.items()})


_loaded: dict[str, Callable[..., Any]] = {}
"""The functions that can't change, of those that this process was sent, by SHA-256."""
_heads: dict[bytes, tuple[str, int, bytes]] = {}
"""What the parameters of calls begin with: function, form and content."""


def read_call(packed: bytes, shelf: FileShelf) -> FunctionCall:
    """The parameters of a task; MessagePack and pydantic would take longer than the call of a small function.

    Raises:
        ValueError: the run has no such function.
    """
    known = _heads.get(packed[:_HEAD_BYTES])
    if known is not None:
        return FunctionCall(*known, _unpack_bytes(packed[_HEAD_BYTES:]))
    told = decode(packed)
    function, form, arguments = told["function"], told["form"], told["arguments"]
    if not function:
        return FunctionCall(function, form, b"", arguments)
    if function not in shelf.contents:
        raise ValueError(f"the run was not sent the function {function}")
    if len(_heads) >= KEPT_FUNCTIONS:
        _heads.clear()
        _loaded.clear()
    _heads[packed[:_HEAD_BYTES]] = known = function, form, shelf.contents[function]
    return FunctionCall(*known, arguments)


def _load(call: FunctionCall) -> Callable[..., Any]:
    try:
        return _loaded[call.function]
    except KeyError:
        function = _loaded[call.function] = _load_anew(call)
        return function


def _load_anew(call: FunctionCall) -> Callable[..., Any]:
    function: Callable[..., Any] = pickle.loads(call.content)  # noqa: S301 - the driver of this run has made it
    return function


def _kind(call: Any) -> str:
    return CALLS


def make_domain(dumps: Dumps) -> Domain:
    """The domain of calls.

    Args:
        dumps: cloudpickle's.
    """
    calls = Calls(dumps)
    return Domain(
        name=CALLS,
        parameters=Parameters,
        read=read_call,
        compute=calls.compute,
        kind=_kind,
        pack_error=calls.pack_error,
        summary="Calls of functions, as an executor makes them.",
    )
