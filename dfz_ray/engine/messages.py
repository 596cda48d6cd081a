"""The engine's input (events, each named after its cause) and output (commands, each named after an action)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from dfz_ray.specs.states import State

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
    """True if its lane's tasks must not share a process."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """The tasks handed to a worker at once."""

    id: int
    numbers: Sequence[int]
    budget_s: float
    """A worker that has used up so many seconds starts no further task of the chunk, and hands the rest back."""


# --- events -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class TasksSubmitted:
    """New tasks; they continue the numbering of tasks."""

    kinds: Sequence[KindEntry]
    """The new kinds; they continue the numbering of kinds."""
    kind_of: Sequence[int]
    """For each new task, in order, the number of its kind."""
    settled: Mapping[int, int] = field(default_factory=dict)
    """The tasks that are final in the journal: number and state."""
    charged: Mapping[int, int] = field(default_factory=dict)
    """Of the other tasks, by number: the attempts that were charged."""
    free_losses: Mapping[int, int] = field(default_factory=dict)
    """Of the other tasks, by number: the losses of their nodes that were not charged."""


@dataclass(frozen=True, slots=True)
class ChunkBegan:
    """A worker began a chunk."""

    lease: int
    chunk: int


@dataclass(frozen=True, slots=True)
class ChunkEnded:
    """A worker ended a chunk; tasks that it does not name were not executed, and are handed back."""

    lease: int
    chunk: int
    numbers: Sequence[int]
    """The tasks that were executed, in order."""
    durations_s: Sequence[float]
    failures: Mapping[int, str] = field(default_factory=dict)
    """The failed tasks: number and reason."""
    cpu_s: float | None = None
    """The CPU time of all these tasks together, if it is known."""


@dataclass(frozen=True, slots=True)
class WorkAsked:
    """A lease asks for a chunk, also ahead while it still holds one."""

    lease: int
    busy: int = 0
    """The number of its threads that have tasks, if it has several."""
    node: str = ""
    """In its first request: the node that it runs on, if that is known."""


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
    """worker_crashed, node_lost, out_of_memory or timeout; exception if it lives, and can't load what tasks need."""
    executing: Sequence[int] | None = None
    """The tasks that it was executing; after a timeout only the overdue ones; None if nobody knows."""
    are_guilty: bool = False
    """True if all of these are guilty, even if they are several."""
    traceback: str | None = None
    """If it could not load what its tasks need."""
    had_strays: bool = False
    """True if tasks before, maybe of an earlier lease, had left threads behind: one of these may have done it."""


@dataclass(frozen=True, slots=True)
class WorkerSpoiled:
    """A task has changed the state of its worker's process, which ends itself: it holds nothing any more."""

    lease: int
    chunks: Sequence[int]
    """The chunks whose tasks may have felt it: they are executed again, each by itself."""
    message: str
    """The changed parts."""


@dataclass(frozen=True, slots=True)
class OutcomesCommitted:
    """Outcomes are in the journal, on disk."""

    ended: Mapping[State, Sequence[int]]
    """The tasks by their final state."""


@dataclass(frozen=True, slots=True)
class LaneSized:
    """The cluster can run another number of leases of a lane's shape at once."""

    lane: int
    capacity: float
    why_none: str = ""
    """The request and the nearest node's resources, if the capacity is 0 and no node is expected."""
    shares: Mapping[str, float] = field(default_factory=dict)
    """The share of each of the cluster's resources that one lease takes; empty if that is not known."""


@dataclass(frozen=True, slots=True)
class PoolLimited:
    """The cluster holds another number of slots; only if their number follows the throughput."""

    least: int
    most: int
    processes: int
    """The number of processes that the cluster holds."""


@dataclass(frozen=True, slots=True)
class PlacesWanted:
    """Others wait in the cluster for places of leases, as far as is known now."""

    places: int


