"""Gives a worker's process what it needs of the driver before it makes calls: the authkey, the folder, the variables,
and the initializer.

A setup travels within the domain of its calls, and is applied when a lease begins. Ray may give a process to one
executor after the other: each finds the working directory and the environment as its own initializer has left them.
"""

from __future__ import annotations

import contextlib
import enum
import functools
import hashlib
import multiprocessing
import os
import pickle
import sys
import types
import uuid
from collections.abc import Callable, Mapping
from concurrent.futures import BrokenExecutor
from dataclasses import dataclass
from typing import Any, NamedTuple

from dfz_ray.domains.domain import Domain
from dfz_ray.errors import DfzError
from dfz_ray.execution.execute import Settle
from dfz_ray.execution.failure import describe_exception
from dfz_ray.execution.interruption import pass_on_interruption
from dfz_ray.executor.function_domain import FUNCTION_DOMAIN, compute, forget_functions, go_on

RAYS_OWN = ("RAY_", "CUDA_VISIBLE_DEVICES")
"""Beginnings of the names of variables that Ray sets for a worker itself."""
KEPT_SETUPS = 16
"""The most setups of which a process keeps what their initializers have made; it drops the least recently used."""
LIMIT_BYTES = 32 * 2**20
"""The most bytes of an initializer with its arguments: they travel inside the domain."""


class InitializerFailed(DfzError, BrokenExecutor):
    """The initializer of an executor has raised an exception in a worker: no call can be made there."""


class Surroundings(NamedTuple):
    """The working directory and the environment of a driver, as they are to be for its calls."""

    folder: str | None
    """None: as the worker has it."""
    variables: Mapping[str, str | None]
    """The variables that differ from those with which Ray was started; None where one is to be removed."""


NOWHERE = Surroundings(None, {})
"""The surroundings of calls on a cluster: each node has its own."""


class ProcessSetup:
    """Prepares each process before it makes calls of an executor; made in the driver.

    Args:
        initializer: is called once in each process, before its first call.
        initargs: its arguments.

    Raises:
        TypeError: the initializer can't be called.
        Exception: whatever pickling it or an argument raises.
    """

    def __init__(self, initializer: Callable[..., object] | None = None, initargs: tuple[Any, ...] = ()) -> None:
        if initializer is not None and not callable(initializer):
            raise TypeError("initializer must be a callable")
        self._authkey = bytes(multiprocessing.current_process().authkey)
        self._environment = dict(os.environ)
        self._folder: str | None = None
        with contextlib.suppress(OSError):  # it may have been removed
            self._folder = os.getcwd()
        self._initializer = None if initializer is None else _pack(initializer, tuple(initargs))
        self._executor = "" if initializer is None else uuid.uuid4().hex

    def __reduce__(self) -> tuple[Any, ...]:
        """Travel as an AppliedSetup. This process is connected to Ray by then."""
        return AppliedSetup, (self._authkey, self._find_surroundings(), self._initializer, self._executor)

    def _find_surroundings(self) -> Surroundings:
        from dfz_ray.driver.connection import environment_of_embedded

        before = environment_of_embedded()
        if before is None and _current and _current[0].surroundings.folder is not None:
            before = _before[0]  # this driver is a call itself, on the Ray that another driver has embedded
        if before is None:
            return NOWHERE
        now = self._environment
        names = sorted(name for name in before.keys() | now.keys() if not name.startswith(RAYS_OWN))
        return Surroundings(self._folder, {name: now.get(name) for name in names if now.get(name) != before.get(name)})


def _pack(initializer: Callable[..., object], initargs: tuple[Any, ...]) -> bytes:
    from dfz_ray.driver.pickling import dumps

    packed = dumps((initializer, initargs))
    if len(packed) > LIMIT_BYTES:
        raise DfzError(
            f"the initializer and its arguments can't be sent to the workers: {len(packed)} bytes, and at most "
            f"{LIMIT_BYTES} may travel; let it read large data from a file"
        )
    return packed


