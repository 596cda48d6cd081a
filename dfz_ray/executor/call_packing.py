"""Packing calls into tasks, and reading the errors that they end with."""

from __future__ import annotations

import functools
import inspect
import pickle
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from dfz_ray.errors import CallFailed, CallTimedOut, DfzError, RemoteTraceback
from dfz_ray.executor.captures import Captures
from dfz_ray.executor.function_domain import Form, PackedFunction, is_plain, pack_whole_call
from dfz_ray.specs.encoding import SCALARS

KNOWN_FUNCTIONS = 1_000
"""The most functions that are remembered. Beyond it all are forgotten."""
KNOWN_BYTES = 2**27
"""The most bytes of remembered functions, pickled. Beyond it all but the newest are forgotten."""
INLINE_BYTES = 2**16
"""A function that is new, or that can change, travels within its call, unless it is larger when it is pickled, and was
sent before with the same content.
"""
SEEN_FUNCTIONS = 10_000
"""The most functions that are larger of which it is known that they were sent. Beyond it all are forgotten."""
LIMIT_BYTES = 2**31
"""The most bytes of a pickled function, or of the pickled arguments of a task."""
KIND_CHARACTERS = 200


class PackedCall(NamedTuple):
    """A call, ready to become a task."""

    kind: str
    parameters: bytes
    function: PackedFunction | None
    """The function that has to be among the files of the run; None where the parameters hold it."""


class _Known(NamedTuple):
    """A function that was called before."""

    function: Any
    """Kept alive, since another object could get the id of a deleted one."""
    captures: Captures
    packed: PackedFunction | None
    """None after the first call, in which the function travelled; a function made for one call needs no more."""


