"""Pauses the garbage collector while many objects are made: it would look at all living objects again and again."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator


@contextlib.contextmanager
def collector_paused() -> Iterator[None]:
    """Make many objects that stay. Looking for garbage among them finds nothing, and takes longer than making them.

    Garbage is freed all the same, except for cycles, which wait until the collector runs again.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
