"""Tasks that harm the process they run in, or their own result, in every way we could think of: `all_deeds()`.

None of them harms the machine or other users: what they leave behind ends within seconds, fits into 400 MB, and touches
only their own worker, their own children and the marks of their own run.
"""

from __future__ import annotations

import importlib
import pkgutil

from support.hostile_tasks.deed import DEEDS, Deed


def all_deeds() -> dict[str, Deed]:
    """Every deed by name, in a fixed order."""
    for module in sorted(found.name for found in pkgutil.iter_modules(__path__)):
        importlib.import_module(f"{__name__}.{module}")
    return DEEDS
