"""The scores of a classifier: how well it did on the test images, for each class and for groups of classes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Matrix = npt.NDArray[np.int64]


def count_confusions(true: npt.NDArray[np.int64], predicted: npt.NDArray[np.int64], classes: int) -> Matrix:
    """The confusion matrix: images of each class (rows) that were taken for each class (columns)."""
    return np.bincount(true * classes + predicted, minlength=classes**2).reshape(classes, classes)


def score_classes(confusions: Matrix, names: Sequence[str]) -> dict[str, Any]:
    """Accuracy, precision, recall and F1, per class and as their means.

    A class without test images has no scores (None), and does not enter the means. A class that has test images, but
    that no image was taken for, has no precision (None); in the mean it counts as 0, as in scikit-learn.
    The accuracy of a class is the share of its images that were recognised, which is its recall. `precision`, `recall`
    and `f1` are macro means.
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


# --- groups of classes ------------------------------------------------------------------------------------------------

Grouping = tuple[int, ...]
"""For each class the number of its group. A mistake within a group is a smaller one."""


def levels_of_lineage(lineage: Sequence[tuple[str, ...]], depth: int) -> list[Grouping]:
    """The groupings of classes by nested folders: the finest ones, at most `depth` of them, coarsest first.

    The last is the classes themselves.
    """
    deepest = max(len(names) for names in lineage)
    levels: list[Grouping] = []
    for length in range(1, deepest + 1):
        groups = {names[:length]: None for names in lineage}
        numbers = {group: number for number, group in enumerate(groups)}
        levels.append(tuple(numbers[names[:length]] for names in lineage))
    return _telling(levels)[-depth:]


def levels_of_means(means: npt.NDArray[np.float64], depth: int) -> list[Grouping]:
    """The groupings of classes by a Ward tree over their mean training images (one in a row), coarsest first.

    There are `depth` of them, or fewer if there are not enough classes. The numbers of groups grow geometrically, up to
    the number of classes.
    """
    from scipy.cluster.hierarchy import cut_tree, linkage

    count = len(means)
    tree = cut_tree(linkage(means, "ward"))  # all cuts: its argument n_clusters mixes them up when they rise
    return [tuple(int(group) for group in tree[:, count - groups]) for groups in _group_counts(count, depth)]


def score_levels(
    levels: Sequence[Grouping], confusions: npt.NDArray[np.int64], names: Sequence[str]
) -> list[dict[str, Any]]:
    """For each grouping its groups, and the share of test images that were taken for a class of the right group."""
    scores = []
    for number, level in enumerate(levels, start=1):
        group = np.array(level)
        right = int(confusions[group[:, np.newaxis] == group].sum())
        members = [
            [name for name, own in zip(names, level, strict=True) if own == found] for found in dict.fromkeys(level)
        ]
        scores.append({"level": number, "groups": members, "accuracy": right / int(confusions.sum())})
    return scores


def _group_counts(classes: int, depth: int) -> list[int]:
    """Numbers of groups, rising to the number of classes; never one group, which would say nothing."""
    levels = min(depth, classes - 1)
    counts: list[int] = []
    for level in range(1, levels + 1):
        even = round(classes ** (level / levels))
        lowest = counts[-1] + 1 if counts else 2
        counts.append(min(max(even, lowest), classes - (levels - level)))
    return counts


def _telling(levels: Sequence[Grouping]) -> list[Grouping]:
    """The groupings without those of a single group, and without those that repeat the one before."""
    return [
        level for level, before in zip(levels, [None, *levels], strict=False) if level != before and len(set(level)) > 1
    ]
