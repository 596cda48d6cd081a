"""The large inputs of a run: files in a folder of the run folder, which workers get through Ray's object store.

An input is named by the SHA-256 of its content, in hex, and noted in the journal; so the audit can check it, and a run
that goes on has it. The arguments of a call, which no other process goes on with, are named by its task, and not noted.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO, cast

from dfz_ray.errors import JournalDamaged, RunFolderRefused
from dfz_ray.journal.folder import PART, RunFolder, open_whole, sync_folder, write_whole
from dfz_ray.journal.regular_file import open_regular
from dfz_ray.journal.seal import sha256_of
from dfz_ray.specs.input_file import SHARED, call_input

LARGE_BYTES = 2**20
"""Larger files, functions and arguments go through the object store."""
_NOTE = "input/"
_SHARED_NOTE = f"{SHARED}/"
_NAME = re.compile("[0-9a-f]{64}")
_CALL = re.compile(re.escape(call_input(0)).replace("0", "([0-9]{1,18})"))

Notes = Mapping[str, str]
"""Keys and values of the table `meta`."""


class _HashingFile:
    """Passes on what is written, and makes its hash."""

    def __init__(self, file: BinaryIO | None = None) -> None:
        self._file = file
        self._hash = hashlib.sha256()
        self.size = 0

    def write(self, content: Any) -> int:
        self._hash.update(content)
        self.size += len(content)
        if self._file is not None:
            self._file.write(content)
        return len(content)

    @property
    def sha256(self) -> str:
        return self._hash.hexdigest()


Writer = Callable[[BinaryIO], object]
"""Writes the content of an input to a file."""


def store_input(folder: Path, write: Writer, durable: bool) -> tuple[str, int]:
    """Write an input, unless the run has it already; returns its SHA-256 and its size in bytes.

    Raises:
        RunFolderRefused: it can't be written there, or it changed while it was read.
    """
    sha256, size = measure_input(write)
    store_measured(folder, write, sha256, size, durable)
    return sha256, size


def measure_input(write: Writer) -> tuple[str, int]:
    """The SHA-256 of an input and its size in bytes; nothing is written."""
    seen = _HashingFile()
    write(cast(BinaryIO, seen))
    return seen.sha256, seen.size


def store_measured(folder: Path, write: Writer, sha256: str, size: int, durable: bool) -> None:
    """Write an input of this SHA-256 and size, unless the run has it already. Raises as `store_input`."""
    inputs = _make_folder(folder)
    path = inputs / sha256
    try:
        if not _holds(path, sha256, size):
            with open_whole(path, durable, mode=0o600) as file:
                written = _HashingFile(file)
                write(cast(BinaryIO, written))
            if written.sha256 != sha256:
                path.unlink()
                raise RunFolderRefused("an input of the run changed while it was read; let it be, and begin again")
            if durable:
                sync_folder(inputs)
                sync_folder(folder)
    except OSError as error:
        raise RunFolderRefused(f"{inputs} can't hold an input: {error.strerror or error}") from None


def _holds(path: Path, sha256: str, size: int) -> bool:
    """True if a file has this size and SHA-256."""
    return not path.is_symlink() and path.is_file() and path.stat().st_size == size and sha256_of(path) == sha256


def store_call(folder: Path, task: int, content: memoryview) -> str:
    """Write the arguments of a call; returns the name of the input. Raises RunFolderRefused if that fails."""
    name = call_input(task)
    inputs = _make_folder(folder)
    try:
        write_whole(inputs / name, content, mode=0o600)
    except OSError as error:
        raise RunFolderRefused(f"{inputs} can't hold the arguments of a call: {error.strerror or error}") from None
    return name


def _make_folder(folder: Path) -> Path:
    run = RunFolder(folder)
    try:
        run.inputs.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise RunFolderRefused(f"{run.inputs} can't be made: {error.strerror or error}") from None
    run.refuse_irregular(writes=True)
    return run.inputs


def input_note(sha256: str, size: int) -> tuple[str, str]:
    """The note on an input."""
    return f"{_NOTE}{sha256}", str(size)


def shared_note(name: str, sha256: str) -> tuple[str, str]:
    """The note on an array that tasks find by name."""
    return f"{_SHARED_NOTE}{name}", sha256


def find_inputs(meta: Notes) -> dict[str, int]:
    """By the SHA-256 of each input its size in bytes. Raises JournalDamaged if one is no number."""
    try:
        return {key.removeprefix(_NOTE): int(size) for key, size in meta.items() if key.startswith(_NOTE)}
    except ValueError as error:
        raise JournalDamaged(f"the journal notes no size of an input: {error}") from None


def find_shared(meta: Notes) -> dict[str, str]:
    """By name the SHA-256 of each shared array."""
    return {key.removeprefix(_SHARED_NOTE): value for key, value in meta.items() if key.startswith(_SHARED_NOTE)}


def refuse_other_shared(meta: Notes, notes: Notes) -> None:
    """Raise RunFolderRefused if the run shares another array under one of these names."""
    for name, sha256 in find_shared(notes).items():
        if (before := find_shared(meta).get(name, sha256)) != sha256:
            raise RunFolderRefused(
                f"the run shares another array as {name!r} (its file has the SHA-256 {before}, this one {sha256}); "
                "give it another name, or name a new run folder"
            )


def is_input_name(name: str) -> bool:
    """True if an input that is noted may have the name: else it leads elsewhere."""
    return _NAME.fullmatch(name) is not None


def find_calls(inputs: Path) -> set[int]:
    """The tasks whose arguments are in the folder. What a writer that was killed has left there is removed."""
    tasks: set[int] = set()
    with contextlib.suppress(OSError):  # there is no such folder
        for name in os.listdir(inputs):
            task = task_of_call(name)
            tasks.update(() if task is None else (task,))
            if name.endswith(PART):
                (inputs / name).unlink()
    return tasks


def task_of_call(name: str) -> int | None:
    """The task whose arguments an input holds; None if it is no such input."""
    found = _CALL.fullmatch(name)
    return None if found is None else int(found[1])


class RunInputs(dict[str, "bytes | memoryview"]):
    """The inputs of a run that is at rest, by name, read when they are asked for; and the files of its journal."""

    def __init__(self, folder: Path, meta: Notes, files: Mapping[str, bytes]) -> None:
        shared = json.dumps(find_shared(meta)).encode()
        super().__init__({SHARED: shared, **files})
        self._inputs = RunFolder(folder).inputs
        self._noted = find_inputs(meta)

    def __contains__(self, name: object) -> bool:
        if not super().__contains__(name) and name in self._noted and is_input_name(str(name)):
            try:
                with os.fdopen(open_regular(self._inputs / str(name)), "rb") as file:
                    content = file.read()
            except OSError as error:
                raise RunFolderRefused(f"{self._inputs / str(name)} can't be read: {error.strerror or error}") from None
            if hashlib.sha256(content).hexdigest() != name:
                raise RunFolderRefused(f"{self._inputs / str(name)} has changed since it was written")
            self[str(name)] = content
        return super().__contains__(name)
