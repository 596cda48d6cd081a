"""The seal: a hash of the journal's file that is kept beside it while the run is at rest; see schema.sql."""

from __future__ import annotations

import contextlib
import hashlib
import os
from enum import Enum
from pathlib import Path

from dfz_ray.journal.folder import RunFolder, sync_folder, write_whole
from dfz_ray.journal.regular_file import open_regular, read_small


class Seal(Enum):
    """The result of comparing a journal with its seal."""

    WHOLE = "the file is the one that was sealed"
    BROKEN = "the file is not the one that was sealed when the run was closed"
    BYPASSED = "there is a log beside the file, which was sealed without one"
    NONE = "there is none"


def write_seal(folder: RunFolder, durable: bool) -> None:
    """Seal a journal that no process has open any more."""
    write_whole(folder.seal, f"{sha256_of(folder.database)}\n".encode(), durable)
    if durable:
        sync_folder(folder.path)


def remove_seal(folder: RunFolder) -> None:
    """Allow writing to the journal: on return the seal is gone from the disk."""
    if folder.seal.exists():
        folder.seal.unlink()
        sync_folder(folder.path)


def check_seal(folder: RunFolder) -> Seal:
    """Compare the journal with its seal. Raises RunFolderRefused if one of them is not a regular file."""
    with contextlib.suppress(FileNotFoundError):
        seal = read_small(folder.seal)
        found = Seal.WHOLE if seal == f"{sha256_of(folder.database)}\n".encode() else Seal.BROKEN
        if found is Seal.WHOLE and folder.has_log():
            found = Seal.BYPASSED  # SQLite would read the log as part of the journal
        # A process that opens a run removes the seal before it writes. If the seal is gone by now, nothing is wrong.
        if read_small(folder.seal) == seal:
            return found
    return Seal.NONE


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, in hex."""
    with os.fdopen(open_regular(path), "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
