"""The folder in which the nodes of a cluster find each other: on a file system that all of them see.

It has the cluster's token, the head's address, and a file for each node that has started. Only its user can read it.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import stat
import time
from pathlib import Path

from dfz_ray.errors import ClusterUnusable, DfzError
from dfz_ray.journal.folder import write_whole
from dfz_ray.journal.regular_file import read_small

HEAD_WAIT_S = 300.0
"""Seconds that a node waits for the head to start."""


class ClusterFolder:
    """The folder, made if it is missing. Raises ClusterUnusable if it can't be, or others could read it."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            (self.path / "nodes").mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise ClusterUnusable(f"{self.path} can't be the folder of a cluster: {error.strerror or error}") from None
        self._check(self.path, "700")

    @property
    def token_file(self) -> Path:
        """The file with the cluster's token."""
        return self.path / "token"

    def make_token(self) -> None:
        """Make the cluster's token, if there is none."""
        with contextlib.suppress(FileExistsError):
            descriptor = os.open(self.token_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w") as file:
                file.write(secrets.token_hex(32))

    def check_token(self) -> None:
        """Refuse a token that is missing, or that others can read. Raises ClusterUnusable."""
        self._check(self.token_file, "600")

    def announce_head(self, address: str) -> None:
        """Write the head's address down for the others."""
        write_whole(self.path / "address", address.encode(), mode=0o600)

    def wait_for_head(self, wait_s: float = HEAD_WAIT_S) -> str:
        """The head's address, as soon as it is there. Raises ClusterUnusable if it does not come."""
        deadline = time.monotonic() + wait_s
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError, DfzError):
                return read_small(self.path / "address").decode()
            time.sleep(0.2)
        raise ClusterUnusable(f"no head has written its address to {self.path / 'address'} within {wait_s:g} s")

    def note_node(self, state: str) -> None:
        """Note that this node is `up`, or has `failed`."""
        write_whole(self.path / "nodes" / f"{socket.gethostname()}-{os.getpid()}.{state}", b"", mode=0o600)

    @staticmethod
    def _check(path: Path, expected: str) -> None:
        try:
            status = path.stat()
        except OSError as error:
            raise ClusterUnusable(f"{path} can't be read: {error.strerror or error}") from None
        if status.st_uid != os.getuid() or stat.S_IMODE(status.st_mode) & 0o077:
            raise ClusterUnusable(
                f"{path}: found mode {stat.S_IMODE(status.st_mode):o} of user {status.st_uid}; expected {expected} of "
                f"user {os.getuid()}, since it guards the cluster: chmod {expected} {path}"
            )
