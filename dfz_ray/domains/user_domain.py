"""`@domain` makes a user's function a domain."""

from __future__ import annotations

import functools
import inspect
import types
import typing
import warnings
from collections.abc import Callable, Iterable
from typing import Annotated, Any, Generic, Optional, ParamSpec, TypeVar, Union

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    Strict,
    TypeAdapter,
    ValidationError,
    create_model,
    model_validator,
)
from pydantic_core import CoreSchema

from dfz_ray.domains.domain import Domain
from dfz_ray.domains.registry import REGISTRY
from dfz_ray.errors import InvalidInput, Problem
from dfz_ray.specs.encoding import plain
from dfz_ray.specs.problems import find_problems, show
from dfz_ray.specs.resources import Resources

P = ParamSpec("P")
R = TypeVar("R")

PASSED = ("seed", "threads")
"""Arguments that dfz_ray passes to a function that names them; they are never a task's parameters."""
EXACT = (int, float, bool, str)
_VARIABLE = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


class DomainFunction(Generic[P, R]):
    """A user's function that is also a domain: call it as before, or make tasks of it with `task`."""

    def __init__(self, function: Callable[P, R], domain: Domain) -> None:
        functools.update_wrapper(self, function)  # first, since it copies the attributes of a DomainFunction, too
        self.domain = domain
        self._function = function

    def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the function itself, here and now."""
        return self._function(*args, **kwargs)

    def task(self, /, *args: P.args, **kwargs: P.kwargs) -> dict[str, Any]:
        """A task of this domain, to put into a batch.

        It takes the function's own arguments, without those that dfz_ray passes; type checkers miss a `seed` or
        `threads` here that has no default. The values are checked with the batch.

        Raises:
            TypeError: there are more positional arguments than the function has.
        """
        names = _names_of_positional(self._function)
        if len(args) > len(names):
            raise TypeError(f"{self.domain.name!r} takes at most {len(names)} positional arguments, not {len(args)}")
        given = dict(zip(names, args, strict=False))
        if twice := sorted(given.keys() & kwargs.keys()):
            raise TypeError(f"{self.domain.name!r} got two values for {', '.join(twice)}")
        return {"domain": self.domain.name, "parameters": {**given, **kwargs}}

    def __repr__(self) -> str:
        name = getattr(self._function, "__name__", "")
        return f"<domain {self.domain.name!r}: {name}{inspect.signature(self._function)}>"


class FunctionParameters(BaseModel):
    """The base of the parameters of each user's function."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)


def domain(
    name: str,
    *,
    cpus: float = 1,
    gpus: float = 0,
    memory: int | str | None = None,
    kind: Callable[[dict[str, Any]], str] | None = None,
    volatile: Iterable[str] = (),
    repeatable: bool = False,
) -> Callable[[Callable[P, R]], DomainFunction[P, R]]:
    """Make a function a domain.

    The function gets a task's parameters as keyword arguments, checked against its annotations. If it names `seed` (0
    to 2^63 - 1) or `threads`, it gets these too; give them a default, such as `seed: int = 0`, so that type checkers
    know that `task` goes without them. It may be defined in the script that runs: it travels to the workers by value.
    It must return plain data; changes that it makes elsewhere stay in the worker.

    Args:
        name: how batches name it.
        cpus: logical CPUs a task needs; `threads` is max(1, floor(cpus)).
        gpus: GPUs a task needs.
        memory: bytes a task needs, or a text such as `2GiB`.
        kind: turns a task's parameters into a name that tasks share if they take about as long; None: all share one.
        volatile: top-level keys of the result that differ from run to run; the digest leaves them out.
        repeatable: True if two attempts at one task may execute at the same time, since the function changes nothing
            outside of its process: then a policy may have `speculate`.

    Raises:
        InvalidInput: impossible resources, the name of a built-in domain, or a function that is not a plain one, or
            whose parameters can't be given by name.
    """
    if not isinstance(name, str) or not name.isprintable() or not name:
        raise InvalidInput([Problem("name", show(name), "a printable text")], "@domain")
    if isinstance(volatile, str):
        raise InvalidInput([Problem("volatile", show(volatile), f"several keys: [{volatile!r}]")], f"@domain({name!r})")
    asked = {"cpus": cpus, "gpus": gpus} | ({} if memory is None else {"memory": memory})
    try:
        resources = Resources.model_validate(plain(asked))
    except ValidationError as error:
        raise InvalidInput(find_problems(error, Resources, f"domain({name!r})"), f"@domain({name!r})") from None

    def decorate(function: Callable[P, R]) -> DomainFunction[P, R]:
        made = Domain(
            name=name,
            parameters=_parameters_of(name, function),
            compute=_Call(function, _passed_to(function)),
            kind=_Kind(name, kind),
            resources=resources,
            volatile=frozenset(volatile),
            repeatable=repeatable,
            summary=(inspect.getdoc(function) or "").partition("\n")[0],
        )
        REGISTRY.add(made)
        return DomainFunction(function, made)

    return decorate


