"""`get_shared`: the arrays that the tasks of a run share, as a task reads them."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from dfz_ray.errors import DfzError
from dfz_ray.specs.input_file import SHARED, FileShelf
from dfz_ray.specs.shared_arrays import read_array

if TYPE_CHECKING:
    import numpy as np

_shelf: FileShelf | None = None
"""The files of the run whose tasks this process executes."""
_process = 0
"""The process that found it: what is not read yet does not reach a child that it forks."""
_arrays: dict[str, np.ndarray[Any, Any]] = {}
"""Those that were read."""


@contextlib.contextmanager
def sharing(shelf: FileShelf) -> Iterator[None]:
    """Let tasks find the arrays of their run among its files."""
    global _shelf, _process  # noqa: PLW0603 - a process executes the tasks of one run at a time
    _shelf, _process = shelf, os.getpid()
    _arrays.clear()
    try:
        yield
    finally:
        _shelf = None
        _arrays.clear()


def get_shared(name: str) -> np.ndarray[Any, Any]:
    """An array that the tasks of the run share: `run(..., shared={"x": x})`, and in a task `get_shared("x")`.

    All tasks of a node read the same memory. So the array can't be written to: copy what has to change. Ask for it in
    each task, which takes no time, instead of keeping it: the next run in this process may share another one.

    Raises:
        DfzError: the run shares no array of this name, or no task of a run is executed here.
    """
    array = _arrays.get(name)
    if array is None:
        if _shelf is None:
            raise DfzError(f"get_shared({name!r}): arrays are shared with the tasks of a run, and this is no task")
        if os.getpid() != _process:
            raise DfzError(
                f"get_shared({name!r}): this process was forked by a task: let that task read the array first"
            )
        contents = _shelf.contents
        names = json.loads(bytes(contents[SHARED])) if SHARED in contents else {}
        if name not in names:
            known = ", ".join(map(repr, sorted(names))) or "none"
            raise DfzError(f"get_shared({name!r}): the run shares no such array; it shares: {known}")
        if names[name] not in contents:
            raise DfzError(f"get_shared({name!r}): the run has lost this array")
        array = _arrays[name] = read_array(contents[names[name]])
    return array
