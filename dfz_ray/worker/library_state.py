"""The settings of libraries that tasks share: the contexts of decimal, NumPy's, and torch's.

None of these libraries is imported here. A task may patch the functions of a module. So this module binds those that it
needs when it is imported.
"""

from __future__ import annotations

import decimal
import sys
from contextvars import copy_context
from itertools import chain
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dfz_ray.worker.state_parts import Value

_tuple, _zip = tuple, zip
_modules = sys.modules


def _find_decimal() -> list[decimal.Context]:
    """The default context, and that of this thread if it has one: to ask for it would make it."""
    own = [value for variable, value in copy_context().items() if variable.name == "decimal_context"]
    return [decimal.DefaultContext, *own]


def read_decimal() -> Value:
    """The settings of the contexts of decimal."""
    values: list[Any] = []
    for context in _find_decimal():
        values += (context.prec, context.rounding, context.Emin, context.Emax, context.capitals, context.clamp)
        values += context.traps.values()
    return _tuple(values)


def put_decimal_back(values: Value) -> None:
    """Set the contexts of decimal."""
    following = iter(values)
    for context in _find_decimal():
        for name in ("prec", "rounding", "Emin", "Emax", "capitals", "clamp"):
            setattr(context, name, next(following))
        for condition in list(context.traps):
            context.traps[condition] = next(following)


def read_numpy() -> Value:
    """NumPy's settings for errors and, after None, for printing; none if it is not imported."""
    numpy = _modules.get("numpy")
    try:
        errors, printing, called = numpy.geterr(), numpy.get_printoptions(), numpy.geterrcall()  # type: ignore[union-attr]
    except AttributeError:  # another thread is importing it
        return ()
    return (called, *chain.from_iterable(errors.items()), None, *chain.from_iterable(printing.items()))


def put_numpy_back(values: Value) -> None:
    """Set NumPy's settings."""
    numpy: Any = _modules["numpy"]
    middle = values.index(None, 1)
    numpy.seterrcall(values[0])
    numpy.seterr(**dict(_zip(values[1:middle:2], values[2:middle:2])))
    printing = dict(_zip(values[middle + 1 :: 2], values[middle + 2 :: 2]))
    printing.pop("override_repr", None)
    numpy.set_printoptions(**printing)


def read_torch() -> Value:
    """The settings of torch on which models and gradients rest; none if it is not imported."""
    torch: Any = _modules.get("torch")
    try:
        modes = torch.is_grad_enabled(), torch.is_inference_mode_enabled()
        algorithms = (
            torch.are_deterministic_algorithms_enabled(),
            torch.is_deterministic_algorithms_warn_only_enabled(),
            _find_precision(torch),
        )
        return (*modes, torch.get_default_dtype(), str(torch.empty(0).device), *algorithms)
    except AttributeError:  # another thread is importing it
        return ()


def _find_precision(torch: Any) -> str:
    try:
        return str(torch.get_float32_matmul_precision())
    except RuntimeError:  # it was set for one backend
        return ""


def put_torch_back(values: Value) -> None:
    """Set torch's settings."""
    torch: Any = _modules["torch"]
    is_grad_enabled, _, dtype, device, *deterministic, precision = values
    torch.set_grad_enabled(is_grad_enabled)
    torch.set_default_device(None if device == "cpu" else device)
    torch.set_default_dtype(dtype)
    if read_torch()[4:6] != _tuple(deterministic):  # to set them imports a part of torch that changes the environment
        torch.use_deterministic_algorithms(deterministic[0], warn_only=deterministic[1])
    if precision:
        torch.set_float32_matmul_precision(precision)


def enable_gradients() -> None:
    """Let torch, if it is imported, compute gradients in this thread, as it does in each new one."""
    torch: Any = _modules.get("torch")
    try:
        if torch is not None and not torch.is_grad_enabled():
            torch.set_grad_enabled(True)
    except AttributeError:  # another thread is importing it
        pass