# --- in a worker ------------------------------------------------------------------------------------------------------


class _Left(NamedTuple):
    """The state in which a setup has left this process."""

    folder: str
    environment: dict[str, str]
    failure: str | None
    """The exception that the initializer has raised, with its traceback; None if it succeeded."""
    globals: Mapping[str, Mapping[str, Any]]
    """The variables that the initializer has set in modules that travel by value, such as the script, by module."""
    attributes: Mapping[type, Mapping[str, Any]]
    """The attributes that it has set of classes that travel by value."""


_before: list[dict[str, str]] = []
"""The environment of this process before the first setup."""
_left: dict[str, _Left] = {}
"""By setup; the one that was used last is the last one."""
_current: list[AppliedSetup] = []
"""The setup that this process has."""


@dataclass(frozen=True)
class AppliedSetup:
    """A setup in a worker."""

    authkey: bytes
    surroundings: Surroundings
    initializer: bytes | None
    executor: str = ""
    """An id of the executor if it has an initializer, which may do something else than that of an equal executor."""

    @functools.cached_property
    def key(self) -> str:
        """Equal setups have equal keys."""
        parts = self.authkey, self.surroundings, self.initializer, self.executor
        return hashlib.sha256(pickle.dumps(parts)).hexdigest()

    def apply(self) -> None:
        """Give this process the driver's authkey and surroundings, and call the initializer, unless that is done.

        Raises:
            DfzError: the driver's working directory is not there.
        """
        if self._is_current():
            return
        _current.clear()
        forget_functions()  # they may have seen the variables of another executor's initializer
        multiprocessing.current_process().authkey = self.authkey
        if self.key in _left:
            _left[self.key] = _left.pop(self.key)  # the last one to be dropped
            _put_environment(_left[self.key].environment)
            _enter(_left[self.key].folder)
        else:
            self._surround()
            made = self._initialize()
            if len(_left) >= KEPT_SETUPS:
                del _left[next(iter(_left))]
            _left[self.key] = _Left(os.getcwd(), dict(os.environ), *made)
        _current.append(self)

    def require(self) -> None:
        """Apply the setup; raises InitializerFailed if its initializer has raised an exception in this process."""
        if not self._is_current():
            self.apply()
        failure = _left[self.key].failure
        if failure is not None:
            raise InitializerFailed(f"the executor's initializer failed in a worker: {failure}")

    def _is_current(self) -> bool:
        return bool(_current) and (_current[0] is self or _current[0].key == self.key)

    def _surround(self) -> None:
        if not _before:
            _before.append(dict(os.environ))
        variables = {**_before[0], **self.surroundings.variables}
        _put_environment({name: value for name, value in variables.items() if value is not None})
        if self.surroundings.folder is not None:
            _enter(self.surroundings.folder)

    def _initialize(self) -> tuple[str | None, Mapping[str, Mapping[str, Any]], Mapping[type, Mapping[str, Any]]]:
        """Call the initializer; returns the last fields of `_Left`."""
        if self.initializer is None:
            return None, {}, {}
        try:
            initializer, initargs = pickle.loads(self.initializer)  # noqa: S301 - the driver of this run has made it
            own = _find_globals(initializer)
            before = dict(own)
            classes = {kind: dict(vars(kind)) for kind in _find_classes(initializer, own)}
            initializer(*initargs)
        except BaseException as error:  # also SystemExit: a call ends by it, not the worker
            pass_on_interruption(error)
            failure = describe_exception(error, skip_frames=1)
            return f"{failure.message}\n{failure.traceback}", {}, {}
        name = own.get("__name__")
        if name is None or getattr(sys.modules.get(name), "__dict__", None) is own:  # it was imported
            return None, {}, {}
        _share_globals()
        changed = {
            name: value
            for name, value in own.items()
            if not name.startswith("__") and (before.get(name, own) is not value or type(value) not in _CONSTANT)
        }
        return None, {name: changed}, {kind: _find_set(kind, attributes) for kind, attributes in classes.items()}


