"""The native thread pools of a process are looked for once, and again when a library was loaded."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
import sys
from pathlib import Path

import msgpack
import pytest

from dfz_ray.execution import thread_pools
from dfz_ray.execution.thread_pools import find_pools, measure_libraries

LOOKS_WHILE_LIBRARIES_ARE_LOADED = """
import importlib.machinery, importlib.util, sys, threading
from dfz_ray.execution.thread_pools import find_pools

sys.setswitchinterval(1e-6)
is_over = threading.Event()

def look():
    while not is_over.is_set():
        find_pools()

looking = threading.Thread(target=look)
looking.start()
for path in sys.argv[1:]:
    spec = importlib.util.spec_from_loader("_cmsgpack", importlib.machinery.ExtensionFileLoader("_cmsgpack", path))
    importlib.util.module_from_spec(spec)
is_over.set()
looking.join()
print("done")
"""


def test_pools_are_looked_for_once() -> None:
    """As long as no library was loaded."""
    import numpy  # noqa: F401  it has a pool

    assert find_pools() is find_pools()
    assert find_pools().info()


def test_a_library_that_no_import_has_loaded_is_noticed(tmp_path: Path) -> None:
    """A task may load one itself, so that no module is new."""
    before, pools = measure_libraries(), find_pools()
    own = tmp_path / "a_copy_that_nobody_has_loaded.so"
    shutil.copy(_path_of_some_library(), own)

    ctypes.CDLL(str(own))

    assert before is not None
    assert (measure_libraries() or 0) > before
    assert find_pools() is not pools


def test_where_the_system_does_not_tell_pools_are_looked_for_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A look that is not needed costs little; a library that is missed could take all cores."""
    monkeypatch.setattr(thread_pools, "STATUS_FILE", "/nowhere")

    assert find_pools() is not find_pools()


@pytest.mark.long
def test_a_thread_that_loads_libraries_meanwhile_hangs_nobody(tmp_path: Path) -> None:
    """A process that looks while another thread imports extension modules ends."""
    copies = [tmp_path / f"copy_{number}.so" for number in range(100)]
    for copy in copies:
        shutil.copy(_path_of_some_library(), copy)

    for _ in range(10):
        script = [sys.executable, "-c", LOOKS_WHILE_LIBRARIES_ARE_LOADED, *map(str, copies)]
        assert subprocess.run(script, capture_output=True, text=True, timeout=60, check=True).stdout == "done\n"


def _path_of_some_library() -> str:
    """The file of an extension module that this process has loaded, and that needs no other library."""
    return str(msgpack._cmsgpack.__file__)
