"""The files of a run that workers ask for: small ones as bytes, large ones through Ray's object store.

The manager reads a large one from the run folder, once, and keeps none of its bytes: each node holds one copy, which
its workers map into their memory.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import ray

from dfz_ray.errors import DfzError
from dfz_ray.journal.folder import RunFolder
from dfz_ray.journal.inputs import (
    Notes,
    find_calls,
    find_inputs,
    find_shared,
    is_input_name,
    refuse_other_shared,
    task_of_call,
)
from dfz_ray.journal.regular_file import open_regular
from dfz_ray.specs.input_file import SHARED, call_input


class RunFiles:
    """Brings files to the workers: `files`, the small ones by SHA-256, and large ones, on which there are `notes`."""

    def __init__(self, folder: Path, notes: Notes, files: Mapping[str, bytes]) -> None:
        self._small = dict(files)
        self._folder = RunFolder(folder).inputs
        self._notes = dict(notes)
        self._sizes = find_inputs(notes)
        self._storing = asyncio.Lock()
        """One at a time: each takes as much memory as its input has."""
        self._put: dict[str, asyncio.Task[Any]] = {}
        """By name the object in the store, which lasts as long as it is here."""
        self._calls = find_calls(self._folder)
        """The tasks whose arguments are in the folder."""
        self._removing: set[asyncio.Future[None]] = set()

    def add(self, files: Mapping[str, bytes], calls: Iterable[int]) -> None:
        """Take in small files, and the numbers of tasks whose arguments are in the folder."""
        self._small.update(files)
        self._calls.update(calls)

    def add_large(self, notes: Notes) -> list[tuple[str, str]]:
        """Take in notes on large ones; returns those that are new.

        Raises:
            RunFolderRefused: the run shares another array under one of the names.
        """
        refuse_other_shared(self._notes, notes)
        new = [(key, value) for key, value in notes.items() if key not in self._notes]
        self._notes.update(new)
        self._sizes = find_inputs(self._notes)
        return new

    async def get(self, name: str) -> list[Any] | bytes | None:
        """A file by SHA-256 or name: its bytes, or its object; None if the run has no such file.

        The object is in a list, for Ray would send the content itself.

        Raises:
            DfzError: it can't be read, or has changed since it was written.
        """
        if name in self._small:
            return self._small[name]
        if name == SHARED:
            return json.dumps(find_shared(self._notes)).encode()
        is_here = name in self._sizes if is_input_name(name) else task_of_call(name) in self._calls
        if not is_here:
            return None
        if name not in self._put:
            self._put[name] = asyncio.create_task(self._store(name))
        try:
            return [await asyncio.shield(self._put[name])]
        except Exception:
            self._put.pop(name, None)  # it may work later, when the disk has room again
            raise

    async def _store(self, name: str) -> Any:
        async with self._storing:
            return await asyncio.to_thread(put_file, self._folder / name, self._sizes.get(name))

    def forget(self, numbers: Iterable[int]) -> None:
        """Drop the arguments of calls that are final."""
        for number in self._calls.intersection(numbers) if self._calls else ():
            self._calls.discard(number)
            name = call_input(number)
            self._put.pop(name, None)
            removing = asyncio.ensure_future(asyncio.to_thread(_remove, self._folder / name))
            self._removing.add(removing)
            removing.add_done_callback(self._removing.discard)

    async def close(self) -> None:
        """Let go of all objects, whatever else still refers to this run."""
        self._put.clear()
        await asyncio.gather(*self._removing)


def put_file(path: Path, size: int | None) -> Any:
    """Put a file into the object store, which has the size that the journal notes; None: any. Returns the object.

    Raises:
        DfzError: it can't be read, or has changed since it was written.
    """
    try:
        with os.fdopen(open_regular(path), "rb") as file:
            found = os.fstat(file.fileno()).st_size
            # It is mapped, not read, so that it is in memory once: in the store.
            content = np.memmap(file, np.uint8, "r") if found and size in (None, found) else np.empty(0, np.uint8)
    except OSError as error:
        raise DfzError(f"an input of the run can't be read: {path}: {error.strerror or error}") from None
    if size is not None and hashlib.sha256(content.data).hexdigest() != path.name:
        raise DfzError(f"an input of the run has changed since it was written: {path}")
    return ray.put(np.asarray(content))


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):  # it does no harm where it is
        path.unlink()
