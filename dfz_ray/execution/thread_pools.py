"""The native thread pools of this process (OpenMP, BLAS), which are looked for again only once a library was loaded."""

from __future__ import annotations

import ctypes
import functools
import sys

from threadpoolctl import ThreadpoolController


class _Library(ctypes.Structure):
    """A library, as the loader describes it: `struct dl_phdr_info` of dl_iterate_phdr(3)."""

    _fields_ = (
        ("address", ctypes.c_void_p),
        ("name", ctypes.c_char_p),
        ("headers", ctypes.c_void_p),
        ("header_count", ctypes.c_uint16),
        ("loads", ctypes.c_ulonglong),
        ("unloads", ctypes.c_ulonglong),
    )


_Callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(_Library), ctypes.c_size_t, ctypes.c_void_p)


def find_pools() -> ThreadpoolController:
    """The thread pools of all libraries that are loaded now. To look for them takes half a millisecond."""
    return _find_pools(len(sys.modules), *changes) if (changes := count_changes()) else ThreadpoolController()


@functools.lru_cache(maxsize=1)
def _find_pools(modules: int, loads: int, unloads: int) -> ThreadpoolController:
    return ThreadpoolController()


def count_changes() -> tuple[int, int] | None:
    """How often this process has loaded and unloaded a library so far; None where the loader does not tell."""
    found: list[tuple[int, int]] = []

    def note(library: ctypes._Pointer[_Library], size_bytes: int, data: object) -> int:
        if size_bytes >= ctypes.sizeof(_Library):
            found.append((library.contents.loads, library.contents.unloads))
        return 1  # the first one is enough

    try:
        _iterate()(_Callback(note), None)
    except AttributeError:  # it is another system's
        return None
    return found[0] if found else None


@functools.cache
def _iterate() -> ctypes._NamedFuncPointer:
    return ctypes.CDLL(None).dl_iterate_phdr
