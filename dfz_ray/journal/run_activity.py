"""The activity of a run: its tasks by kind, what each slot does, failures by cause, the load of the manager.

The manager writes it into the status file; of a run that nobody works on it is counted in the journal.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, fields
from itertools import chain
from types import NoneType
from typing import Any, Self

from dfz_ray.journal.failure_signature import normalise
from dfz_ray.journal.reader import JournalReader
from dfz_ray.protocol.columns import unpack
from dfz_ray.specs.states import STATES, State

MOST_KINDS = 50
MOST_SLOTS = 64
"""The most leases that are listed; those that have worked longest on their chunk come first."""
FULL_SHARE, FULL_S = 0.1, 0.02
"""A manager is full if slots wait for a larger share of their time, and longer each time. A slow disk: by the share."""
MOST_CAUSES = 50
"""The most causes of failures that are told apart."""

_JSON_TYPES: dict[str, tuple[type, ...]] = {
    "str": (str,),
    "int": (int,),
    "float": (int, float),
    "float | None": (int, float, NoneType),
    "dict[str, int]": (dict,),
}


class _Row:
    """One of several equal parts of an activity."""

    @classmethod
    def of_json(cls, content: Any) -> Self:
        """Read it from JSON. Raises ValueError if it is anything else."""
        expected = {field.name: _JSON_TYPES[str(field.type)] for field in fields(cls)}  # type: ignore[arg-type]
        if not isinstance(content, dict) or content.keys() != expected.keys():
            raise ValueError(f"found {content!r:.80}; expected an object with {', '.join(expected)}")
        for name, types in expected.items():
            if type(content[name]) not in types or (types == (dict,) and not are_counts(content[name])):
                raise ValueError(f"{name}: found {content[name]!r:.80}; expected another type")
        return cls(**content)


@dataclass(frozen=True)
class KindActivity(_Row):
    """The tasks of one kind, or of a whole domain."""

    domain: str
    kind: str
    """Empty for all tasks of the domain."""
    counts: dict[str, int]
    """Tasks per state, all five."""
    task_s: float | None
    """Mean run time of the open tasks as far as it is known, from those that have ended; None without open tasks."""

    @property
    def ended(self) -> int:
        """The number of tasks in a final state."""
        return sum(self.counts.values()) - self.open

    @property
    def open(self) -> int:
        """The number of tasks in no final state."""
        return self.counts["pending"] + self.counts["running"]


@dataclass(frozen=True)
class SlotActivity(_Row):
    """One lease."""

    lease: int
    host: str
    """Empty while Ray has not placed it."""
    process: int
    slots: int
    """The number of slots that it uses."""
    domain: str
    kind: str
    """The kind of the first task of the chunk that it executes; empty if it executes none."""
    tasks: int
    """The tasks of that chunk."""
    busy_s: float
    """Seconds since it began that chunk."""


@dataclass(frozen=True)
class FailureCause(_Row):
    """Failures of one cause."""

    domain: str
    reason: str
    signature: str
    """Their message without what differs between them; empty for failures that were not told apart."""
    failed: int
    """The tasks that failed for good."""
    retried: int
    """The attempts after which another one followed."""


@dataclass(frozen=True)
class ManagerLoad(_Row):
    """The load of the manager, and the size of its portions, over the last second."""

    busy_share: float
    """The share of the time for which its event loop was busy: at 1 it can't keep up."""
    commit_s: float | None
    """Mean seconds of a commit."""
    chunk_tasks: float | None
    """Mean number of tasks in a chunk."""
    queue_s: float
    """The seconds for which the oldest waiting task has waited; 0 if none waits."""
    wait_share: float = 0.0
    """The share of the time for which the slots in use had nothing to execute, as the manager's answer was due."""
    wait_s: float = 0.0
    """Mean seconds of such a wait."""
    disk_share: float = 0.0
    """The same share where the manager held its answers back, as many results waited for the disk."""

    @property
    def is_full(self) -> bool:
        """True if slots wait because the manager can't keep up; a network alone does not take that long."""
        return is_full(self.wait_share, self.wait_s)

    def describe_full(self) -> str:
        """A sentence for users on a manager that is full."""
        return (
            f"the manager is full: slots wait for it for {100 * self.wait_share:.0f} % of their time; "
            "tasks that take longer, or fewer workers, leave it more time for each"
        )

    @property
    def is_disk_slow(self) -> bool:
        """True if slots wait because the disk can't keep up with their results."""
        return self.disk_share > FULL_SHARE

    def describe_slow_disk(self) -> str:
        """A sentence for users on a disk that is too slow."""
        return (
            f"results wait for the disk, and slots for that for {100 * self.disk_share:.0f} % of their time; "
            "a run folder on a faster disk, or smaller results, would help"
        )

    def describe_limits(self) -> list[str]:
        """A sentence for users on each thing that slots wait for."""
        full, slow = self.is_full, self.is_disk_slow
        return [self.describe_full()] * full + [self.describe_slow_disk()] * slow


