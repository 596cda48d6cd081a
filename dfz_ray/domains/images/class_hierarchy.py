"""Classes in groups, from coarse to fine: a mistake within a group is a smaller one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

LevelStats = tuple[int, ...]
"""Per class, the number of its group."""


def levels_of_lineage(lineage: Sequence[tuple[str, ...]], depth: int) -> list[LevelStats]:
    """The groups that nested folders make: the finest levels, at most `depth` of them, coarsest first.

    Args:
        lineage: per class, the names from its outermost group down to itself.
        depth: how many levels at most; the last is the classes themselves.
    """
    deepest = max(len(names) for names in lineage)
    levels: list[LevelStats] = []
    for length in range(1, deepest + 1):
        groups = {names[:length]: None for names in lineage}
        numbers = {group: number for number, group in enumerate(groups)}
        levels.append(tuple(numbers[names[:length]] for names in lineage))
    return _telling(levels)[-depth:]


def levels_of_means(pixels: npt.NDArray[np.float32], labels: npt.NDArray[np.int64], depth: int) -> list[LevelStats]:
    """The groups that a Ward tree over the classes' mean images makes, coarsest first.

    Args:
        pixels: training images, of shape (images, channels, height, width), at least one of each class.
        labels: of shape (images,).
        depth: how many levels; fewer where there are not classes enough. Numbers of groups grow geometrically,
            from level to level, up to the number of classes.
    """
    from scipy.cluster.hierarchy import cut_tree, linkage

    count = int(labels.max()) + 1
    means = np.stack([pixels[labels == label].mean(0, dtype=np.float64).ravel() for label in range(count)])
    tree = cut_tree(linkage(means, "ward"))  # all cuts: its argument n_clusters mixes them up when they rise
    return [tuple(int(group) for group in tree[:, count - groups]) for groups in _group_counts(count, depth)]


def score_levels(
    levels: Sequence[LevelStats], confusions: npt.NDArray[np.int64], names: Sequence[str]
) -> list[dict[str, Any]]:
    """Per level, its groups and the share of test images that were taken for a class of the right group."""
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
    """From coarse to fine, rising to the number of classes; never one group, which would tell nothing."""
    levels = min(depth, classes - 1)
    counts: list[int] = []
    for level in range(1, levels + 1):
        even = round(classes ** (level / levels))
        lowest = counts[-1] + 1 if counts else 2
        counts.append(min(max(even, lowest), classes - (levels - level)))
    return counts


def _telling(levels: Sequence[LevelStats]) -> list[LevelStats]:
    """Without levels of a single group, and levels that repeat the one before."""
    return [
        level for level, before in zip(levels, [None, *levels], strict=False) if level != before and len(set(level)) > 1
    ]
