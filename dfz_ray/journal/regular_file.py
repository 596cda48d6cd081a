"""Opening files of a folder that someone else may have filled: only regular files, and never through a link.

A link would lead a write to any file of the user, and a pipe or a device would let a read wait or go on for ever.
Files of others may be read, but not written.
"""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
from pathlib import Path

from dfz_ray.errors import RunFolderRefused

SMALL_BYTES = 2**26
"""The most bytes of a file that is read whole without knowing its length."""
_SAFELY = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


def open_regular(path: Path, flags: int = os.O_RDONLY, mode: int = 0o600) -> int:
    """Open a regular file, as `os.open` does. To be written, it must be the user's own.

    Raises RunFolderRefused if anything else is there.
    """
    writes = flags & os.O_ACCMODE != os.O_RDONLY
    with contextlib.suppress(FileNotFoundError):  # it may be made
        refuse_irregular(path, path.lstat(), writes)
    descriptor = os.open(path, flags | _SAFELY, mode)
    try:
        refuse_irregular(path, os.fstat(descriptor), writes)  # another process may have replaced it meanwhile
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def read_small(path: Path) -> bytes:
    """Read a regular file of at most SMALL_BYTES. Raises RunFolderRefused if anything else is there."""
    with os.fdopen(open_regular(path), "rb") as file:
        content = file.read(SMALL_BYTES + 1)
    if len(content) > SMALL_BYTES:
        raise RunFolderRefused(f"{path}: found more than {SMALL_BYTES} bytes; dfz_ray never writes so many: remove it")
    return content


def refuse_irregular(path: Path, status: os.stat_result, writes: bool, *, is_folder: bool = False) -> None:
    """Refuse what is neither a regular file nor, if that is expected, a folder; and to write what belongs to others.

    `status` is that of the path, where no link was followed.
    """
    is_expected = stat.S_ISDIR if is_folder else stat.S_ISREG
    if not is_expected(status.st_mode):
        found = _KINDS.get(stat.S_IFMT(status.st_mode), "something else")
    elif writes and not is_folder and status.st_nlink > 1:
        found = "a file that has another name, too (a hard link)"
    elif writes and not _is_own(path, status):
        found = f"one that belongs to the user {status.st_uid}"
    else:
        return
    own = "your own" if writes else "a"
    expected = f"{own} {'folder' if is_folder else 'regular file'}"
    raise RunFolderRefused(
        f"{path}: found {found}; expected {expected}; remove it, or copy what is yours to another folder"
    )


_KINDS = {
    stat.S_IFLNK: "a symbolic link",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFDIR: "a folder",
    stat.S_IFREG: "a file",
}


def _is_own(path: Path, status: os.stat_result) -> bool:
    if os.geteuid() in (0, status.st_uid):
        return True
    with tempfile.TemporaryFile(dir=path.parent) as probe:  # on some mounts all files belong to one user
        return os.fstat(probe.fileno()).st_uid == status.st_uid
