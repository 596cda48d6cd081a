"""The work that is measured: a loop of arithmetic of a known length, and batches of it, even and uneven."""

from __future__ import annotations

import functools
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass

FACTOR, STEP, MODULUS = 1_103_515_245, 12_345, 2**31
"""A linear congruential generator: real work for a core, whose outcome can be foretold."""
EVEN_COUNT_AT_S = 20e-6
"""Shorter tasks than this are not taken to be shorter when their number is chosen."""


def burn(iterations: int) -> int:
    """Keep a core busy for so many steps of arithmetic; returns where they lead to."""
    value = 1
    for _ in range(iterations):
        value = (value * FACTOR + STEP) % MODULUS
    return value


def do_nothing(number: int) -> None:
    """A call that costs nothing itself."""


@functools.cache
def foretell(iterations: int) -> int:
    """The result of `burn`, without its work: the step is applied to itself, by doubling."""
    factor, step, value = FACTOR, STEP, 1
    while iterations:
        if iterations % 2:
            value = (value * factor + step) % MODULUS
        factor, step = factor * factor % MODULUS, (factor * step + step) % MODULUS
        iterations //= 2
    return value


@dataclass(frozen=True)
class Batch:
    """Tasks of known lengths."""

    name: str
    lengths_s: Sequence[float]
    kinds: Sequence[str] | None = None
    """For each task the name of those that cost about the same, where someone who submits them would know it."""

    def iterations(self, iteration_s: float) -> list[int]:
        """The number of steps of each task, if one step takes so long."""
        return [round(length_s / iteration_s) for length_s in self.lengths_s]


def lower_bound(lengths: Sequence[float], workers: int) -> float:
    """No makespan is shorter: all work over the workers, or the longest task (Graham, SIAM J. Appl. Math. 17(2))."""
    return max(sum(lengths) / workers, max(lengths, default=0.0))


def even(grain_s: float, count: int) -> Batch:
    """Tasks of one length."""
    return Batch(f"even {show_length(grain_s)}", [grain_s] * count)


def even_count(grain_s: float, workers: int, work_s: float) -> int:
    """The number of tasks that give each worker so much work."""
    return max(2 * workers, round(workers * work_s / max(grain_s, EVEN_COUNT_AT_S)))


def long_last(scale: float = 1.0) -> Batch:
    """Many short tasks and then a few long ones: who hands out in order, or in large parts, pays at the end."""
    return Batch("long last", [0.001] * round(3960 * scale) + [0.05] * round(40 * scale))


def shuffled(seed: int, scale: float = 1.0) -> Batch:
    """The same tasks as `long_last`, in a random order."""
    lengths = list(long_last(scale).lengths_s)
    random.Random(seed).shuffle(lengths)  # noqa: S311 - no secret is drawn
    return Batch("shuffled", lengths)


def heavy_tail(seed: int, scale: float = 1.0) -> Batch:
    """Lengths from a Pareto distribution: a few tasks are most of the work, and nobody knows which."""
    draw = random.Random(seed)  # noqa: S311 - no secret is drawn
    return Batch("heavy tail", [min(0.0005 * draw.paretovariate(1.2), 0.2) for _ in range(round(2500 * scale))])


def mixed_kinds(seed: int, scale: float = 1.0) -> Batch:
    """Several lengths, each under a kind of its own, in a random order."""
    draw = random.Random(seed)  # noqa: S311 - no secret is drawn
    parts = (("tiny", 0.0002, 5000), ("short", 0.002, 500), ("medium", 0.02, 60), ("long", 0.1, 12))
    tasks = [(kind, length_s) for kind, length_s, count in parts for _ in range(max(1, round(count * scale)))]
    draw.shuffle(tasks)
    return Batch("mixed kinds", [length_s for _, length_s in tasks], [kind for kind, _ in tasks])


def uneven(seed: int, scale: float = 1.0) -> list[Batch]:
    """All uneven batches.

    Args:
        seed: of the random orders and lengths.
        scale: 1 gives about six seconds of work each, a half half as many tasks.
    """
    return [long_last(scale), shuffled(seed, scale), heavy_tail(seed, scale), mixed_kinds(seed, scale)]


def parse_length(text: str) -> float:
    """A length such as `0`, `30us`, `1.5ms` or `0.1s`, in seconds.

    Raises:
        ValueError: it is none.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(us|ms|s)", text.strip())
    if match is None and text.strip() != "0":
        raise ValueError(f"{text!r} is no length; 0, 30us, 1.5ms and 0.1s are")
    return float(match[1]) * {"us": 1e-6, "ms": 1e-3, "s": 1.0}[match[2]] if match else 0.0


def show_length(seconds: float) -> str:
    """A length as people write it: `30 us`, `1.5 ms`, `0`."""
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if round(seconds / size, 3) >= 1:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds * 1e6:.2g} us" if seconds else "0"