@dataclass(frozen=True, slots=True)
class ManagerMeasured:
    """The manager measured its own CPU time for one chunk."""

    per_chunk_s: float


@dataclass(frozen=True, slots=True)
class CancelAsked:
    """Someone asked to cancel tasks."""

    numbers: Sequence[int] | None = None
    """None means all open tasks."""


@dataclass(frozen=True, slots=True)
class TimePassed:
    """Time has passed; reported at `Engine.wake_at`."""


@dataclass(frozen=True, slots=True)
class StopAsked:
    """The run stops: no further chunk is handed out; chunks that leases hold may end."""


NO_TASK = -1
"""Stands in for a task if a worker executes none."""

Event = (
    TasksSubmitted
    | ChunkBegan
    | ChunkEnded
    | WorkAsked
    | LeaseEnded
    | LeaseLost
    | WorkerSpoiled
    | OutcomesCommitted
    | LaneSized
    | PoolLimited
    | PlacesWanted
    | ManagerMeasured
    | CancelAsked
    | TimePassed
    | StopAsked
)

# --- commands ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class StartLease:
    """Call the remote function of a lane; it asks for work when Ray has placed it."""

    lease: int
    lane: int
    kind: str
    """The kind that it will probably begin with; it names the call in the Ray dashboard."""
    width: int = 1
    """The slots that it uses for now: it executes no more tasks at once."""
    spreads: bool = False
    """True if Ray should take the nodes in turn, as a worker of the lane could not begin on one of them."""


@dataclass(frozen=True, slots=True)
class GiveChunk:
    """Answer a lease with a chunk."""

    lease: int
    chunk: Chunk
    threads: int = 1
    """The most tasks that the lease may execute at once from now on."""
    is_begun: bool = False
    """True if the lease begins it at once, and gets none ahead: so it reports its end only, and asks then."""


@dataclass(frozen=True, slots=True)
class AnswerWait:
    """Answer a lease that holds a chunk: ask again when it has ended, or when more of its threads have no task."""

    lease: int
    threads: int = 1
    """The most tasks that the lease may execute at once from now on."""


@dataclass(frozen=True, slots=True)
class AnswerEnd:
    """Answer a lease: it gets no further chunk."""

    lease: int


@dataclass(frozen=True, slots=True)
class CommitEnds:
    """Write down the ends of a chunk's executions; completed and failed ones are the outcomes of their tasks."""

    lease: int
    chunk: int
    completed: Sequence[int]
    failed: Sequence[int]
    superseded: Sequence[int] = ()
    """Ends that came too late: the task has another outcome, or another lease holds it. They change nothing."""
    retried: Sequence[int] = ()
    """Failures after which another attempt is due; they are charged."""


@dataclass(frozen=True, slots=True)
class CommitLosses:
    """Write down that these tasks ended without a result and without a worker's report."""

    reason: str
    messages: Mapping[int, str]
    """Number and message."""
    chunk: int | None = None
    state: State = State.FAILED
    traceback: str | None = None
    """Of all of them that have none of their own."""


@dataclass(frozen=True, slots=True)
class NoteAttemptsLost:
    """Write down that a chunk was lost, and that these of its tasks run again."""

    chunk: int
    numbers: Sequence[int]
    reason: str
    message: str
    charged: bool = False
    superseded: bool = False
    """True if each of these tasks has another attempt on its way, which decides alone from now on."""


@dataclass(frozen=True, slots=True)
class NotePoolChanged:
    """Write down that the number of slots has changed."""

    slots: int
    reason: str


@dataclass(frozen=True, slots=True)
class CommitCancellations:
    """Write down that these tasks were cancelled."""

    numbers: Sequence[int]


@dataclass(frozen=True, slots=True)
class InterruptLease:
    """Ask the worker of a lease to drop these tasks, and to end the one that it executes."""

    lease: int
    numbers: Sequence[int]


@dataclass(frozen=True, slots=True)
class KillLease:
    """Kill the worker of a lease; report its loss."""

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
