"""A folder of images whose subfolders are the classes."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from dfz_ray.domains.image_classification.labelled_images import LabelledImages

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm"})
TEST_FOLDERS = ("test", "val", "valid", "validation")
SMALLEST_SIDE, LARGEST_SIDE = 8, 64
LIMIT_BYTES = 2**29
"""The most bytes of decoded pixels; training holds them as float32, which takes four times as much."""

Classes = Mapping[tuple[str, ...], Sequence[Path]]
"""For each class, by the names of its folders from the outermost on, its images."""


@dataclass(frozen=True)
class Listing:
    """The files of a folder, by name alone."""

    training: Classes
    test: Classes | None
    """The folder's own test part, where it has one."""
    folders: Mapping[Path, int]
    """For every folder that was read the time, in ns, at which its entries last changed."""

    def is_current(self) -> bool:
        """True if no file has come, gone or been renamed since."""
        try:
            return all(path.stat().st_mtime_ns == changed for path, changed in self.folders.items())
        except OSError:
            return False


_listings: dict[Path, Listing] = {}
"""By folder. Thousands of tasks name the same one: its files are listed again only when it has changed."""


@dataclass(frozen=True)
class ImageFolder:
    """A folder whose subfolders hold one class of images each; a nested one is called `group/class`.

    Images beside the subfolders, hidden files and other kinds of files are ignored. Where the outermost subfolders are
    `train` and `test` (or `val`), they are the two parts of one data set and no classes.
    """

    path: Path

    @property
    def text(self) -> str:
        """As the parameter `data_source`, with an absolute path."""
        return f"imagefolder:{self.path}"

    @property
    def label(self) -> str:
        """The name of the data in a task's kind."""
        return f"imagefolder {self.path.name}"

    def find_classes(self) -> tuple[str, ...]:
        """The class names, in the order of their folders."""
        return tuple("/".join(folders) for folders in self.list_files().training)

    def list_files(self) -> Listing:
        """The images by class.

        Raises:
            ValueError: there is no such folder, it can't be read, or it holds no two classes.
        """
        listing = _listings.get(self.path)
        if listing is None or not listing.is_current():
            listing = _listings[self.path] = _list_folder(self.path)
        return listing

    def fingerprint(self) -> str:
        """A hash of every image's name, size and time of change."""
        listing = self.list_files()
        digest = hashlib.sha256()
        for path in _all_files(listing):
            status = path.stat()
            digest.update(f"{path}\0{status.st_size}\0{status.st_mtime_ns}\n".encode("utf-8", "surrogateescape"))
        return digest.hexdigest()

    def load(self) -> LabelledImages:
        """Decode all images, cropped to a square of one size: the median of their shorter sides, 8 to 64 pixels.

        Raises:
            ValueError: an image can't be decoded, or there are too many.
        """
        from dfz_ray.domains.image_classification.labelled_images import LabelledImages

        listing = self.list_files()
        names = list(listing.training)
        side, channels = _common_format(list(_all_files(listing)))

        def decode(part: Classes) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
            return _decode_part(part, names, side, channels)

        classes = tuple("/".join(folders) for folders in names)
        lineage = tuple(names) if any(len(folders) > 1 for folders in names) else None
        own_test = LabelledImages(*decode(listing.test), classes) if listing.test else None
        return LabelledImages(*decode(listing.training), classes, lineage=lineage, own_test=own_test)


def _list_folder(root: Path) -> Listing:
    if not root.is_dir():
        raise ValueError(f"an existing folder with a subfolder of images for each class; there is none at {root}")
    folders: dict[Path, int] = {}
    found = dict(sorted(_find_images(root, folders)))
    outermost = {parts[0] for parts in found}
    tests = [name for name in TEST_FOLDERS if name in outermost]
    training: Classes = found
    test: Classes | None = None
    if tests and outermost <= {"train", *TEST_FOLDERS} and "train" in outermost:
        training, test = _below(found, "train"), _below(found, tests[0])
    if len(training) < 2:
        raise ValueError(f"a folder with images in at least two subfolders; {root} has {len(training)} of them")
    if test and not test.keys() <= training.keys():
        extra = "/".join(min(test.keys() - training.keys()))
        raise ValueError(f"test images of the training classes only; {root / tests[0]} also has {extra!r}")
    return Listing(training, test, folders)