class CallPacker:
    """Makes calls ready to travel.

    A function that can be imported travels by its name; functions of `__main__`, lambdas, closures, partials and
    methods travel by value, with the present state of everything that they refer to. Arguments are pickled at once.

    A function that is called once, such as a partial made for one call, travels within its call, however large it is.
    From the second call on it is a file of the run, which the manager and the workers keep until the run ends. It is
    not pickled again until something that it refers to has changed.
    """

    def __init__(self) -> None:
        from dfz_ray.driver.pickling import dumps, is_by_reference

        self._dumps: Callable[[Any], bytes] = dumps
        self._is_by_reference = is_by_reference
        self._known: dict[int, _Known] = {}
        """By the function's id."""
        self._known_bytes = 0
        self._seen: set[str] = set()
        """The SHA-256 of functions that have travelled within a call, though they are large."""
        self._lock = threading.RLock()  # deleting a forgotten function may run code that calls this packer

    def pack(self, function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> PackedCall:
        """Pack one call.

        Raises:
            Exception: whatever pickling the function or an argument raises.
        """
        known = self._find(function)
        if known is not None:
            packed = known.packed or self._pack_function(function, known.captures, self._dumps(function))
        else:
            captures = Captures(function, self._is_by_reference)
            content = self._dumps(function)
            if len(content) <= INLINE_BYTES:
                if not captures.can_change:
                    self._remember(_Known(function, captures, None), len(content))
                return self._pack_whole(function, args, kwargs)
            packed = self._pack_function(function, captures, content)
            if self._is_first(packed.sha256):
                return self._pack_whole(function, args, kwargs)
        parameters = packed.pack_parameters(Form.CALL, self._pack_arguments(args, kwargs))
        return PackedCall(packed.kind, parameters, packed)

    def pack_function(self, function: Callable[..., Any]) -> PackedFunction:
        """Pack a function as it is now, for many calls."""
        known = self._find(function)
        if known is not None and known.packed is not None:
            return known.packed
        captures = Captures(function, self._is_by_reference) if known is None else known.captures
        return self._pack_function(function, captures, self._dumps(function))

    def pack_group(
        self, packed: PackedFunction, arguments: Sequence[tuple[Any, ...]], budget_s: float = float("inf")
    ) -> bytes:
        """The parameters of a task that is several calls; when `budget_s` is used up, no further call is begun."""
        each = [args if SCALARS.issuperset(map(type, args)) else self._pack_alone(args) for args in arguments]
        pickled = pickle.dumps((budget_s, each), pickle.HIGHEST_PROTOCOL)
        _check_size("the arguments of calls that go together", pickled)
        return packed.pack_parameters(Form.GROUP, pickled)

    def _find(self, function: Any) -> _Known | None:
        """The entry of a function that was called before; None if it is new, can change, or has changed."""
        known = self._known.get(id(function))
        return known if known is not None and known.captures.are_same() else None

    def _pack_function(self, function: Any, captures: Captures, content: bytes) -> PackedFunction:
        name = name_of(function)
        _check_size(f"{name} with what it refers to", content)
        packed = PackedFunction.of(content, not captures.can_change, name)
        if packed.is_fixed:
            self._remember(_Known(function, captures, packed), len(content))
        return packed

    def _is_first(self, sha256: str) -> bool:
        """True if a large function has not travelled before; it may be called once, and nobody is to keep it."""
        with self._lock:
            if sha256 in self._seen:
                return False
            if len(self._seen) >= SEEN_FUNCTIONS:
                self._seen.clear()
            self._seen.add(sha256)
            return True

    def _remember(self, known: _Known, size_bytes: int) -> None:
        with self._lock:
            self._known_bytes += size_bytes  # a function that was remembered before counts twice, which does no harm
            if len(self._known) >= KNOWN_FUNCTIONS or self._known_bytes > KNOWN_BYTES:
                self._known.clear()
                self._known_bytes = size_bytes
            self._known[id(known.function)] = known

    def _pack_whole(self, function: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> PackedCall:
        whole = self._dumps((function, tuple(args), kwargs))
        _check_size("the arguments of a call", whole)
        return PackedCall(name_of(function), pack_whole_call(whole), None)

    def _pack_alone(self, args: tuple[Any, ...]) -> bytes:
        return pickle.dumps(args, pickle.HIGHEST_PROTOCOL) if all(map(is_plain, args)) else self._dumps(args)

    def _pack_arguments(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> bytes:
        both = (args, kwargs)
        if (not args or all(map(is_plain, args))) and (not kwargs or all(map(is_plain, kwargs.values()))):
            packed = pickle.dumps(both, pickle.HIGHEST_PROTOCOL)
        else:
            packed = self._dumps(both)
        _check_size("the arguments of a call", packed)
        return packed


def _check_size(what: str, packed: bytes) -> None:
    if len(packed) > LIMIT_BYTES:
        raise DfzError(
            f"{what} can't be sent to the workers: {len(packed)} bytes, and at most {LIMIT_BYTES} may travel; "
            "share large arrays (`shared`), or let large data be read from a file"
        )


def name_of(function: Any) -> str:
    """The name of a callable, for people; calls of one name are of one kind, whose run time is learned."""
    inner = inspect.unwrap(function) if inspect.isfunction(function) else function
    while isinstance(inner, functools.partial):
        inner = inner.func
    inner = inner if hasattr(inner, "__qualname__") else type(inner)
    name = f"{getattr(inner, '__module__', None) or 'builtins'}.{inner.__qualname__}"
    return name if len(name) <= KIND_CHARACTERS else f"{name[:KIND_CHARACTERS]}..."


def read_error(reason: str, message: str, traceback: str | None, payload: bytes | None) -> BaseException:
    """The exception that a failed call raises in the driver: the one of the worker, if it could travel.

    Its `__cause__` has the worker's traceback.
    """
    error: BaseException | None = None
    if payload is not None:
        try:
            error = pickle.loads(payload)  # noqa: S301 - a worker of this run made it
        except BaseException:  # its class is not known here, or does whatever it likes
            error = None
    if not isinstance(error, BaseException):
        error = (CallTimedOut if reason == "timeout" else CallFailed)(reason, message, traceback)
    if traceback:  # its class may refuse attributes, as a frozen dataclass does
        BaseException.__dict__["__cause__"].__set__(error, RemoteTraceback(traceback))
    return error
