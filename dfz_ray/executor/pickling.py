"""How functions, arguments and results travel: with Ray's cloudpickle, which every worker has."""

from __future__ import annotations

import sys
import types
from typing import Any

from ray import cloudpickle

from dfz_ray.executor.captures import is_importable

if "__mp_main__" in sys.modules:  # the script itself, in a process that multiprocessing has spawned
    cloudpickle.register_pickle_by_value(sys.modules["__mp_main__"])

dumps = cloudpickle.dumps
"""Pickle a value; what can't be imported elsewhere goes by value. `pickle.loads` reads it where Ray is installed."""


def is_by_reference(value: Any) -> bool:
    """Whether a function, class or module travels as the name under which it is imported."""
    if isinstance(value, types.ModuleType):
        name = value.__name__
        if name not in sys.modules:
            return False
    elif is_importable(value):
        name = value.__module__
    else:
        return False
    module = f"{name}."
    return not any(module.startswith(f"{other}.") for other in cloudpickle.list_registry_pickle_by_value())
