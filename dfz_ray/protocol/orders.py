"""What the manager answers a worker: a chunk, to wait, or that the lease is over."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple

from dfz_ray.execution.execute import Work
from dfz_ray.protocol.columns import pack, unpack


class Order(NamedTuple):
    """What the manager answers: a chunk, or, with none, whether the lease is over."""

    chunk: int | None = None
    works: bytes = b""
    """Packed: see pack_works."""
    budget_s: float = 0.0
    end: bool = False
    threads: int = 1
    """How many tasks it may execute at once from now on; 0: no word of that."""


def pack_works(
    numbers: Sequence[int], works: Sequence[tuple[int, bytes]], timeouts_s: Sequence[float | None] | None
) -> bytes:
    """The tasks of a chunk as they travel: numbers, seeds and parameters, and deadlines where any has one."""
    return pack((numbers, works, timeouts_s))


def unpack_works(packed: bytes) -> list[Work]:
    """What was packed."""
    numbers, works, timeouts_s = unpack(packed)
    timeouts = itertools.repeat(None) if timeouts_s is None else timeouts_s
    return [
        Work(number, seed, parameters, timeout_s)
        for number, (seed, parameters), timeout_s in zip(numbers, works, timeouts, strict=False)
    ]


NOTED = Order(threads=0)
"""What was reported is noted; nothing was asked."""
END = Order(end=True)
"""Nothing more for this lease, after what it holds."""
