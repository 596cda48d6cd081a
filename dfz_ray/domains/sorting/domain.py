"""The domain sorting: make a list, sort it by an algorithm of our own, and count comparisons and moves."""

from __future__ import annotations

import itertools
import math
import random
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import Field, field_validator

from dfz_ray.domains.domain import Domain, Pair, Parameters
from dfz_ray.domains.sorting.algorithms import ALGORITHMS, Effort

LONGEST = 1_000_000
LARGEST = 10**12
SWAPPED_SHARE = 0.05
"""The number of pairs that are swapped to make a nearly sorted list, per element."""
DRAWN_LENGTHS = (1_000, 16_000)
LIST_TYPES = {
    "random": "random",
    "nearly_sorted": "nearly_sorted",
    "almost_sorted": "nearly_sorted",
    "reverse_sorted": "reverse_sorted",
}
"""For each name of a list type the name that results use."""


class SortingParameters(Parameters):
    """A list of whole numbers, and the algorithm that sorts it."""

    list_length: int = Field(1000, ge=1, le=LONGEST, description="How many numbers the list has.")
    value_range: Pair = Field(
        (0, 1_000_000),
        description=f"[min, max], both included, of the numbers that are drawn; from -{LARGEST} to {LARGEST}.",
    )
    list_type: Literal["random", "nearly_sorted", "almost_sorted", "reverse_sorted"] = Field(
        "random",
        description="random: as it is drawn; nearly_sorted (or almost_sorted): sorted, and then as many random pairs "
        f"swapped as {SWAPPED_SHARE:.0%} of the length, one at least; reverse_sorted: the largest first.",
    )
    algorithm: Literal["quicksort", "mergesort", "heapsort"] = Field(
        "quicksort", description="quicksort (Hoare's, median of three), mergesort (bottom-up) or heapsort."
    )

    @field_validator("value_range")
    @classmethod
    def _is_a_range(cls, bounds: tuple[int, int]) -> tuple[int, int]:
        if not -LARGEST <= bounds[0] <= bounds[1] <= LARGEST:
            raise ValueError(f"[min, max] with min no larger than max, and both from -{LARGEST} to {LARGEST}")
        return bounds


RESULTS = {
    "main_score": "1 is the best that can be reached: needed_comparisons over comparisons, at most 1; no method does"
    " better on every order of the list, though one may on this order. Of random lists mergesort reaches about 0.98,"
    " quicksort 0.6, heapsort 0.5. 0 if the outcome is not the sorted list",
    "comparisons": "counted by the algorithm",
    "moves": "counted by the algorithm",
    "needed_comparisons": "least number with which a method can sort these values in any order",
    "is_sorted": "true if the outcome equals that of Python's own sorted",
    "time_s": "seconds of the sorting alone",
    "algorithm": "the algorithm",
    "list_type": "the type of list",
    "details": "list_length, smallest, largest, distinct_values, descents, checked_with",
}
"""Key of a result to meaning."""


def compute(parameters: SortingParameters, seed: int, threads: int) -> dict[str, Any]:
    """Make a list, sort it, and measure the list and the sorting.

    Returns:
        The keys that RESULTS describes.
    """
    given = make_list(parameters, seed)
    values = list(given)
    began = time.perf_counter()
    effort = ALGORITHMS[parameters.algorithm](values)
    time_s = time.perf_counter() - began
    return {
        **judge(given, values, effort),
        "time_s": time_s,
        "algorithm": parameters.algorithm,
        "list_type": LIST_TYPES[parameters.list_type],
        "details": {
            "list_length": len(given),
            "smallest": min(given),
            "largest": max(given),
            "distinct_values": len(set(given)),
            "descents": sum(after < before for before, after in itertools.pairwise(given)),
            "checked_with": "sorted",
        },
    }


def make_list(parameters: SortingParameters, seed: int) -> list[int]:
    """The list of a task, drawn from its seed."""
    rng = random.Random(seed)  # noqa: S311 - no secret is drawn
    low, high = parameters.value_range
    values = rng.choices(range(low, high + 1), k=parameters.list_length)
    list_type = LIST_TYPES[parameters.list_type]
    if list_type == "random":
        return values
    values.sort(reverse=list_type == "reverse_sorted")
    if list_type == "nearly_sorted" and len(values) > 1:
        for _ in range(max(1, round(SWAPPED_SHARE * len(values)))):
            one, other = rng.sample(range(len(values)), 2)
            values[one], values[other] = values[other], values[one]
    return values


def judge(given: Sequence[int], outcome: Sequence[int], effort: Effort) -> dict[str, Any]:
    """The keys of the result that say whether the list is sorted, and with how many comparisons."""
    is_sorted = list(outcome) == sorted(given)
    needed = count_needed(given)
    economy = min(1.0, needed / effort.comparisons) if effort.comparisons else 1.0
    return {
        "main_score": economy if is_sorted else 0.0,
        "comparisons": effort.comparisons,
        "moves": effort.moves,
        "needed_comparisons": needed,
        "is_sorted": is_sorted,
    }


def count_needed(values: Sequence[int]) -> int:
    """The least number of comparisons with which a method can sort these values in any order (Knuth, TAOCP 3, 5.3.1).

    It has to distinguish n! / (m1! m2! ...) orders, where the i-th value occurs mi times, and each comparison halves
    them at best. And it needs n - 1 at least, since all neighbours in the outcome have to be compared. For a list that
    happens to be nearly in order, fewer may do.
    """
    orders = math.lgamma(len(values) + 1) - math.fsum(math.lgamma(count + 1) for count in Counter(values).values())
    return max(math.ceil(round(orders / math.log(2), 6)), len(values) - 1)  # rounded: log2(4) is 2 and no more


def kind(parameters: SortingParameters) -> str:
    """The algorithm, the type of list, and its length up to a power of two."""
    longest = 1 << (parameters.list_length - 1).bit_length()
    return f"{parameters.algorithm} {LIST_TYPES[parameters.list_type]} up to {longest}"


def draw(rng: random.Random, given: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters of a task of about 1 to 100 ms; they are valid beside any given ones."""
    shortest, longest = DRAWN_LENGTHS
    return {
        "list_length": rng.randint(shortest, longest),
        "list_type": rng.choice(["random", "nearly_sorted", "reverse_sorted"]),
        "algorithm": rng.choice(list(ALGORITHMS)),
    }


DOMAIN = Domain(
    name="sorting",
    version=2,
    parameters=SortingParameters,
    compute=compute,
    kind=kind,
    volatile=frozenset({"time_s"}),
    results=RESULTS,
    draw=draw,
    summary="A list of numbers, sorted by quicksort, mergesort or heapsort, with every comparison counted.",
    repeatable=True,
)
