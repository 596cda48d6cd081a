"""When not to look for garbage: the collector goes over all that lives, again and again, while much is being made."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator


@contextlib.contextmanager
def collector_paused() -> Iterator[None]:
    """Make many objects that stay: to look for garbage among them is in vain, and takes longer than to make them.

    What is garbage meanwhile is freed all the same unless it is in a cycle; that waits until later.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
