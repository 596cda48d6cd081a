"""The messages of the driver to the manager: the options of a run, and its tasks, in blocks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import NamedTuple, Self

from dfz_ray.engine.engine import EngineOptions
from dfz_ray.protocol.columns import NO_TASKS, TaskColumns
from dfz_ray.protocol.message_bytes import pack_message, unpack_message


@dataclass(frozen=True)
class RunOptions:
    """The options of a run."""

    engine: EngineOptions
    inline_result_bytes: int
    durable: bool
    node_wait_s: float | None
    has_listener: bool = False
    """True if the driver listens to the events of single tasks."""
    reports_early: bool = False
    """True if the driver hears of the end of a task before that is on disk."""
    most_slots: int | None = None
    """The limit of the slots if their number follows the throughput; None: as many as the cluster holds."""
    opening: str = ""
    """The driver's note on this opening of the run, for the journal."""
    relay_leases: int | None = None
    """A node with so many leases gets a relay; None: none does."""
    held: Mapping[str, float] = field(default_factory=dict)
    """The resources that the driver holds while it waits for the run, if it is itself a call, by Ray's names; without
    its CPUs, for the run takes these over.
    """


class SubmittedKind(NamedTuple):
    """A kind of tasks in the form of the journal."""

    domain: str
    name: str
    resources: str
    """JSON."""
    policy: str
    """JSON."""

    @property
    def lane(self) -> tuple[str, str]:
        """Kinds of one lane are of one domain and one shape, and may share a lease."""
        return self.domain, self.resources


class ShippedDomain(NamedTuple):
    """A domain on its way to the workers; the manager never unpickles it."""

    name: str
    pickled: bytes
    volatile: str
    """JSON list, for the journal."""
    exclusive: bool = False
    """True if its tasks must not share a process."""
    picks_gpu: bool = False
    """True if its workers see all GPUs of their node."""
    version: int = 1


@dataclass(frozen=True)
class OpenedRun:
    """A run that the manager has opened: the driver continues its numbers."""

    kinds: Sequence[SubmittedKind]
    next_batch: int
    next_chunk: int
    tasks: int
    is_new: bool = False
    """True if the manager has made it."""


class Submission(NamedTuple):
    """A block of tasks, with its new batches, domains, kinds and files; they continue the run's numbering."""

    batch: int
    """Number of the batch that the tasks belong to."""
    first_kind: int
    """Number of the first of `kinds`."""
    batches: Sequence[tuple[int, str, int, float]] = ()
    """New batches: number, name, seed, time of submission."""
    domains: Sequence[ShippedDomain] = ()
    kinds: Sequence[SubmittedKind] = ()
    files: Mapping[str, bytes] = MappingProxyType({})
    calls: Sequence[int] = ()
    """The numbers of tasks whose arguments are inputs in the run folder."""
    tasks: TaskColumns = NO_TASKS
    is_awaited: bool = True
    """True if the driver waits until the tasks are on disk."""
    meant: str = ""
    """The journal's note on how many tasks the batch is meant to have; empty: there is one, or none is needed."""
    before: int = 0
    """The number of tasks that the driver has sent before. Messages overtake each other: this block waits for these."""

    def pack(self) -> bytes:
        """Pack it for its way to the manager."""
        return pack_message(self._replace(files=dict(self.files)))

    @classmethod
    def unpack(cls, packed: bytes) -> Self:
        """The block, as it reaches the manager."""
        batch, first_kind, batches, domains, kinds, files, calls, tasks, *rest = unpack_message(packed)
        begun = [tuple(one) for one in batches]
        shipped, submitted = [ShippedDomain(*one) for one in domains], [SubmittedKind(*one) for one in kinds]
        return cls(batch, first_kind, begun, shipped, submitted, files, calls, TaskColumns(*tasks), *rest)
