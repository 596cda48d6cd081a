"""The files of a run that workers ask for: small ones as bytes, large ones through Ray's object store.

The manager reads a large one from the run folder, once, and keeps none of its bytes: each node holds one copy, which
its workers map into their memory.
"""

from __future__ import annotations

import asyncio
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
from dfz_ray.journal.inputs import Notes, find_inputs, find_shared, is_input_name, refuse_other_shared, task_of_call
from dfz_ray.journal.regular_file import open_regular
from dfz_ray.specs.input_file import SHARED, call_input


class RunFiles:
    """Brings files to the workers: `files`, the small ones by SHA-256, and large ones, on which there are `notes`."""

    def __init__(self, folder: Path, notes: Notes, files: Mapping[str, bytes]) -> None:
        self._small = dict(files)
        self._folder = RunFolder(folder).inputs
        self._notes = dict(notes)
        self._put: dict[str, asyncio.Task[Any]] = {}
        """By name the object in the store, which lasts as long as it is here."""
        self._calls: set[int] = set()
        """The tasks whose arguments were asked for."""

    def add(self, files: Mapping[str, bytes]) -> None:
        """Take in small files."""
        self._small.update(files)

    def add_large(self, notes: Notes) -> list[tuple[str, str]]:
        """Take in notes on large ones; returns those that are new.

        Raises:
            RunFolderRefused: the run shares another array under one of the names.
        """
        refuse_other_shared(self._notes, notes)
        new = [(key, value) for key, value in notes.items() if key not in self._notes]
        self._notes.update(new)
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
        task = task_of_call(name)
        if task is not None:
            self._calls.add(task)
        elif not is_input_name(name) or name not in find_inputs(self._notes):
            return None
        if name not in self._put:
            self._put[name] = asyncio.create_task(asyncio.to_thread(self._store, name))
        try:
            return [await asyncio.shield(self._put[name])]
        except Exception:
            self._put.pop(name, None)  # it may work later: another disk may be full of other things then
            raise

    def _store(self, name: str) -> Any:
        path = self._folder / name
        try:
            with os.fdopen(open_regular(path), "rb") as file:
                content = np.fromfile(file, np.uint8)
        except OSError as error:
            raise DfzError(f"an input of the run can't be read: {path}: {error.strerror or error}") from None
        if is_input_name(name) and hashlib.sha256(content.data).hexdigest() != name:
            raise DfzError(f"an input of the run has changed since it was written: {path}")
        return ray.put(content)

    def forget(self, numbers: Iterable[int]) -> None:
        """Drop the arguments of calls that are final."""
        for number in self._calls.intersection(numbers) if self._calls else ():
            self._calls.discard(number)
            name = call_input(number)
            self._put.pop(name, None)
            (self._folder / name).unlink(missing_ok=True)
