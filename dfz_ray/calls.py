"""From a function and its arguments to a task, and from what came of it to a value or an exception."""

from __future__ import annotations

import functools
import inspect
import pickle
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from dfz_ray.domains.captures import Captures
from dfz_ray.domains.function_call import PackedFunction, call_once, is_plain, make_domain
from dfz_ray.errors import CallFailed, DfzError, RemoteTraceback
from dfz_ray.specs.encoding import SCALARS
from dfz_ray.specs.input_file import LIMIT_BYTES

if TYPE_CHECKING:
    from dfz_ray.domains.domain import Domain

KNOWN_FUNCTIONS = 1_000
"""So many functions are remembered with what they were pickled to."""
INLINE_BYTES = 2**16
"""A function that may be another one at each call travels with its arguments, unless it is larger than this."""
ARGUMENTS_LIMIT_BYTES = 2**29
"""What SQLite holds in one value ends at about twice as much."""
KIND_CHARACTERS = 200


class PackedCall(NamedTuple):
    """A call as a task has it."""

    kind: str
    parameters: bytes
    function: PackedFunction | None
    """What has to be among the files of the task's run; None: the parameters hold all."""


class CallPacker:
    """Makes calls ready to travel: a function is pickled once, as long as nothing that it refers to can have changed.

    Functions that can be imported travel by their name; those of `__main__`, lambdas, closures, partials and methods
    by value, with what they refer to as it is at the time of the call. Arguments are pickled at once as well.
    """

    def __init__(self) -> None:
        from dfz_ray.runtime.pickling import dumps, is_by_reference

        self._dumps: Callable[[Any], bytes] = dumps
        self._is_by_reference = is_by_reference
        self._known: dict[int, tuple[Any, PackedFunction, Captures]] = {}
        """By the function's id, which is its own as long as it is held here."""

    def pack(self, function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> PackedCall:
        """One call.

        Raises:
            Exception: whatever pickling the function or an argument raises.
        """
        known = self._known.get(id(function))
        if known is not None and known[2].are_same():
            packed = known[1]
        else:
            captures = Captures(function, self._is_by_reference)
            if captures.can_change:
                content = self._dumps(function)
                if len(content) <= INLINE_BYTES:
                    whole = self._dumps((function, tuple(args), kwargs))
                    _check_size("the arguments of a call", whole, ARGUMENTS_LIMIT_BYTES)
                    return PackedCall(name_of(function), call_once(whole), None)
                packed = self._pack_function(content, False, function)
            else:
                packed = self._remember(function, captures)
        return PackedCall(packed.kind, packed.call(self._pack_arguments(args, kwargs)), packed)

    def pack_function(self, function: Callable[..., Any]) -> PackedFunction:
        """A function as it is now, for many calls."""
        packed = self._find(function)
        if packed is not None:
            return packed
        captures = Captures(function, self._is_by_reference)
        if captures.can_change:
            return self._pack_function(self._dumps(function), False, function)
        return self._remember(function, captures)

    def pack_group(
        self, packed: PackedFunction, arguments: Sequence[tuple[Any, ...]], budget_s: float = float("inf")
    ) -> bytes:
        """The parameters of a task that is several calls.

        Args:
            packed: of which function.
            arguments: the positional ones of each call.
            budget_s: after so many seconds no further call is begun.
        """
        are_plain = all(SCALARS.issuperset(map(type, args)) for args in arguments)
        both = (budget_s, arguments)
        pickled = pickle.dumps(both, pickle.HIGHEST_PROTOCOL) if are_plain else self._dumps(both)
        _check_size("the arguments of calls that go together", pickled, ARGUMENTS_LIMIT_BYTES)
        return packed.group(pickled)

    def _find(self, function: Any) -> PackedFunction | None:
        known = self._known.get(id(function))
        return known[1] if known is not None and known[2].are_same() else None

    def _remember(self, function: Any, captures: Captures) -> PackedFunction:
        packed = self._pack_function(self._dumps(function), True, function)
        if len(self._known) >= KNOWN_FUNCTIONS:
            self._known.clear()
        self._known[id(function)] = (function, packed, captures)
        return packed

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
    from dfz_ray.runtime.pickling import dumps

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