class _Call:
    """`compute` of a user's domain: calls the function with the parameters as keyword arguments."""

    def __init__(self, function: Callable[..., Any], passed: tuple[str, ...]) -> None:
        self._function = function
        self._passed = passed

    @property
    def __wrapped__(self) -> Callable[..., Any]:
        return self._function  # as functools.wraps has it

    def __call__(self, parameters: BaseModel, seed: int, threads: int) -> Any:
        given = {**parameters.__dict__, **(parameters.model_extra or {})}  # as dict(parameters), but quicker
        if self._passed:
            known = {"seed": seed, "threads": threads}
            given.update((word, known[word]) for word in self._passed)
        return self._function(**given)


class _Kind:
    def __init__(self, name: str, kind: Callable[[dict[str, Any]], str] | None) -> None:
        self._name = name
        self._kind = kind

    def __call__(self, parameters: BaseModel) -> str:
        if self._kind is None:
            return self._name
        values = parameters.__pydantic_serializer__.to_python(parameters)  # as model_dump(), but quicker
        return str(self._kind(values))


def _passed_to(function: Callable[..., Any]) -> tuple[str, ...]:
    parameters = inspect.signature(function).parameters
    return tuple(word for word in PASSED if word in parameters and parameters[word].kind not in _VARIABLE)


def _names_of_positional(function: Callable[..., Any]) -> list[str]:
    parameters = inspect.signature(function).parameters.values()
    return [one.name for one in parameters if one.kind is one.POSITIONAL_OR_KEYWORD]


def _parameters_of(name: str, function: Callable[..., Any]) -> type[BaseModel]:
    """A model with a field for each parameter of the function that a task may give."""
    label = f"@domain({name!r})"
    own_name = getattr(function, "__name__", name)
    if not callable(function) or inspect.iscoroutinefunction(function) or inspect.isgeneratorfunction(function):
        raise InvalidInput([Problem(own_name, show(function), "a plain function, neither async nor with yield")], label)
    try:
        hints = typing.get_type_hints(function, include_extras=True)
    except Exception:  # annotations may use names that do not exist at run time
        hints = {}
    fields: dict[str, Any] = {}
    open_ended = False
    problems: list[Problem] = []
    for parameter in inspect.signature(function).parameters.values():
        where = f"{own_name}({parameter.name})"
        if parameter.kind in _VARIABLE:
            open_ended = open_ended or parameter.kind is parameter.VAR_KEYWORD
        elif parameter.kind is parameter.POSITIONAL_ONLY:
            problems.append(Problem(where, "a positional-only parameter", "one with a name"))
        elif parameter.name in PASSED:
            continue
        elif parameter.name.startswith("_") or (
            parameter.name.startswith("model_") and hasattr(BaseModel, parameter.name)
        ):
            problems.append(Problem(where, "a name that pydantic keeps for itself", "another name"))
        else:
            fields[parameter.name] = _field(hints.get(parameter.name, Any), parameter.default)
    if problems:
        raise InvalidInput(problems, label)
    return _make_model(f"{own_name}_parameters", fields, _passed_to(function) if open_ended else None)


def _make_model(name: str, fields: dict[str, Any], refused: tuple[str, ...] | None) -> type[BaseModel]:
    """The model. If `refused` is None it takes no unknown keys, else any (as `**kwargs` does) but the refused ones."""
    extra: Any = "forbid" if refused is None else "allow"
    base = type("Parameters", (FunctionParameters,), {"model_config": ConfigDict(extra=extra)})

    def check(given: Any) -> Any:
        for word in refused or ():
            if word in given:
                raise ValueError(f"no {word!r}, which dfz_ray itself passes to the function")
        return given

    validators: dict[str, Any] = {"_check": model_validator(mode="before")(check)} if refused else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a field may be called `copy` or `json`
        return create_model(name, __base__=base, __validators__=validators, **fields)


def _field(annotation: Any, default: Any) -> tuple[Any, Any]:
    if default is inspect.Parameter.empty:
        return _field_type(annotation), Field(...)
    expected = _field_type(annotation)
    return (Optional[expected] if default is None else expected), Field(default)  # noqa: UP045 - of a value


def _field_type(annotation: Any) -> Any:
    """The type that pydantic checks for an annotation; a text is no number, inside of containers neither."""
    if annotation in EXACT:
        return Annotated[annotation, Strict()]
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (Union, types.UnionType):
        words = " or ".join("None" if part is types.NoneType else inspect.formatannotation(part) for part in arguments)
        return Annotated[Union[tuple(map(_field_type, arguments))], _OneMessage(words)]  # noqa: UP007 - of values
    if origin in (list, tuple, dict, set, frozenset):
        return origin[tuple(part if part is ... else _field_type(part) for part in arguments)]
    if origin is Annotated:
        return Annotated[(_field_type(arguments[0]), *arguments[1:])]
    try:
        TypeAdapter(annotation)
    except Exception:
        return Any  # pydantic does not know the type: the function has to check the value itself
    return annotation


class _OneMessage:
    """Gives a union one message that names all of its types, instead of one for each of them."""

    def __init__(self, words: str) -> None:
        self._words = words

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        schema = handler(source)
        union: Any = schema.get("schema", schema)
        if union["type"] == "union":
            union["custom_error_type"] = "union"
            union["custom_error_message"] = "{words}"
            union["custom_error_context"] = {"words": self._words}
        return schema
