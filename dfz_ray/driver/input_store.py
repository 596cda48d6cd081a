"""Writes the large inputs of a run to its folder, from which its manager brings them to the workers."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from dfz_ray.journal.inputs import (
    LARGE_BYTES,
    Notes,
    input_note,
    measure_input,
    refuse_other_shared,
    shared_note,
    store_input,
    store_measured,
)
from dfz_ray.journal.reader import JournalReader
from dfz_ray.specs.shared_arrays import write_array

if TYPE_CHECKING:
    import numpy as np


class SharedArrays:
    """The arrays that a program shares with the tasks of a run: written once, whatever becomes of managers."""

    def __init__(self, arrays: Mapping[str, np.ndarray[Any, Any]]) -> None:
        self._arrays = arrays
        self._notes: Notes | None = None

    def store(self, folder: Path, durable: bool) -> Notes:
        """Write them, the first time; returns the notes on them for the journal.

        Raises:
            RunFolderRefused: they can't be written there, or the run shares other arrays by these names; then nothing
                is written.
        """
        if self._notes is None:
            notes: dict[str, str] = {}
            measured = []
            for name, array in self._arrays.items():
                write = functools.partial(write_array, array)
                sha256, size = measure_input(write)
                notes.update([input_note(sha256, size), shared_note(name, sha256)])
                measured.append((write, sha256, size))
            if notes:
                with JournalReader(folder) as journal:
                    refuse_other_shared(journal.meta, notes)
            for write, sha256, size in measured:
                store_measured(folder, write, sha256, size, durable)
            self._notes, self._arrays = notes, {}
        return self._notes


def store_large(folder: Path, files: Mapping[str, bytes], durable: bool) -> tuple[dict[str, bytes], Notes]:
    """Write the large ones of a batch's files; returns the others, and notes on these. Raises RunFolderRefused."""
    small: dict[str, bytes] = {}
    notes: dict[str, str] = {}
    for sha256, content in files.items():
        if len(content) <= LARGE_BYTES:
            small[sha256] = content
        else:
            notes.update([input_note(*store_input(folder, functools.partial(_write, content), durable))])
    return small, notes


def _write(content: bytes, file: BinaryIO) -> None:
    file.write(content)
