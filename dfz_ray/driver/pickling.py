"""Pickles functions, arguments and results with Ray's cloudpickle, which every worker has."""

from __future__ import annotations

import sys
import types
from typing import Any

from ray import cloudpickle

if "__mp_main__" in sys.modules:  # the script, in a process spawned by multiprocessing
    cloudpickle.register_pickle_by_value(sys.modules["__mp_main__"])

dumps = cloudpickle.dumps
"""Pickles a value; things that can't be imported elsewhere by value. `pickle.loads` reads it where Ray is installed."""


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
