"""Decodes the images of a folder: each when it is wanted, at one size, with a bound on what stays in memory."""

from __future__ import annotations

import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

KEPT_BYTES = 2**27
"""The most bytes of decoded images that stay in memory, of the training and of the test part each."""
SMALLEST_SIDE = 8
DECODING_BYTES = 20
"""The most bytes for each pixel of a file while it is decoded."""


class ImageFormat(NamedTuple):
    """The size and the colours that all images of a folder are brought to."""

    side: int
    """Of a square, in pixels."""
    channels: int
    """1: grey, 3: colour."""
    largest_pixels: int
    """Of a file, the pixels of the largest one."""


class BadImage(ValueError):
    """A file is no image that can be decoded."""


class FolderPixels:
    """Images as an array of them would have them, decoded anew at each access, but for the first ones, which are kept.

    Which ones are kept does not change from pass to pass, so every pass over all images finds the same share of them.
    """

    def __init__(self, files: Sequence[Path], image_format: ImageFormat) -> None:
        side, channels = image_format.side, image_format.channels
        self.shape = (len(files), channels, side, side)
        self._files, self._format = files, image_format
        self._kept: dict[int, npt.NDArray[np.uint8]] = {}
        self._most_kept = KEPT_BYTES // (channels * side**2)

    @property
    def kept_bytes(self) -> int:
        """The most bytes in memory: of images that stay, and of the largest one while it is decoded."""
        kept = min(self._most_kept, len(self._files)) * int(np.prod(self.shape[1:]))
        return kept + DECODING_BYTES * self._format.largest_pixels

    def __getitem__(self, positions: npt.NDArray[np.int64], /) -> npt.NDArray[np.uint8]:
        pixels = np.empty((len(positions), *self.shape[1:]), np.uint8)
        for index, position in enumerate(positions.tolist()):
            pixels[index] = self.read(position)
        return pixels

    def read(self, position: int) -> npt.NDArray[np.uint8]:
        """One image, of shape (channels, height, width).

        Raises:
            BadImage: it can't be decoded.
        """
        kept = self._kept.get(position)
        if kept is None:
            kept = _decode(self._files[position], self._format)
            if len(self._kept) < self._most_kept:
                self._kept[position] = kept
        return kept


def find_format(files: Sequence[Path], largest_side: int | None, skips_bad: bool) -> ImageFormat:
    """The format for some files: the median of their shorter sides, or a smaller largest side; grey if all are grey.

    Only the headers are read.

    Raises:
        BadImage: a file is no image, and bad ones are not skipped.
    """
    from statistics import median_low

    sides, colours, largest = [], set(), 0
    for path in files:
        try:
            with _open(path) as image:
                sides.append(min(image.size))
                largest = max(largest, image.width * image.height)
                colours.add(image.mode in ("1", "L") or image.mode.startswith("I"))
        except BadImage:
            if not skips_bad:
                raise
    own = max(SMALLEST_SIDE, median_low(sides)) if sides else SMALLEST_SIDE
    return ImageFormat(min(own, largest_side or own), 1 if colours == {True} else 3, largest)


def _decode(path: Path, image_format: ImageFormat) -> npt.NDArray[np.uint8]:
    side, channels = image_format.side, image_format.channels
    with _open(path) as opened:
        try:
            image: Any = ImageOps.exif_transpose(opened)
            if image.mode == "F":
                raise ValueError("its pixels are floating-point numbers")
            if image.mode.startswith("I"):  # 16 bits a pixel, which convert() would clip
                image = Image.fromarray((np.asarray(image).clip(0, 65535) >> 8).astype(np.uint8))
            image = image.convert("L" if channels == 1 else "RGB")
            if image.size != (side, side):
                image = ImageOps.fit(image, (side, side), Image.Resampling.BILINEAR)
        except (OSError, ValueError, SyntaxError) as error:
            raise BadImage(_expect("decoded", path, error)) from None
    values = np.asarray(image)
    return values[np.newaxis] if channels == 1 else values.transpose(2, 0, 1)


def _open(path: Path) -> Any:
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # opening a pipe would wait for its writer
            raise ValueError("it is no regular file")
        return Image.open(path)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise BadImage(_expect("opened", path, error)) from None


def _expect(done: str, path: Path, error: Exception) -> str:
    return f"images that can be {done}; {path}: {error} (on_bad_image: skip leaves such images out, and counts them)"
