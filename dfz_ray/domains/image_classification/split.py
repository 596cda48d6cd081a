"""The training and test images of one task."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
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
class ImageSplit:
    """Training and test images of one task, standardised by mean and spread of the training images."""

    train_pixels: Pixels
    train_labels: Labels
    test_pixels: Pixels
    test_labels: Labels

    @property
    def image_size(self) -> tuple[int, int, int]:
        """Channels, height and width of an image."""
        _, channels, height, width = self.train_pixels.shape
        return channels, height, width

    def take(self, train_images: int | None, test_images: int | None) -> ImageSplit:
        """The first images of each class: no more than so many in all, but at least one of each; None: all."""
        return ImageSplit(
            *_take(self.train_pixels, self.train_labels, train_images),
            *_take(self.test_pixels, self.test_labels, test_images),
        )


def _take(pixels: Pixels, labels: Labels, most: int | None) -> tuple[Pixels, Labels]:
    if most is None or most >= len(labels):
        return pixels, labels
    counts = np.bincount(labels)
    kept = max(1, most // int(np.count_nonzero(counts)))
    places = np.arange(len(labels)) - (np.cumsum(counts) - counts)[labels]  # within its class: labels are sorted
    return pixels[places < kept], labels[places < kept]


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
    train, train_labels = _join([training for training, _ in drawn])
    test, test_labels = _join([test for _, test in drawn])
    empty = [images.classes[position] for label, position in enumerate(classes) if label not in train_labels]
    if empty:
        raise ValueError(f"at least one training image for every class; {empty[0]!r} has none")
    if not len(test_labels):
        raise ValueError("at least one image to test on: two images of a class")
    mean = train.mean((0, 2, 3), dtype=np.float64, keepdims=True)[0].astype(np.float32)
    spread = np.maximum(train.std((0, 2, 3), dtype=np.float64, keepdims=True)[0], 1e-6).astype(np.float32)
    return ImageSplit((train - mean) / spread, train_labels, (test - mean) / spread, test_labels)


def _draw_class(images: LabelledImages, position: int, difficulty: Difficulty, seed: int) -> tuple[Pixels, Pixels]:
    """Training and test images of one class, with their noise."""
    mine = np.flatnonzero(images.labels == position)
    mine = mine[random_stream(seed, "split", position).permutation(len(mine))]
    if images.own_test:
        test = images.own_test.pixels[images.own_test.labels == position]
    else:
        test_count = max(round(TEST_SHARE * len(mine)), 1 if len(mine) > 1 else 0)
        test = images.pixels[mine[:test_count]]
        mine = mine[test_count:]
    kept = max(round(difficulty.train_share * len(mine)), 1)
    training = images.pixels[mine[:kept]]
    noisy = [
        _add_noise(
            pixels / np.float32(images.brightest), difficulty.noise_level, random_stream(seed, purpose, position)
        )
        for pixels, purpose in [(training, "training noise"), (test, "test noise")]
    ]
    return noisy[0], noisy[1]


def _add_noise(pixels: Pixels, level: float, rng: np.random.Generator) -> Pixels:
    if level == 0:
        return pixels
    return np.clip(pixels + np.float32(level) * rng.standard_normal(pixels.shape, np.float32), 0, 1)


def _join(per_class: Sequence[Pixels]) -> tuple[Pixels, Labels]:
    labels = np.repeat(np.arange(len(per_class), dtype=np.int64), [len(pixels) for pixels in per_class])
    return np.concatenate(per_class), labels
