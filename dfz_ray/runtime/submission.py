"""What the driver sends to the manager: how a run works, and its tasks, in blocks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from dfz_ray.specs.resources import Resources


@dataclass(frozen=True)
class RunOptions:
    """How a run works."""

    slots: int
    chunk_target_s: float
    lease_s: float
    inline_result_bytes: int


class ShippedDomain(NamedTuple):
    """A domain on its way to the workers; the manager never looks inside."""

    name: str
    pickled: bytes
    volatile: str
    """JSON list, for the journal."""


@dataclass(frozen=True)
class OpenedRun:
    """What the driver must know of a run that the manager has opened, to go on with its numbers."""

    lanes: Sequence[tuple[str, str]]
    """Domain and resources (JSON) of every lane."""
    kinds: Sequence[tuple[str, int]]
    """Name and lane of every kind."""
    batches: int
    tasks: int


@dataclass(frozen=True)
class Submission:
    """A block of tasks, with what is new in it: each list continues the run's numbering."""

    batch: int
    """Number of the batch that the tasks belong to."""
    first_kind: int
    """Number of the first of `kinds`."""
    batches: Sequence[tuple[int, str, int, float]] = ()
    """New batches: number, name, seed, time of submission."""
    domains: Sequence[ShippedDomain] = ()
    lanes: Sequence[tuple[str, Resources]] = ()
    """New lanes: domain and shape."""
    kinds: Sequence[tuple[str, int]] = ()
    """New kinds: name, and number of the lane."""
    files: Mapping[str, bytes] = field(default_factory=dict)
    tasks: Sequence[tuple[str, int, int, bytes, str]] = ()
    """Id, number of the kind, seed, parameters, description."""
