"""The training and test images of one task."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from dfz_ray.domains.image_classification.labelled_images import LabelledImages

Pixels = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int64]


class Difficulty(NamedTuple):
    """A level of difficulty: how much harder a task is than the plain data."""

    noise_level: float
    """Standard deviation of the noise on every pixel, training and test alike; white is 1."""
    train_share: float
    """Share of the training images that are used."""


DIFFICULTIES = {"easy": Difficulty(0.0, 1.0), "medium": Difficulty(0.2, 0.5), "hard": Difficulty(0.3, 0.3)}
TEST_SHARE = 0.25


def random_stream(seed: int, purpose: str, *key: int) -> np.random.Generator:
    """A generator for one purpose: the draws of one part of a task change nothing for another part."""
    return np.random.default_rng([seed % 2**64, *purpose.encode(), *key])


def draw_weights_seed(seed: int) -> int:
    """The seed of the first weights of a task's model."""
    return int(random_stream(seed, "weights").integers(2**63))


@dataclass(frozen=True, eq=False)
class Part:
    """The training or the test images of a task, with their noise. They are read when they are wanted.

    The noise of an image follows from the key and the image alone, so that it is the same whenever it is read.
    """

    images: LabelledImages
    positions: Labels
    """Of the images within the source."""
    labels: Labels
    """Positions within the task's classes, in rising order."""
    noise_level: float
    noise_key: Labels

    @property
    def image_size(self) -> tuple[int, int, int]:
        """Channels, height and width of an image."""
        _, channels, height, width = self.images.pixels.shape
        return channels, height, width

    def read(self, places: Labels) -> Pixels:
        """The images at these places of the part; black is 0 and white is 1."""
        positions = self.positions[places]
        pixels = self.images.pixels[positions].astype(np.float32)
        pixels /= self.images.brightest
        if self.noise_level:
            for image, position in zip(pixels, positions.tolist(), strict=True):
                stream = np.random.Philox(key=self.noise_key, counter=[0, 0, 0, position])
                noise = np.random.Generator(stream).standard_normal(image.shape, np.float32)
                np.clip(image + np.float32(self.noise_level) * noise, 0, 1, out=image)
        return pixels

    def take(self, most: int | None) -> Part:
        """The first images of each class: no more than so many in all, but at least one of each; None: all."""
        if most is None or most >= len(self.labels):
            return self
        counts = np.bincount(self.labels)
        kept = max(1, most // int(np.count_nonzero(counts)))
        places = np.arange(len(self.labels)) - (np.cumsum(counts) - counts)[self.labels]  # within its class
        return replace(self, positions=self.positions[places < kept], labels=self.labels[places < kept])

    def find_sums(self) -> list[bytes]:
        """Per image, a hash of its pixels without noise."""
        return [self.images.image_sums[position] for position in self.positions.tolist()]


class ImageSplit(NamedTuple):
    """The training and test images of one task."""

    train: Part
    test: Part

    def take(self, train_images: int | None, test_images: int | None) -> ImageSplit:
        """The first images of each class, as `Part.take`."""
        return ImageSplit(self.train.take(train_images), self.test.take(test_images))

    def count_copies(self) -> int:
        """The number of test images that are among the training images, too, pixel by pixel."""
        known = set(self.train.find_sums())
        return sum(one in known for one in self.test.find_sums())


def split_images(images: LabelledImages, classes: Sequence[int], difficulty: Difficulty, seed: int) -> ImageSplit:
    """Divide the images of some classes into training and test images.

    The source's own test part, if there is one, is the test set, so that results can be compared with published ones.
    Otherwise the test set is a quarter of each class, drawn from the seed: results of different seeds then
    differ by all that chance decides, the choice of test images included, so that their spread is an honest error bar
    of the accuracy (Bouthillier et al., 2021, Accounting for Variance in Machine Learning Benchmarks). For one seed,
    the test images of a class are the same for every model, difficulty and choice of classes, the noise differs only
    in strength, and the training images of a harder task are among those of an easier one: such comparisons are paired.

    `classes` has the positions of the classes to use; a label of the split is a position in this sequence.

    Raises:
        ValueError: a class has no image to train on, or no class has one to test on.
    """
    drawn = [_draw_class(images, position, difficulty, seed) for position in classes]
    empty = [images.classes[position] for position, (train, _) in zip(classes, drawn, strict=True) if not len(train)]
    if empty:
        raise ValueError(f"at least one training image for every class; {empty[0]!r} has none")
    parts = []
    for source, mine, purpose in [
        (images, [train for train, _ in drawn], "training noise"),
        (images.own_test or images, [test for _, test in drawn], "test noise"),
    ]:
        labels = np.repeat(np.arange(len(classes), dtype=np.int64), [len(one) for one in mine])
        key = random_stream(seed, purpose).integers(2**63, size=2)
        parts.append(Part(source, np.concatenate(mine), labels, difficulty.noise_level, key))
    if not len(parts[1].labels):
        raise ValueError("at least one image to test on: two images of a class")
    return ImageSplit(*parts)


def _draw_class(images: LabelledImages, position: int, difficulty: Difficulty, seed: int) -> tuple[Labels, Labels]:
    """The positions of the training and of the test images of one class."""
    mine = np.flatnonzero(images.labels == position)
    mine = mine[random_stream(seed, "split", position).permutation(len(mine))]
    if images.own_test:
        test = np.flatnonzero(images.own_test.labels == position)
    else:
        test_count = max(round(TEST_SHARE * len(mine)), 1 if len(mine) > 1 else 0)
        test, mine = mine[:test_count], mine[test_count:]
    return mine[: max(round(difficulty.train_share * len(mine)), 1)], test
