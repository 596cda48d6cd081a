"""`@domain`: a user's function as a domain."""

from __future__ import annotations

import functools
import inspect
import typing
from collections.abc import Callable, Iterable
from typing import Annotated, Any, Generic, ParamSpec, TypeVar

from pydantic import BaseModel, ConfigDict, Field, PydanticUserError, Strict, TypeAdapter, create_model

from dfz_ray.domains.domain import Domain
from dfz_ray.domains.registry import REGISTRY
from dfz_ray.errors import InvalidInput, Problem
from dfz_ray.specs.problems import find_problems
from dfz_ray.specs.resources import Resources

P = ParamSpec("P")
R = TypeVar("R")

PASSED = ("seed", "threads")
"""Passed to the function where it names them; never a task's parameters."""
EXACT = (int, float, bool, str)


class DomainFunction(Generic[P, R]):
    """A user's function that is also a domain: call it as before, or make tasks of it with `task`."""

    def __init__(self, function: Callable[P, R], domain: Domain) -> None:
        self.domain = domain
        self._function = function
        functools.update_wrapper(self, function)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the function itself, here and now."""
        return self._function(*args, **kwargs)

    def task(self, **parameters: Any) -> dict[str, Any]:
        """A task of this domain, to put into a batch."""
        return {"domain": self.domain.name, "parameters": parameters}


class FunctionParameters(BaseModel):
    """The parameters of a user's function; each domain derives its own from it."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def domain(
    name: str,
    *,
    cpus: float = 1,
    gpus: float = 0,
    memory: int | str | None = None,
    kind: Callable[[dict[str, Any]], str] | None = None,
    volatile: Iterable[str] = (),
) -> Callable[[Callable[P, R]], DomainFunction[P, R]]:
    """Make a function a domain.

    The function gets a task's parameters as keyword arguments, checked against its annotations; `seed` (0 to
    2^63 - 1) and `threads` are passed to it where it names them. It may be defined in the script that runs: it
    travels to the workers by value. What it returns must be plain data; what it changes elsewhere stays on the worker.

    Args:
        name: how batches name it.
        cpus: logical CPUs a task needs; `threads` is max(1, floor(cpus)).
        gpus: GPUs a task needs.
        memory: bytes a task needs, or a text such as `2GiB`.
        kind: from a task's parameters to the name of those that cost about the same; None: all tasks are of one kind.
        volatile: top-level keys of the result that differ from run to run; the digest leaves them out.

    Raises:
        InvalidInput: resources that can't be, or a name that is a built-in domain's.
    """

    def decorate(function: Callable[P, R]) -> DomainFunction[P, R]:
        try:
            resources = Resources.model_validate({"cpus": cpus, "gpus": gpus, "memory": memory})
        except ValueError as error:
            problems = find_problems(error, Resources, f"domain({name!r})")  # type: ignore[arg-type]
            raise InvalidInput(problems, f"@domain({name!r})") from None
        made = Domain(
            name=name,
            parameters=_parameters_of(name, function),
            compute=_Call(function, tuple(word for word in PASSED if word in inspect.signature(function).parameters)),
            kind=_Kind(name, kind),
            resources=resources,
            volatile=frozenset(volatile),
            summary=(inspect.getdoc(function) or "").partition("\n")[0],
        )
        REGISTRY.add(made)
        return DomainFunction(function, made)

    if not isinstance(name, str) or not name.isprintable() or not name:
        raise InvalidInput([Problem("name", repr(name), "a printable text")], "@domain")
    return decorate


class _Call:
    """`compute` of a user's domain: parameters as keyword arguments."""

    def __init__(self, function: Callable[..., Any], passed: tuple[str, ...]) -> None:
        self._function = function
        self._passed = passed

    def __call__(self, parameters: BaseModel, seed: int, threads: int) -> Any:
        known = {"seed": seed, "threads": threads}
        given = {name: getattr(parameters, name) for name in type(parameters).model_fields}
        given |= parameters.model_extra or {}
        return self._function(**given, **{word: known[word] for word in self._passed})


class _Kind:
    def __init__(self, name: str, kind: Callable[[dict[str, Any]], str] | None) -> None:
        self._name = name
        self._kind = kind

    def __call__(self, parameters: BaseModel) -> str:
        return self._name if self._kind is None else str(self._kind(parameters.model_dump()))


def _parameters_of(name: str, function: Callable[..., Any]) -> type[BaseModel]:
    """A model with a field for each parameter of a function that a task may give."""
    try:
        hints = typing.get_type_hints(function, include_extras=True)
    except Exception:  # annotations may name what is not there at run time
        hints = {}
    fields: dict[str, Any] = {}
    extra = "forbid"
    for parameter in inspect.signature(function).parameters.values():
        if parameter.name in PASSED or parameter.kind is parameter.VAR_POSITIONAL:
            continue
        if parameter.kind is parameter.VAR_KEYWORD:
            extra = "allow"
        elif parameter.kind is parameter.POSITIONAL_ONLY:
            problem = Problem(
                f"{function.__name__}({parameter.name})", "a positional-only parameter", "one with a name"
            )
            raise InvalidInput([problem], f"@domain({name!r})")
        else:
            default = ... if parameter.default is parameter.empty else parameter.default
            fields[parameter.name] = (_field_type(hints.get(parameter.name, Any)), Field(default))
    base = type("Parameters", (FunctionParameters,), {"model_config": ConfigDict(extra=extra)})  # type: ignore[typeddict-item]
    return create_model(f"{function.__name__}_parameters", __base__=base, **fields)


def _field_type(annotation: Any) -> Any:
    if annotation in EXACT:
        return Annotated[annotation, Strict()]
    try:
        TypeAdapter(annotation)
    except PydanticUserError:
        return Any  # no type that pydantic knows: the function looks at it itself
    return annotation
