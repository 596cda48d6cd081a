"""Pauses the garbage collector while many objects are made: it would look at all living objects again and again."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator


@contextlib.contextmanager
def collector_paused() -> Iterator[None]:
    """Pause the collector for code that makes many objects that stay: searching them takes longer than making them.

    Other garbage is still freed at once; only cycles wait until the collector runs again.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
