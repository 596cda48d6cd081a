"""What the engine is told (events, named by what happened) and what it asks for (commands, named by what to do)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from dfz_ray.specs.policy import Policy

# --- data in both ---------------------------------------------------------------------------------------------------


class KindEntry(NamedTuple):
    """A kind of tasks that a run has not seen before; kinds are numbered from 0."""

    name: str
    lane: int
    """Number of its lane: tasks of one domain and one shape, which may share a lease."""
    policy: Policy
    exclusive: bool = False
    """Whether each of its lane's tasks needs a process of its own."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """The tasks handed to a worker at once."""

    id: int
    numbers: Sequence[int]
    budget_s: float
    """A worker that has used up so much starts no further task of the chunk, and hands the rest back."""


NO_FAILURES: Mapping[int, str] = MappingProxyType({})

# --- events -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class TasksSubmitted:
    """New tasks, numbered on from those that are known."""

    kinds: Sequence[KindEntry]
    """The kinds that are new, numbered on from those that are known."""
    kind_of: Sequence[int]
    """For each new task, in order, the number of its kind."""
    settled: Mapping[int, int] = field(default_factory=dict)
    """Of tasks that a journal knows already: number and final state."""
    charged: Mapping[int, int] = field(default_factory=dict)
    """Of the others: how many attempts a journal says were charged to them."""
    free_losses: Mapping[int, int] = field(default_factory=dict)
    """And how many were lost with their node, and not charged."""


@dataclass(frozen=True, slots=True)
class ChunkBegan:
    """A worker began a chunk."""

    lease: int
    chunk: int


@dataclass(frozen=True, slots=True)
class ChunkEnded:
    """A worker ended a chunk; what it does not name of it was not executed, and is handed back."""

    lease: int
    chunk: int
    numbers: Sequence[int]
    """The tasks that were executed, in order."""
    durations_s: Sequence[float]
    """How long each of them took."""
    failures: Mapping[int, str] = field(default_factory=lambda: NO_FAILURES)
    """Why those failed that did, by number: the reason."""
    cpu_s: float | None = None
    """For how long they computed, all together, where that is known."""


@dataclass(frozen=True, slots=True)
class WorkAsked:
    """A lease asks for a chunk: for now, or, while it holds one, for later."""

    lease: int
    busy: int = 0
    """Of a lease with several threads: for how many of them it has tasks in hand."""


@dataclass(frozen=True, slots=True)
class LeaseEnded:
    """The call of a lease returned."""

    lease: int


@dataclass(frozen=True, slots=True)
class LeaseLost:
    """The worker of a lease died."""

    lease: int
    message: str
    reason: str = "worker_crashed"
    """worker_crashed, node_lost, out_of_memory or timeout."""
    executing: Sequence[int] | None = None
    """The tasks that it was executing; None where that is not known. Of a timeout: only those that were overdue."""
    are_guilty: bool = False
    """Whether each of these is to blame, also where they are several."""


@dataclass(frozen=True, slots=True)
class OutcomesCommitted:
    """Outcomes are in the journal, on disk."""

    completed: Sequence[int]
    failed: Sequence[int]
    cancelled: Sequence[int] = ()


@dataclass(frozen=True, slots=True)
class LaneSized:
    """How many leases of a lane's shape the cluster can run at once."""

    lane: int
    capacity: float
    why_none: str = ""
    """Where the capacity is 0, and no node is waited for: what was asked, and what the nearest node has."""


@dataclass(frozen=True, slots=True)
class PoolLimited:
    """Where the number of slots follows what pays: the cluster holds another number of them."""

    least: int
    most: int
    processes: int
    """So many the cluster holds."""


@dataclass(frozen=True, slots=True)
class ManagerMeasured:
    """How long the manager itself takes for one chunk."""

    per_chunk_s: float


@dataclass(frozen=True, slots=True)
class CancelAsked:
    """These tasks are not wanted any more."""

    numbers: Sequence[int] | None = None
    """None: all that are open."""


@dataclass(frozen=True, slots=True)
class TimePassed:
    """It is later than before: what was due at `Engine.wake_at` is due."""


@dataclass(frozen=True, slots=True)
class StopAsked:
    """No further chunk is to be handed out; what is held may end."""


NO_TASK = -1
"""Stands for a task where a worker executes none."""

Event = (
    TasksSubmitted
    | ChunkBegan
    | ChunkEnded
    | WorkAsked
    | LeaseEnded
    | LeaseLost
    | OutcomesCommitted
    | LaneSized
    | PoolLimited
    | ManagerMeasured
    | CancelAsked
    | TimePassed
    | StopAsked
)

# --- commands ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class StartLease:
    """Call the remote function of a lane; it will ask for work when Ray has placed it."""

    lease: int
    lane: int
    kind: str
    """The kind that it will probably begin with: it names the call in the Ray dashboard."""
    width: int = 1
    """How many slots it takes for now: the most tasks that it will execute at once."""


@dataclass(frozen=True, slots=True)
class GiveChunk:
    """Answer a lease with a chunk."""

    lease: int
    chunk: Chunk
    threads: int = 1
    """How many tasks it may execute at once from now on."""


@dataclass(frozen=True, slots=True)
class AnswerWait:
    """Answer a lease, which holds a chunk: ask again when it has ended, or when more of its threads have no task."""

    lease: int
    threads: int = 1
    """How many tasks it may execute at once from now on."""


@dataclass(frozen=True, slots=True)
class AnswerEnd:
    """Answer a lease: after what it holds it gets nothing more."""

    lease: int


@dataclass(frozen=True, slots=True)
class CommitEnds:
    """Write down how these executions of a chunk ended; each completed or failed one is its task's outcome."""

    lease: int
    chunk: int
    completed: Sequence[int]
    failed: Sequence[int]
    superseded: Sequence[int] = field(default=())
    """Ends that came too late: the task has another outcome, or is in other hands. They change nothing."""
    retried: Sequence[int] = field(default=())
    """Failures after which another attempt is due; they are charged."""


@dataclass(frozen=True, slots=True)
class CommitLosses:
    """Write down that these tasks failed without a worker saying so."""

    reason: str
    messages: Mapping[int, str]
    """Task number: message."""
    chunk: int | None = None


@dataclass(frozen=True, slots=True)
class NoteAttemptsLost:
    """Write down that a chunk did not come to its end, and that these of its tasks run again."""

    chunk: int
    numbers: Sequence[int]
    reason: str
    message: str
    charged: bool = False


@dataclass(frozen=True, slots=True)
class NotePoolChanged:
    """Write down that there is another number of slots from now on."""

    slots: int
    reason: str


@dataclass(frozen=True, slots=True)
class CommitCancellations:
    """Write down that these tasks were cancelled."""

    numbers: Sequence[int]


@dataclass(frozen=True, slots=True)
class InterruptLease:
    """Ask the worker of a lease to let go of these tasks, the one that it executes included."""

    lease: int
    numbers: Sequence[int]


@dataclass(frozen=True, slots=True)
class KillLease:
    """Kill the worker of a lease; its loss is to be told."""

    lease: int
    why: str


Command = (
    StartLease
    | GiveChunk
    | AnswerWait
    | AnswerEnd
    | CommitEnds
    | CommitLosses
    | NoteAttemptsLost
    | NotePoolChanged
    | CommitCancellations
    | InterruptLease
    | KillLease
)
