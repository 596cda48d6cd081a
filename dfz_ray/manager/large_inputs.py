"""The large inputs of a run: the manager reads them from the run folder, and workers get them from Ray's object store.

So each node holds one copy, which its workers map into their memory, and the manager holds none.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import ray

from dfz_ray.errors import DfzError
from dfz_ray.journal.folder import RunFolder
from dfz_ray.journal.inputs import Notes, find_inputs, find_shared, is_input_name, refuse_other_shared, task_of_call
from dfz_ray.journal.regular_file import open_regular
from dfz_ray.specs.input_file import SHARED, call_input


class LargeInputs:
    """Brings the inputs in a run folder to the workers, each once.

    `notes` are those that the journal has on them.
    """

    def __init__(self, folder: Path, notes: Notes) -> None:
        self._folder = RunFolder(folder).inputs
        self._notes = dict(notes)
        self._put: dict[str, asyncio.Task[Any]] = {}
        """By name the object in the store; this process holds it."""
        self._calls: set[int] = set()
        """The tasks whose arguments were asked for."""

    def add(self, notes: Notes) -> list[tuple[str, str]]:
        """Take in notes; returns those that are new. Raises RunFolderRefused if the run shares another array so."""
        refuse_other_shared(self._notes, notes)
        new = [(key, value) for key, value in notes.items() if key not in self._notes]
        self._notes.update(new)
        return new

    async def get(self, name: str) -> list[Any] | bytes | None:
        """The object of an input, in a list, for Ray would send the content itself; None if the run has no such input.

        Raises:
            DfzError: it can't be read, or has changed since it was written.
        """
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
