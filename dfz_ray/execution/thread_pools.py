"""The native thread pools of this process (OpenMP, BLAS), which are looked for again only once a library was loaded.

The loader itself is not asked: it calls back while it holds its lock, and an import in another thread holds the GIL and
waits for that lock. Such a process would hang for ever.
"""

from __future__ import annotations

import functools
import sys

from threadpoolctl import ThreadpoolController

STATUS_FILE = "/proc/self/status"


def find_pools() -> ThreadpoolController:
    """The thread pools of all libraries that are loaded now. To look for them takes half a millisecond."""
    size = measure_libraries()
    return ThreadpoolController() if size is None else _find_pools(len(sys.modules), size)


@functools.lru_cache(maxsize=1)
def _find_pools(modules: int, library_bytes: int) -> ThreadpoolController:
    return ThreadpoolController()


def measure_libraries() -> int | None:
    """The bytes of code that this process has mapped beside its own program; None where the system does not tell.

    They change whenever a library is loaded or unloaded: `VmLib` of proc_pid_status(5).
    """
    try:
        with open(STATUS_FILE, "rb") as status:
            found = [line.split()[1] for line in status if line.startswith(b"VmLib:")]
    except OSError:
        return None
    return int(found[0]) * 1024 if found else None
