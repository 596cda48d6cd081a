"""Images with their classes, in memory."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from dfz_ray.domains.image_classification.sources import ImageSource


@dataclass(frozen=True, eq=False)
class LabelledImages:
    """Images with their classes. All tasks of a process share them, so they are read-only."""

    pixels: npt.NDArray[np.uint8]
    """Their shape is (images, channels, height, width)."""
    labels: npt.NDArray[np.int64]
    """Per image, the position of its class."""
    classes: tuple[str, ...]
    brightest: int = 255
    """The pixel value that means white."""
    lineage: tuple[tuple[str, ...], ...] | None = None
    """Per class, the names from its outermost group down to itself; None where the source has no groups."""
    own_test: LabelledImages | None = None
    """The source's own test part; None where the test images have to be taken from these."""

    def __post_init__(self) -> None:
        self.pixels.flags.writeable = False
        self.labels.flags.writeable = False

    @cached_property
    def sha256(self) -> str:
        """The hash of all pixels, labels and class names: equal data have equal hashes, wherever they lie."""
        digest = hashlib.sha256(repr((self.classes, self.pixels.shape)).encode("utf-8", "surrogateescape"))
        digest.update(self.pixels.tobytes())
        digest.update(self.labels.tobytes())
        if self.own_test:
            digest.update(self.own_test.sha256.encode())
        return digest.hexdigest()


def load_images(source: ImageSource) -> LabelledImages:
    """The images of a source, read once per process as long as the source does not change.

    Raises:
        ValueError: they can't be read.
    """
    return _load(source, source.fingerprint())


@lru_cache(maxsize=2)
def _load(source: ImageSource, fingerprint: str) -> LabelledImages:
    return source.load()
