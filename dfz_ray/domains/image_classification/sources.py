"""The sources of labelled images, checked by name, before anything heavy is imported."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dfz_ray.domains.image_classification.folders import ImageFolder
from dfz_ray.domains.image_classification.torchvision_sets import LAYOUTS, TorchvisionSet
from dfz_ray.specs.input_file import FileShelf
from dfz_ray.specs.problems import describe_names, nearest, show

if TYPE_CHECKING:
    from dfz_ray.domains.image_classification.labelled_images import LabelledImages

FORMS = ("digits", "fake", "imagefolder:PATH", "torchvision:NAME:ROOT")
SHOWN_CLASSES = 20


@dataclass(frozen=True)
class Digits:
    """1,797 handwritten digits of 8x8 pixels, which come with scikit-learn (UCI: Optical Recognition of Handwritten
    Digits).
    """

    text: str = "digits"
    label: str = "digits"

    def find_classes(self) -> tuple[str, ...]:
        """The ten digits."""
        return tuple("0123456789")

    def fingerprint(self) -> str:
        """Always the same: the data are part of scikit-learn."""
        return ""

    def load(self) -> LabelledImages:
        """Read them from scikit-learn."""
        import numpy as np
        from sklearn.datasets import load_digits

        from dfz_ray.domains.image_classification.labelled_images import LabelledImages

        digits = load_digits()
        pixels = digits.images[:, np.newaxis].astype(np.uint8)
        return LabelledImages(pixels, digits.target.astype(np.int64), self.find_classes(), brightest=16)


@dataclass(frozen=True)
class Fake:
    """Made-up images: for each class one random pattern of 3x16x16 pixels, shown at random places under noise.

    They are for trying things out and say nothing about any classifier; results call them `synthetic`. They are the
    same 600 images for every task.
    """

    text: str = "fake"
    label: str = "fake"

    def find_classes(self) -> tuple[str, ...]:
        """`fake_0` to `fake_9`."""
        return tuple(f"fake_{number}" for number in range(10))

    def fingerprint(self) -> str:
        """Always the same: the images are made from a fixed seed."""
        return ""

    def load(self) -> LabelledImages:
        """Make them."""
        import numpy as np

        from dfz_ray.domains.image_classification.labelled_images import LabelledImages

        rng = np.random.default_rng(20_240_229)
        labels = np.repeat(np.arange(10, dtype=np.int64), 60)
        patterns = rng.uniform(40, 215, (10, 3, 4, 4)).repeat(4, axis=2).repeat(4, axis=3)
        shifts = rng.integers(-1, 2, (len(labels), 2))
        shown = [np.roll(patterns[label], shift, (1, 2)) for label, shift in zip(labels, shifts, strict=True)]
        pixels = np.clip(np.stack(shown) + rng.normal(0, 20, (len(labels), 3, 16, 16)), 0, 255).astype(np.uint8)
        return LabelledImages(pixels, labels, self.find_classes())


ImageSource = Digits | Fake | ImageFolder | TorchvisionSet
"""A source of labelled images. Equal sources have the same images; the fingerprint changes when the data do."""


def parse_source(text: str, shelf: FileShelf | None = None) -> ImageSource:
    """The source that a `data_source` means; the shelf resolves a relative path, but the disk is not read.

    Without a shelf, paths start from the working directory.

    Raises:
        ValueError: it has none of the FORMS.
    """
    form, _, rest = text.partition(":")
    if text == "digits":
        return Digits()
    if text == "fake":
        return Fake()
    if form == "imagefolder" and rest:
        return ImageFolder((shelf or FileShelf()).resolve(rest))
    if form == "torchvision" and ":" in rest:
        name, _, root = rest.partition(":")
        if name in LAYOUTS:
            return TorchvisionSet(name, (shelf or FileShelf()).resolve(root))
        raise ValueError(_expect(f"torchvision:NAME:ROOT with NAME {describe_names(LAYOUTS)}", name, LAYOUTS))
    if hint := next((known for known in FORMS if known.partition(":")[0] == form and known != form), ""):
        raise ValueError(f"{hint}, with nothing left out")
    raise ValueError(_expect(f"one of {', '.join(FORMS)}", form, [known.partition(":")[0] for known in FORMS]))


def choose_classes(known: Sequence[str], wanted: Sequence[str] | None) -> tuple[int, ...]:
    """Positions of the wanted classes, in the order of the source; of all classes if `wanted` is None.

    Raises:
        ValueError: a name is unknown or comes twice; the text has the nearest known name.
    """
    if wanted is None:
        return tuple(range(len(known)))
    twice = next((name for name in wanted if list(wanted).count(name) > 1), None)
    if twice is not None:
        raise ValueError(f"every class once; {show(twice)} comes twice")
    unknown = [name for name in wanted if name not in known]
    if unknown:
        shown = ", ".join(known[:SHOWN_CLASSES])
        more = f" and {len(known) - SHOWN_CLASSES} more" if len(known) > SHOWN_CLASSES else ""
        raise ValueError(
            "; ".join([f"classes of the data source ({shown}{more})", *(_unknown(n, known) for n in unknown)])
        )
    return tuple(position for position, name in enumerate(known) if name in wanted)


def _unknown(name: str, known: Sequence[str]) -> str:
    within = [path for path in known if path.rpartition("/")[2] == name]
    hint = f"did you mean {within[0]!r}?" if within else nearest(name, known)
    return f"{show(name)} is none of them" + (f", {hint}" if hint else "")


def _expect(expected: str, found: str, names: Iterable[str]) -> str:
    hint = nearest(found, names)
    return f"{expected} ({hint})" if hint else expected
