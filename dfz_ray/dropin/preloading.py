"""Loads large shared libraries while other threads run."""

from __future__ import annotations

import ctypes
import functools
import importlib.util
import os
import sys
from pathlib import Path

LIBRARIES = {"torch": (("libtorch_global_deps.so", os.RTLD_GLOBAL | os.RTLD_LAZY), ("libtorch.so", os.RTLD_LAZY))}
"""For each module, the libraries that its import loads, in this order, with these flags."""


@functools.cache
def preload(module: str) -> None:
    """Load a module's largest shared libraries before it is imported, if that helps.

    An import holds the interpreter's lock while it loads them: torch's half a gigabyte would stop every other thread,
    also that of an event loop, for half a second. A foreign call releases the lock.
    """
    if module not in LIBRARIES or module in sys.modules or not sys.platform.startswith("linux"):
        return
    found = importlib.util.find_spec(module)
    if found is None or found.origin is None:
        return
    load = ctypes.CDLL(None).dlopen
    load.restype, load.argtypes = ctypes.c_void_p, [ctypes.c_char_p, ctypes.c_int]
    for name, mode in LIBRARIES[module]:
        path = Path(found.origin).parent / "lib" / name
        if path.exists():
            load(os.fsencode(path), mode)  # if this fails, the import says why
