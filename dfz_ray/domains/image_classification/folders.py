"""A folder of images whose subfolders are the classes."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dfz_ray.domains.image_classification.folder_pixels import ImageFormat
    from dfz_ray.domains.image_classification.labelled_images import LabelledImages

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm"})
TRAINING_FOLDERS = ("train", "training")
TEST_FOLDERS = (
    "test",
    "testing",
    "holdout",
    "hold-out",
    "hold_out",
    "val",
    "valid",
    "validation",
    "eval",
    "evaluation",
)
"""Names, in any case, of the two parts of one data set; of several test parts the first of these names is used."""

Classes = Mapping[tuple[str, ...], Sequence[Path]]
"""For each class, by the names of its folders from the outermost on, its images."""


@dataclass(frozen=True)
class Listing:
    """The files of a folder, by name alone."""

    training: Classes
    test: Classes | None
    """The folder's own test part, where it has one."""
    unused: tuple[str, ...]
    """Further test parts, which are not used."""
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
    `train` and `test` (or others of TRAINING_FOLDERS and TEST_FOLDERS), they are the two parts of one data set and no
    classes.
    """

    path: Path
    largest_side: int | None = None
    """Images are decoded at no more pixels than this; None: at their own size."""
    skips_bad: bool = False
    """True to leave out images that can't be decoded."""

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
            try:
                status = path.stat()
                known = f"{status.st_size}\0{status.st_mtime_ns}"
            except OSError as error:  # a link to nothing: loading says so
                known = str(error.errno)
            digest.update(f"{path}\0{known}\n".encode("utf-8", "surrogateescape"))
        return digest.hexdigest()

    def load(self) -> LabelledImages:
        """Find the common format of all images, and decode each once, to see that it can be: a square of one size.

        The size is the median of the shorter sides, or the largest side where that is smaller.

        Raises:
            ValueError: an image can't be decoded, and bad ones are not skipped.
        """
        from dataclasses import replace

        from dfz_ray.domains.image_classification.folder_pixels import find_format

        listing = self.list_files()
        image_format = find_format(list(_all_files(listing)), self.largest_side, self.skips_bad)
        images = self._load_part(listing.training, listing, image_format)
        if listing.test is None:
            return images
        notes = tuple(f"the folder {name!r} is not used" for name in listing.unused)
        return replace(images, own_test=self._load_part(listing.test, listing, image_format), notes=notes)

    def _load_part(self, part: Classes, listing: Listing, image_format: ImageFormat) -> LabelledImages:
        import numpy as np

        from dfz_ray.domains.image_classification.folder_pixels import BadImage, FolderPixels
        from dfz_ray.domains.image_classification.labelled_images import LabelledImages, hash_pixels

        names = list(listing.training)
        positions = {folders: position for position, folders in enumerate(names)}
        found = [(path, positions[folders]) for folders, files in part.items() for path in files]
        good, sums, bad = [], [], []
        probe = FolderPixels([path for path, _ in found], image_format)
        for number, (path, label) in enumerate(found):
            try:
                sums.append(hash_pixels(probe.read(number)))
                good.append((path, label))
            except BadImage:
                if not self.skips_bad:
                    raise
                bad.append(str(path.relative_to(self.path)))
        pixels = FolderPixels([path for path, _ in good], image_format) if bad else probe
        return LabelledImages(
            pixels,
            np.array([label for _, label in good], np.int64),
            tuple("/".join(folders) for folders in names),
            lineage=tuple(names) if any(len(folders) > 1 for folders in names) else None,
            sums=sums,
            bad_images=tuple(bad),
            kept_bytes=pixels.kept_bytes,
        )


def _list_folder(root: Path) -> Listing:
    if not root.is_dir():
        raise ValueError(f"an existing folder with a subfolder of images for each class; there is none at {root}")
    folders: dict[Path, int] = {}
    found = dict(sorted(_find_images(root, folders)))
    training, test, unused = _divide(found, root)
    if len(training) < 2:
        raise ValueError(f"a folder with images in at least two subfolders; {root} has {len(training)} of them")
    return Listing(training, test, unused, folders)


def _divide(found: Classes, root: Path) -> tuple[Classes, Classes | None, tuple[str, ...]]:
    """The training part, the test part if there is one, and the names of test parts that are not used."""
    outermost = list(dict.fromkeys(parts[0] for parts in found))
    trains = [name for name in outermost if name.lower() in TRAINING_FOLDERS]
    tests = sorted(
        (name for name in outermost if name.lower() in TEST_FOLDERS), key=lambda name: TEST_FOLDERS.index(name.lower())
    )
    if len(trains) != 1 or not tests or len(trains) + len(tests) < len(outermost):
        _refuse_repeated(found, root)
        return found, None, ()
    training, test = _below(found, trains[0]), _below(found, tests[0])
    for name, part in ((trains[0], training), (tests[0], test)):
        if not part:
            raise ValueError(f"a subfolder for each class in {root / name}, as in each part of a data set; it has none")
    if not test.keys() <= training.keys():
        extra = "/".join(min(test.keys() - training.keys()))
        raise ValueError(f"test images of the training classes only; {root / tests[0]} also has {extra!r}")
    return training, test, tuple(tests[1:])


def _refuse_repeated(found: Classes, root: Path) -> None:
    """Refuse a folder whose outermost folders look like parts of one data set: a class is in several of them."""
    places: dict[tuple[str, ...], list[str]] = {}
    for outer, *inner in found:
        if inner:
            places.setdefault(tuple(inner), []).append(outer)
    name, several = next(((name, outer) for name, outer in places.items() if len(outer) > 1), ((), []))
    if several:
        raise ValueError(
            f"classes that have a name of their own; {root} has {'/'.join(name)!r} in {' and in '.join(several)}: "
            "name the parts of a data set train and test (or leave other folders out), or give classes of different "
            "groups different names"
        )


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
