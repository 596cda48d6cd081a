"""One piece of work, checked and frozen, and its seed."""

from __future__ import annotations

import hashlib
import struct
from typing import NamedTuple

from dfz_ray.specs.policy import Policy
from dfz_ray.specs.resources import Resources

SEED_LIMIT = 2**63
"""Seeds are 0 to 2^63 - 1: SQLite, NumPy, torch and Aer all take them."""

_FIRST_64_BITS = struct.Struct(">Q").unpack_from


class Task(NamedTuple):
    """One piece of work."""

    id: str
    domain: str
    kind: str
    """Tasks of one kind cost about the same."""
    seed: int
    resources: Resources
    parameters: bytes
    """All parameters with their defaults, as MessagePack."""
    description: str = ""
    policy: Policy = Policy()
    """Tasks of a batch with equal policies share one object."""


class SeedSource:
    """Derives the seeds of a batch's tasks; the part that they share is hashed once.

    A seed is the first 63 bits of SHA-256 over batch seed and task id. So it does not depend on the task's position, on
    the number of workers, or on anything else that may change.
    """

    def __init__(self, batch_seed: int) -> None:
        self._shared = hashlib.sha256(f"{batch_seed}:".encode())

    def derive(self, task_id: str) -> int:
        """The seed of the task with this id."""
        whole = self._shared.copy()
        whole.update(task_id.encode("utf-8", "surrogatepass"))
        first: int = _FIRST_64_BITS(whole.digest())[0]
        return first >> 1


def derive_seed(batch_seed: int, task_id: str) -> int:
    """The seed of one task of a batch, as `SeedSource` derives it."""
    return SeedSource(batch_seed).derive(task_id)