@dataclass(frozen=True)
class Activity:
    """The activity of a run; the lists are limited, and `more_*` says how many entries they lack."""

    domains: tuple[KindActivity, ...] = ()
    kinds: tuple[KindActivity, ...] = ()
    """Those with the most open tasks first."""
    more_kinds: int = 0
    slots: tuple[SlotActivity, ...] = ()
    more_slots: int = 0
    failures: tuple[FailureCause, ...] = ()
    """The most frequent ones first; those since the process opened the run."""
    load: ManagerLoad | None = None
    """None if nobody works on the run."""

    @classmethod
    def of_json(cls, content: Any) -> Activity:
        """Read it from JSON. Raises ValueError if it is anything else."""
        if not isinstance(content, dict) or content.keys() != {field.name for field in fields(cls)}:
            raise ValueError("found no activity of a run")
        if any(type(content[name]) is not list for name in ("domains", "kinds", "slots", "failures")):
            raise ValueError("found no list of kinds, slots or failures")
        if any(type(content[name]) is not int for name in ("more_kinds", "more_slots")):
            raise ValueError("found no number of further kinds or slots")
        return cls(
            tuple(map(KindActivity.of_json, content["domains"])),
            tuple(map(KindActivity.of_json, content["kinds"])),
            content["more_kinds"],
            tuple(map(SlotActivity.of_json, content["slots"])),
            content["more_slots"],
            tuple(map(FailureCause.of_json, content["failures"])),
            None if content["load"] is None else ManagerLoad.of_json(content["load"]),
        )


def is_full(wait_share: float, wait_s: float) -> bool:
    """True if a manager can't keep up: slots wait for it for that share of their time, and so long each time."""
    return wait_share > FULL_SHARE and wait_s > FULL_S


def are_counts(value: Any) -> bool:
    """True for tasks per state, all five."""
    return (
        isinstance(value, dict) and value.keys() == set(STATES) and all(type(count) is int for count in value.values())
    )


class KindTable:
    """Adds tasks of equal domain and kind up, whatever their policies and resources."""

    def __init__(self) -> None:
        self._rows: dict[tuple[str, str], _KindSum] = {}

    def add(self, domain: str, kind: str, counts: Sequence[int], task_s: float | None = None) -> None:
        """Add tasks, given their number by state and their mean run time."""
        for key in ((domain, kind), (domain, "")):
            self._rows.setdefault(key, _KindSum()).add(counts, task_s)

    def domains(self) -> tuple[KindActivity, ...]:
        """All tasks of each domain, as one kind without a name."""
        return tuple(row.to_activity(domain, "") for (domain, kind), row in self._rows.items() if not kind)

    def kinds(self) -> tuple[tuple[KindActivity, ...], int]:
        """The kinds with the most open tasks, and the number of the others."""
        found = [row.to_activity(domain, kind) for (domain, kind), row in self._rows.items() if kind]
        found.sort(key=lambda row: -row.open)
        return tuple(found[:MOST_KINDS]), max(0, len(found) - MOST_KINDS)


class _KindSum:
    """Tasks per state, and the work of the open ones as far as it is known."""

    def __init__(self) -> None:
        self._counts = [0] * len(State)
        self._known = self._unknown = 0
        self._work_s = 0.0

    def add(self, counts: Sequence[int], task_s: float | None) -> None:
        self._counts = [had + more for had, more in zip(self._counts, counts, strict=True)]
        open_tasks = counts[State.PENDING] + counts[State.RUNNING]
        if task_s is None:
            self._unknown += open_tasks
        else:
            self._known += open_tasks
            self._work_s += open_tasks * task_s

    def to_activity(self, domain: str, kind: str) -> KindActivity:
        is_known = self._known and not self._unknown
        counts = dict(zip(STATES, self._counts, strict=True))
        return KindActivity(domain, kind, counts, self._work_s / self._known if is_known else None)


class FailureTally:
    """Counts failures by cause. It looks at `looks` messages at most until the next `refresh`: each takes a while."""

    def __init__(self, looks: int) -> None:
        self._looks = self._left = looks
        self._counts: dict[tuple[str, str, str], list[int]] = {}

    def refresh(self) -> None:
        """Allow as many looks as at the beginning."""
        self._left = self._looks

    def add(self, domain: str, reason: str, message: str, *, is_final: bool) -> None:
        """Count a failure: the last one of its task, or one after which another attempt follows."""
        signature = ""
        if self._left > 0:
            self._left -= 1
            signature = normalise(message)
        key = (domain, reason, signature)
        if key not in self._counts and len(self._counts) >= MOST_CAUSES:
            key = (domain, reason, "")
        self._counts.setdefault(key, [0, 0])[0 if is_final else 1] += 1

    def rows(self) -> tuple[FailureCause, ...]:
        """The causes, the most frequent ones first."""
        found = [FailureCause(*key, failed, retried) for key, (failed, retried) in self._counts.items()]
        return tuple(sorted(found, key=lambda row: (-row.failed, -row.retried))[: 2 * MOST_CAUSES])


def count_activity(journal: JournalReader, looks: int = 2_000) -> Activity:
    """Count it in the journal of a run that nobody works on: every open task is pending. All failures count.

    It looks at so many messages of failures.
    """
    kinds: list[tuple[str, str]] = [(domain, name) for domain, name, *_ in journal.query("read_kinds")]
    kind_of: list[int] = list(chain.from_iterable(unpack(of_kind) for _, of_kind in journal.query("read_names")))
    pending, table, failures = Counter(kind_of), KindTable(), FailureTally(looks)
    ended: dict[int, Counter[int]] = {state: Counter() for state in State}
    for (tasks,) in journal.query("read_completed_tasks"):
        ended[State.COMPLETED].update(map(kind_of.__getitem__, unpack(tasks)))
    for number, state, _, reason, message in journal.query("read_outcome_shapes"):
        ended[state][kind_of[number]] += 1
        if state == State.FAILED:
            failures.add(kinds[kind_of[number]][0], reason, message, is_final=True)
    for number, reason, message in journal.query("read_retried"):
        failures.add(kinds[kind_of[number]][0], reason, message, is_final=False)
    for kind, (domain, name) in enumerate(kinds):
        counts = [ended[state][kind] for state in State]
        counts[State.PENDING] = pending[kind] - sum(counts)
        table.add(domain, name, counts)
    return Activity(table.domains(), *table.kinds(), failures=failures.rows())