def _find_images(root: Path, folders: dict[Path, int]) -> Iterator[tuple[tuple[str, ...], tuple[Path, ...]]]:
    """Every folder below the root that holds images, also behind links; fills `folders` with those that were read."""
    seen: set[tuple[int, int]] = set()
    for name, subfolders, files in os.walk(root, onerror=_refuse_unreadable, followlinks=True):
        folder = Path(name)
        status = folder.stat()
        if (status.st_dev, status.st_ino) in seen:  # a link led back here
            subfolders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        folders[folder] = status.st_mtime_ns
        subfolders[:] = sorted(subfolder for subfolder in subfolders if not subfolder.startswith("."))
        images = sorted(file for file in files if _is_image(file))
        if images and folder != root:
            yield folder.relative_to(root).parts, tuple(folder / image for image in images)


def _is_image(name: str) -> bool:
    return not name.startswith(".") and os.path.splitext(name)[1].lower() in SUFFIXES


def _refuse_unreadable(error: OSError) -> None:
    raise ValueError(f"a folder that can be read; {error.filename}: {error.strerror}")


def _below(found: Classes, outermost: str) -> Classes:
    return {parts[1:]: images for parts, images in found.items() if parts[0] == outermost and len(parts) > 1}


def _all_files(listing: Listing) -> Iterator[Path]:
    for part in (listing.training, listing.test or {}):
        for images in part.values():
            yield from images


def _common_format(files: Sequence[Path]) -> tuple[int, int]:
    """The side of the squares in pixels, and 1 channel if all images are grey, else 3."""
    from statistics import median_low

    sides, colours = [], set()
    for path in files:
        with _open(path) as image:
            sides.append(min(image.size))
            colours.add(image.mode in ("1", "L") or image.mode.startswith("I"))
    side = max(SMALLEST_SIDE, min(LARGEST_SIDE, median_low(sides)))
    channels = 1 if colours == {True} else 3
    size_bytes = len(files) * channels * side**2
    if size_bytes > LIMIT_BYTES:
        raise ValueError(
            f"at most {LIMIT_BYTES // (channels * side**2)} images of {side} pixels; here are {len(files)}"
        )
    return side, channels


def _decode_part(
    part: Classes, names: Sequence[tuple[str, ...]], side: int, channels: int
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    import numpy as np

    positions = {folders: position for position, folders in enumerate(names)}
    labels = [positions[folders] for folders, files in part.items() for _ in files]
    pixels = np.empty((len(labels), channels, side, side), np.uint8)
    for index, path in enumerate(path for files in part.values() for path in files):
        pixels[index] = _decode(path, side, channels)
    return pixels, np.array(labels, np.int64)


def _decode(path: Path, side: int, channels: int) -> npt.NDArray[np.uint8]:
    import numpy as np
    from PIL import Image, ImageOps

    with _open(path) as opened:
        try:
            image: Any = ImageOps.exif_transpose(opened)
            if image.mode == "F":
                raise ValueError("its pixels are floating-point numbers")
            if image.mode.startswith("I"):  # 16 bits a pixel, which convert() would clip
                image = Image.fromarray((np.asarray(image).astype(np.int64) >> 8).clip(0, 255).astype(np.uint8))
            image = image.convert("L" if channels == 1 else "RGB")
            if image.size != (side, side):
                image = ImageOps.fit(image, (side, side), Image.Resampling.BILINEAR)
        except (OSError, ValueError, SyntaxError) as error:
            raise ValueError(f"images that can be decoded; {path}: {error}") from None
    values = np.asarray(image)
    return values[np.newaxis] if channels == 1 else values.transpose(2, 0, 1)


def _open(path: Path) -> Any:
    from PIL import Image

    try:
        return Image.open(path)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"images that can be opened; {path}: {error}") from None
