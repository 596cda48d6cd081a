"""One piece of work, checked and frozen."""

from __future__ import annotations

import hashlib
from typing import NamedTuple

from dfz_ray.specs.policy import Policy
from dfz_ray.specs.resources import Resources

SEED_LIMIT = 2**63
"""Seeds are 0 to 2^63 - 1: SQLite, NumPy, torch and Aer all take them."""


class Task(NamedTuple):
    """One piece of work."""

    id: str
    domain: str
    kind: str
    """Tasks of one kind cost about the same."""
    seed: int
    resources: Resources
    parameters: bytes
    """All parameters, the defaults included, as MessagePack."""
    description: str = ""
    policy: Policy = Policy()
    """Tasks of a batch that are treated alike share one object."""


def derive_seed(batch_seed: int, task_id: str) -> int:
    """The seed of a task that was given none: the first 63 bits of SHA-256 over batch seed and task id.

    So it does not depend on the task's position, on the number of workers, or on anything else that may change.
    """
    text = f"{batch_seed}:{task_id}".encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.sha256(text).digest()[:8], "big") >> 1
