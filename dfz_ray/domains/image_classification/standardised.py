"""The images of a task as a model is given them: standardised, and in memory only where they are few."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from dfz_ray.domains.image_classification.split import ImageSplit, Labels, Part, Pixels

HELD_BYTES = 2**27
"""The most bytes of images, as numbers, that stay in memory for a task, of training and of test images each. More are
read anew, batch by batch."""
BLOCK_BYTES = 2**24
"""The bytes of images that are read together to measure them."""
BATCH_BYTES = 2**30
"""The most bytes of the images of one batch."""
LARGEST_THUMBNAIL = 32
"""The side, in pixels, at which the mean images of classes are compared."""

FLOAT_BYTES = 4


class StandardisedImages:
    """The images of a part, less the mean and over the spread of the training images, per channel."""

    def __init__(self, part: Part, mean: Pixels, spread: Pixels, held: Pixels | None = None) -> None:
        self.labels = part.labels
        self._part, self._mean, self._spread = part, mean, spread
        self._held: Pixels | None = None
        if held is not None or size_bytes(part) <= HELD_BYTES:
            self._held = (part.read(np.arange(len(part.labels))) if held is None else held) - mean
            self._held /= spread

    def __call__(self, places: Labels) -> Pixels:
        """The images at these places of the part, as float32 of shape (images, channels, height, width)."""
        if self._held is not None:
            return self._held[places]
        return (self._part.read(places) - self._mean) / self._spread

    def __len__(self) -> int:
        return len(self.labels)


class Standardised(NamedTuple):
    """The images of a task, standardised."""

    train: StandardisedImages
    test: StandardisedImages
    class_means: npt.NDArray[np.float64]
    """Per class its mean training image, flat, and shrunk where it is large."""


def size_bytes(part: Part) -> int:
    """The size of all images of a part, as numbers."""
    return len(part.labels) * int(np.prod(part.image_size)) * FLOAT_BYTES


def bound_bytes(split: ImageSplit, shown_side: int, batch_size: int, test_batch_size: int) -> int:
    """The most bytes of memory that pixels take while a model is trained: decoded ones, held ones and batches.

    Raises:
        ValueError: a batch is too large, at the side of its images or at the one at which they are shown.
    """
    channels, own_side, _ = split.train.image_size
    side = max(own_side, shown_side)
    image_bytes = channels * side**2 * FLOAT_BYTES
    batch_bytes = batch_size * image_bytes
    if batch_bytes > BATCH_BYTES:
        fitting = BATCH_BYTES // image_bytes
        raise ValueError(
            f"batches of at most {BATCH_BYTES} bytes of pixels; found batch_size {batch_size} at {image_bytes} bytes"
            f" for an image of {side} pixels: give "
            + (f"batch_size {fitting} at most, or a smaller image_size" if fitting >= 2 else "a smaller image_size")
        )
    sources = {id(part.images): part.images for part in split}.values()
    kept = sum(images.kept_bytes or int(np.prod(images.pixels.shape)) for images in sources)
    held = sum(size for part in split if (size := size_bytes(part)) <= HELD_BYTES)
    return kept + 2 * held + 4 * max(batch_bytes, test_batch_size * image_bytes, BLOCK_BYTES)


def standardise(split: ImageSplit) -> Standardised:
    """Measure the training images, reading each once, and standardise by that what is shown of both parts."""
    train = split.train
    held = train.read(np.arange(len(train.labels))) if size_bytes(train) <= HELD_BYTES else None
    channels = train.image_size[0]
    total, squares, count = np.zeros(channels), np.zeros(channels), 0
    classes = int(train.labels.max()) + 1
    sums: npt.NDArray[np.float64] | None = None
    for places, block in [(np.arange(len(train.labels)), held)] if held is not None else _blocks(train):
        total += block.sum((0, 2, 3), dtype=np.float64)
        squares += np.einsum("nchw,nchw->c", block, block, dtype=np.float64)
        count += block.size // channels
        thumbnails = _shrink(block)
        sums = np.zeros((classes, *thumbnails.shape[1:])) if sums is None else sums
        np.add.at(sums, train.labels[places], thumbnails)
    mean = (total / count).reshape(-1, 1, 1)
    spread = np.maximum(np.sqrt(np.maximum(squares.reshape(-1, 1, 1) / count - mean**2, 0)), 1e-6)
    assert sums is not None  # noqa: S101 - there is a training image for every class
    means = (sums / np.bincount(train.labels).reshape(-1, 1, 1, 1) - mean) / spread
    scale = mean.astype(np.float32), spread.astype(np.float32)
    return Standardised(
        StandardisedImages(train, *scale, held), StandardisedImages(split.test, *scale), means.reshape(classes, -1)
    )


def _blocks(part: Part) -> Iterator[tuple[Labels, Pixels]]:
    together = max(1, BLOCK_BYTES // (int(np.prod(part.image_size)) * FLOAT_BYTES))
    for start in range(0, len(part.labels), together):
        places = np.arange(start, min(start + together, len(part.labels)))
        yield places, part.read(places)


def _shrink(block: Pixels) -> Pixels:
    """The images at a side of no more than LARGEST_THUMBNAIL pixels: each pixel is the mean of a square of them."""
    images, channels, side, _ = block.shape
    times = -(-side // LARGEST_THUMBNAIL)
    if times == 1:
        return block
    edge = side - side % times
    squares = block[:, :, :edge, :edge].reshape(images, channels, edge // times, times, edge // times, times)
    shrunk: Pixels = squares.mean((3, 5))
    return shrunk
