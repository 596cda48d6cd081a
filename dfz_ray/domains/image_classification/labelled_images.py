"""Images with their classes."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from dfz_ray.domains.image_classification.sources import ImageSource


class Pixels(Protocol):
    """Images of one shape, read by their positions: an array, or files that are decoded when they are wanted."""

    @property
    def shape(self) -> tuple[Any, ...]:
        """(images, channels, height, width)."""

    def __getitem__(self, positions: npt.NDArray[np.int64], /) -> npt.NDArray[np.uint8]:
        """The images at these positions."""


@dataclass(frozen=True, eq=False)
class LabelledImages:
    """Images with their classes. All tasks of a process share them, so they are read-only.

    Raises ValueError if the labels do not fit the images or the classes.
    """

    pixels: Pixels
    labels: npt.NDArray[np.int64]
    """Per image, the position of its class."""
    classes: tuple[str, ...]
    brightest: int = 255
    """The pixel value that means white."""
    lineage: tuple[tuple[str, ...], ...] | None = None
    """Per class, the names from its outermost group down to itself; None where the source has no groups."""
    own_test: LabelledImages | None = None
    """The source's own test part; None where the test images have to be taken from these."""
    sums: Sequence[bytes] = ()
    """Per image, a hash of its pixels; none where all pixels are in memory."""
    notes: tuple[str, ...] = ()
    """Notes on the source, for a reader of results."""
    bad_images: tuple[str, ...] = ()
    """The files that can't be decoded, and were skipped."""
    kept_bytes: int = 0
    """The most bytes of decoded pixels that stay in memory; 0 where all pixels are in memory."""

    def __post_init__(self) -> None:
        if isinstance(self.pixels, np.ndarray):
            self.pixels.flags.writeable = False
        self.labels.flags.writeable = False
        if len(self.labels) != self.pixels.shape[0]:
            found = f"found {self.pixels.shape[0]} images and {len(self.labels)} labels"
            raise ValueError(f"a data source with one label for each image; {found}")
        if len(self.labels) and not (self.labels.min() >= 0 and self.labels.max() < len(self.classes)):
            span = f"from {self.labels.min()} to {self.labels.max()}"
            raise ValueError(
                f"labels from 0 to {len(self.classes) - 1}, as the source has so many classes; found {span}"
            )

    @cached_property
    def image_sums(self) -> Sequence[bytes]:
        """Per image, a hash of its pixels: equal images have equal ones."""
        if self.sums or not isinstance(self.pixels, np.ndarray):
            return self.sums
        return [hash_pixels(image) for image in self.pixels]

    @cached_property
    def sha256(self) -> str:
        """The hash of all pixels, labels and class names: equal data have equal hashes, wherever they lie."""
        known = repr((self.classes, tuple(self.pixels.shape)))
        digest = hashlib.sha256(known.encode("utf-8", "surrogateescape"))
        digest.update(b"".join(self.image_sums))
        digest.update(self.labels.tobytes())
        if self.own_test:
            digest.update(self.own_test.sha256.encode())
        return digest.hexdigest()


def hash_pixels(image: npt.NDArray[np.uint8]) -> bytes:
    """A hash of an image's pixels."""
    return hashlib.sha256(image.tobytes()).digest()


def load_images(source: ImageSource) -> LabelledImages:
    """The images of a source, read once per process as long as the source does not change.

    Raises:
        ValueError: they can't be read.
    """
    return _load(source, source.fingerprint())


@lru_cache(maxsize=2)
def _load(source: ImageSource, fingerprint: str) -> LabelledImages:
    return source.load()
