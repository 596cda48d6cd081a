"""From a function and its arguments to a task, and from what came of it to a value or an exception."""

from __future__ import annotations

import functools
import inspect
import pickle
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from dfz_ray.errors import CallFailed, DfzError, RemoteTraceback
from dfz_ray.executor.captures import Captures
from dfz_ray.executor.function_domain import PackedFunction, call_once, is_plain, make_domain
from dfz_ray.specs.encoding import SCALARS
from dfz_ray.specs.input_file import LIMIT_BYTES

if TYPE_CHECKING:
    from dfz_ray.domains.domain import Domain

KNOWN_FUNCTIONS = 1_000
"""So many functions are remembered with what they were pickled to."""
KNOWN_BYTES = 2**27
"""And no more, unless it is a single one, than have so many bytes when they are pickled."""
INLINE_BYTES = 2**16
"""A function that may be another one at each call, or is new, travels with its arguments, unless it is larger."""
ARGUMENTS_LIMIT_BYTES = 2**29
"""What SQLite holds in one value ends at about twice as much."""
KIND_CHARACTERS = 200


class PackedCall(NamedTuple):
    """A call as a task has it."""

    kind: str
    parameters: bytes
    function: PackedFunction | None
    """What has to be among the files of the task's run; None: the parameters hold all."""


class _Known(NamedTuple):
    """A function that was seen."""

    function: Any
    """It is held, for else another one could get its id."""
    captures: Captures
    packed: PackedFunction | None
    """None: it was seen once, and travelled within its call; most of those that are made for one call end here."""


