"""How well a classifier did on the test images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Matrix = npt.NDArray[np.int64]


def count_confusions(true: npt.NDArray[np.int64], predicted: npt.NDArray[np.int64], classes: int) -> Matrix:
    """The confusion matrix: how many images of each class (rows) were taken for each class (columns)."""
    return np.bincount(true * classes + predicted, minlength=classes**2).reshape(classes, classes)


def score_classes(confusions: Matrix, names: Sequence[str]) -> dict[str, Any]:
    """Accuracy, precision, recall and F1, per class and as their means.

    A class without test images has no scores (None), and is not in the means. A class with test images for which
    no image was taken has no precision (None); in the mean it counts as 0, as in scikit-learn.
    The accuracy of a class is the share of its images that were recognised, which is its recall.

    Args:
        confusions: true classes are rows.
        names: of the classes.

    Returns:
        The keys `accuracy`, `per_class_accuracy`, `precision`, `recall`, `f1` (macro means) and `per_class`.
    """
    scores = {name: _score_class(confusions, label) for label, name in enumerate(names)}
    tested = [score for score in scores.values() if score["test_images"]]
    macro = {key: sum(score[key] or 0.0 for score in tested) / len(tested) for key in ("precision", "recall", "f1")}
    return {
        "accuracy": int(confusions.trace()) / int(confusions.sum()),
        "per_class_accuracy": {name: score["recall"] for name, score in scores.items()},
        **macro,
        "per_class": scores,
    }


def _score_class(confusions: Matrix, label: int) -> dict[str, Any]:
    hits = int(confusions[label, label])
    present = int(confusions[label].sum())
    taken = int(confusions[:, label].sum())
    return {
        "precision": hits / taken if present and taken else None,
        "recall": hits / present if present else None,
        "f1": 2 * hits / (present + taken) if present else None,
        "test_images": present,
    }
