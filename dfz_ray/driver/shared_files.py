"""Finds out whether the manager sees the files of this process: it writes the run folder, and this process reads it."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from dfz_ray.errors import ClusterUnusable


def refuse_unseen(folder: Path, identify: Callable[[str], tuple[int, int] | None]) -> None:
    """Refuse a run folder that is, or would be, another one for the manager, as in another container.

    `identify` returns the device and the number of a file as the manager sees it, or None if it sees none. Raises
    ClusterUnusable.
    """
    seen = next(path for path in (folder, *folder.parents) if os.path.exists(path))
    try:
        with tempfile.NamedTemporaryFile(dir=seen, prefix=".dfz-") as file:
            is_seen = identify(file.name) is not None
    except OSError:  # nothing can be written there; machines made of one image may agree by chance
        status = seen.stat()
        is_seen = identify(str(seen)) == (status.st_dev, status.st_ino)
    if is_seen:
        return
    raise ClusterUnusable(
        f"the run's manager does not see {seen} as this process does: it would write the run to "
        "another file system; start the driver where the files of its Ray node are, or name a run folder that both see"
    )