_CONSTANT = frozenset(
    {types.FunctionType, types.BuiltinFunctionType, types.ModuleType, type, int, float, complex, bool, str, bytes}
)
"""Types of variables that an initializer changes only by setting them anew."""


def _find_globals(function: Any) -> dict[str, Any]:
    """The variables of the module of a callable's function, as this process has them."""
    while isinstance(function, functools.partial):
        function = function.func
    function = getattr(function, "__func__", function)
    if not isinstance(function, types.FunctionType):
        function = vars(type(function)).get("__call__")
    found: dict[str, Any] = getattr(function, "__globals__", {})
    return found


def _find_classes(function: Any, own: Mapping[str, Any]) -> set[type]:
    """The classes that travel by value among the variables of an initializer, and the one whose method it is."""
    from dfz_ray.driver.pickling import is_by_reference

    found = [*own.values(), getattr(function, "__self__", None)]
    return {
        kind for kind in found if isinstance(kind, type) and not (is_by_reference(kind) or issubclass(kind, enum.Enum))
    }


def _find_set(kind: type, before: Mapping[str, Any]) -> Mapping[str, Any]:
    """The attributes of a class that are others than before, or may have changed, such as a dict."""
    return {
        name: value
        for name, value in vars(kind).items()
        if not name.startswith(("__", "_abc_"))
        and (before.get(name, before) is not value or not (type(value) in _CONSTANT or hasattr(type(value), "__get__")))
    }


def _share_globals() -> None:
    """Let functions that come later see the variables that the initializer has set in their module.

    Functions of a script travel by value, each with a copy of the variables that it refers to; and its classes, whose
    attributes are set again each time.
    """
    from dfz_ray.driver.pickling import add_to_classes, add_to_functions

    add_to_functions(_find_shared)
    add_to_classes(_find_attributes)


def _find_shared(module: str) -> Mapping[str, Any]:
    return _left[_current[0].key].globals.get(module, {}) if _current else {}


def _find_attributes(kind: type) -> Mapping[str, Any]:
    return _left[_current[0].key].attributes.get(kind, {}) if _current else {}


def _enter(folder: str) -> None:
    try:
        os.chdir(folder)
    except OSError as error:
        raise DfzError(
            f"a call can't be made in the working directory in which its executor was made, {folder!r}: {error}; "
            "make the executor in one that stays"
        ) from None


def _put_environment(wanted: Mapping[str, str]) -> None:
    """Change the environment, except for what Ray sets itself, such as the GPUs that it has assigned to a lease."""
    for name in os.environ.keys() - wanted.keys():
        if not name.startswith(RAYS_OWN):
            del os.environ[name]
    for name, value in wanted.items():
        if os.environ.get(name) != value and not name.startswith(RAYS_OWN):
            os.environ[name] = value


@dataclass(frozen=True)
class CallDomain(Domain):
    """The domain of the calls of one executor, with the setup of its processes."""

    setup: Any = None
    """A ProcessSetup in the driver, an AppliedSetup in a worker."""

    def load(self) -> None:
        """Set this process up; if that fails each call says so itself."""
        with contextlib.suppress(DfzError):
            self.setup.apply()


@dataclass(frozen=True)
class _ComputeAfterSetup:
    """`compute` that needs the setup, whose initializer may have failed."""

    setup: Any

    def __call__(self, call: Any, seed: int, threads: int, end_call: Settle = go_on) -> bytes:
        self.setup.require()
        return compute(call, seed, threads, end_call)


def make_call_domain(setup: ProcessSetup) -> CallDomain:
    """The domain of calls that need a setup."""
    base, compute_calls = FUNCTION_DOMAIN, _ComputeAfterSetup(setup)
    return CallDomain(
        name=base.name,
        parameters=base.parameters,
        compute=compute_calls,
        compute_calls=compute_calls,
        kind=base.kind,
        read=base.read,
        pack_error=base.pack_error,
        summary=base.summary,
        setup=setup,
    )
