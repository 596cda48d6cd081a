"""The native thread pools of a process are looked for once, and again when a library was loaded."""

from __future__ import annotations

import ctypes
import shutil
from pathlib import Path

import msgpack

from dfz_ray.execution.thread_pools import count_changes, find_pools


def test_pools_are_looked_for_once() -> None:
    """As long as no library was loaded."""
    assert find_pools() is find_pools()
    assert find_pools().info()


def test_a_library_that_no_import_has_loaded_is_noticed(tmp_path: Path) -> None:
    """A task may load one itself, so that no module is new."""
    before, pools = count_changes(), find_pools()
    own = tmp_path / "a_copy_that_nobody_has_loaded.so"
    shutil.copy(_path_of_some_library(), own)

    ctypes.CDLL(str(own))

    assert before is not None
    assert count_changes() == (before[0] + 1, before[1])
    assert find_pools() is not pools


def _path_of_some_library() -> str:
    """The file of an extension module that this process has loaded, and that needs no other library."""
    return str(msgpack._cmsgpack.__file__)
