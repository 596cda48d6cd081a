"""Finds out whether the manager sees the files of its driver: it writes the run folder, and the driver reads it."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from dfz_ray.errors import ClusterUnusable
from dfz_ray.journal.folder import LANDMARK


class Landmark(NamedTuple):
    """A file of the driver that the manager looks for before it opens a run."""

    folder: str
    """The folder of the run, or the one in which that would be made."""
    file: str = ""
    """A new file in it; empty if none can be made there."""
    status: tuple[int, int] = (0, 0)
    """The device and the number of the folder, which decide then; machines made of one image may agree by chance."""

    def take(self) -> None:
        """Remove the new file: by that this process, the manager's, knows that it sees the driver's files.

        Raises:
            ClusterUnusable: the folder is, or would be, another one in this process, as in another container.
        """
        with contextlib.suppress(OSError):
            if self.file:
                os.stat(self.file)
                with contextlib.suppress(OSError):  # another user's, or read-only: then the run is refused for that
                    os.unlink(self.file)
                return
            found = os.stat(self.folder)
            if (found.st_dev, found.st_ino) == self.status:
                return
        raise ClusterUnusable(
            f"the run's manager does not see {self.folder} as this process does: it would write the run to another "
            "file system; start the driver where the files of its Ray node are, or name a run folder that both see"
        )


@contextlib.contextmanager
def set_landmark(folder: Path) -> Iterator[Landmark]:
    """Set a landmark for a run folder; in the end it is gone."""
    seen = next(path for path in (folder, *folder.parents) if os.path.exists(path))
    status, file = seen.stat(), ""
    with contextlib.suppress(OSError):  # nothing can be written there
        descriptor, file = tempfile.mkstemp(dir=seen, prefix=LANDMARK)
        os.close(descriptor)
    try:
        yield Landmark(str(seen), file, (status.st_dev, status.st_ino))
    finally:
        if file:
            with contextlib.suppress(
                OSError
            ):  # the manager has removed it, or the folder is not to be written to by now
                os.unlink(file)