class CallPacker:
    """Makes calls ready to travel: a function is pickled once, as long as nothing that it refers to can have changed.

    What is called once, such as a partial that was made for it, travels within its call; from the second call on a
    function is a file of the run, which is held by the manager and the workers as long as the run goes on.
    Functions that can be imported travel by their name; those of `__main__`, lambdas, closures, partials and methods
    by value, with what they refer to as it is at the time of the call. Arguments are pickled at once as well.
    """

    def __init__(self) -> None:
        from dfz_ray.executor.pickling import dumps, is_by_reference

        self._dumps: Callable[[Any], bytes] = dumps
        self._is_by_reference = is_by_reference
        self._known: dict[int, _Known] = {}
        """By the function's id."""
        self._known_bytes = 0
        self._lock = threading.RLock()  # what is given up here may come back here

    def pack(self, function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> PackedCall:
        """One call.

        Raises:
            Exception: whatever pickling the function or an argument raises.
        """
        known = self._known.get(id(function))
        if known is not None and known.captures.are_same():
            packed = known.packed or self._remember(function, known.captures, self._dumps(function))
        else:
            captures = Captures(function, self._is_by_reference)
            content = self._dumps(function)
            if len(content) <= INLINE_BYTES:
                if not captures.can_change:
                    self._hold(_Known(function, captures, None), len(content))
                return self._pack_whole(function, args, kwargs)
            if captures.can_change:
                packed = self._pack_function(content, False, function)
            else:
                packed = self._remember(function, captures, content)
        return PackedCall(packed.kind, packed.call(self._pack_arguments(args, kwargs)), packed)

    def pack_function(self, function: Callable[..., Any]) -> PackedFunction:
        """A function as it is now, for many calls."""
        known = self._known.get(id(function))
        is_known = known is not None and known.captures.are_same()
        if known is not None and is_known and known.packed is not None:
            return known.packed
        captures = known.captures if known is not None and is_known else Captures(function, self._is_by_reference)
        content = self._dumps(function)
        if captures.can_change:
            return self._pack_function(content, False, function)
        return self._remember(function, captures, content)

    def pack_group(
        self, packed: PackedFunction, arguments: Sequence[tuple[Any, ...]], budget_s: float = float("inf")
    ) -> bytes:
        """The parameters of a task that is several calls.

        Args:
            packed: of which function.
            arguments: the positional ones of each call.
            budget_s: after so many seconds no further call is begun.
        """
        each = [args if SCALARS.issuperset(map(type, args)) else self._pack_alone(args) for args in arguments]
        pickled = pickle.dumps((budget_s, each), pickle.HIGHEST_PROTOCOL)
        _check_size("the arguments of calls that go together", pickled, ARGUMENTS_LIMIT_BYTES)
        return packed.group(pickled)

    def _remember(self, function: Any, captures: Captures, content: bytes) -> PackedFunction:
        packed = self._pack_function(content, True, function)
        self._hold(_Known(function, captures, packed), len(content))
        return packed

    def _hold(self, known: _Known, size_bytes: int) -> None:
        with self._lock:
            self._known_bytes += size_bytes  # one that was held before counts twice, which does no harm
            if len(self._known) >= KNOWN_FUNCTIONS or self._known_bytes > KNOWN_BYTES:
                self._known.clear()
                self._known_bytes = size_bytes
            self._known[id(known.function)] = known

    def _pack_whole(self, function: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> PackedCall:
        whole = self._dumps((function, tuple(args), kwargs))
        _check_size("the arguments of a call", whole, ARGUMENTS_LIMIT_BYTES)
        return PackedCall(name_of(function), call_once(whole), None)

    def _pack_alone(self, args: tuple[Any, ...]) -> bytes:
        return pickle.dumps(args, pickle.HIGHEST_PROTOCOL) if all(map(is_plain, args)) else self._dumps(args)

    def _pack_function(self, content: bytes, is_fixed: bool, function: Any) -> PackedFunction:
        _check_size(f"{name_of(function)} with what it refers to", content, LIMIT_BYTES)
        return PackedFunction.of(content, is_fixed, name_of(function))

    def _pack_arguments(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> bytes:
        both = (args, kwargs)
        if (not args or all(map(is_plain, args))) and (not kwargs or all(map(is_plain, kwargs.values()))):
            packed = pickle.dumps(both, pickle.HIGHEST_PROTOCOL)
        else:
            packed = self._dumps(both)
        if len(packed) > ARGUMENTS_LIMIT_BYTES:
            _check_size("the arguments of a call", packed, ARGUMENTS_LIMIT_BYTES)
        return packed


def _check_size(what: str, packed: bytes, limit: int) -> None:
    if len(packed) > limit:
        raise DfzError(
            f"{what} can't be sent to the workers: {len(packed)} bytes, and at most {limit} may travel; "
            "let large data be read from a file"
        )


def name_of(function: Any) -> str:
    """The name of what is called, for people; calls of one name count as of one kind, whose run time is learned."""
    inner = inspect.unwrap(function) if inspect.isfunction(function) else function
    while isinstance(inner, functools.partial):
        inner = inner.func
    inner = inner if hasattr(inner, "__qualname__") else type(inner)
    name = f"{getattr(inner, '__module__', None) or 'builtins'}.{inner.__qualname__}"
    return name if len(name) <= KIND_CHARACTERS else f"{name[:KIND_CHARACTERS]}..."


@functools.cache
def calls_domain() -> Domain:
    """The domain of these tasks."""
    from dfz_ray.executor.pickling import dumps

    return make_domain(dumps)


def read_error(reason: str, message: str, traceback: str | None, payload: bytes | None) -> BaseException:
    """What a call that failed raises for who waits for it: what it raised itself, where that could travel.

    Its `__cause__` tells where it was raised on the worker.
    """
    error: BaseException | None = None
    if payload is not None:
        try:
            error = pickle.loads(payload)  # noqa: S301 - of this run, as its workers say it
        except BaseException:  # its class can't be had here, or does whatever it likes
            error = None
    if not isinstance(error, BaseException):
        error = CallFailed(reason, message, traceback)
    if traceback:
        error.__cause__ = RemoteTraceback(traceback)
    return error
