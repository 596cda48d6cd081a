"""Watches a run between two beats of the status: what it notes of a chunk or a commit is a reference or a sum.

All work on what was noted is done on the beat, once a second.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from dfz_ray.engine.engine import Engine
from dfz_ray.journal.commit_sums import Row
from dfz_ray.journal.run_activity import (
    MOST_SLOTS,
    Activity,
    FailureTally,
    KindTable,
    ManagerLoad,
    SlotActivity,
)
from dfz_ray.journal.schema import ATTEMPT_FAILED, ATTEMPT_LOST, ATTEMPT_SUPERSEDED
from dfz_ray.protocol.reports import Place
from dfz_ray.specs.states import State

LOOKS = 1_000
"""The most messages of failures that are looked at on each beat: some milliseconds."""
LEAST_LOOK_S = 0.5
"""Waits count as a share of so many seconds at least: those of a run that is over at once say little."""
OUTCOMES = {ATTEMPT_FAILED: "failed", ATTEMPT_LOST: "lost", ATTEMPT_SUPERSEDED: "superseded"}


class RunWatch:
    """Notes what a run does. `domains` has the domain of every lane, and grows; `find_place` finds a lease's place."""

    def __init__(
        self,
        engine: Engine,
        domains: Sequence[str],
        find_place: Callable[[int], Place | None],
        clock: Callable[[], float] = time.monotonic,
        busy_clock: Callable[[], float] = time.thread_time,
    ) -> None:
        self._engine, self._domains, self._find_place, self._clock = engine, domains, find_place, clock
        self._attempts: list[Row] = []
        self._outcomes: list[Row] = []
        self._failures = FailureTally(LOOKS)
        self.attempts: Counter[tuple[str, str, str]] = Counter()
        """Attempts by domain, outcome and reason, up to the last beat."""
        self.commits, self.commit_s = 0, 0.0
        """The number of commits up to the last beat, and the seconds that they took."""
        self.chunks, self.chunk_tasks = 0, 0
        """The number of chunks that were handed out, and that of their tasks."""
        self._chunks_before = (0, 0)
        self._waits, self._waited_s = 0, 0.0
        """Waits of slots for an order since the last beat, but for those by the disk."""
        self._disk_s = 0.0
        """The time for which slots waited for the disk since then."""
        self._slots = 0
        """The most slots that were in use since then: their leases may be over."""
        self._busy_clock = busy_clock
        self._looked_at, self._busy_s = clock(), busy_clock()

    def on_given(self, tasks: int) -> None:
        """A chunk of so many tasks is handed out."""
        self.chunks += 1
        self.chunk_tasks += tasks
        self._note_slots()

    def on_wait(self, seconds: float, disk_s: float = 0.0) -> None:
        """A slot had nothing to execute for so long until an order was there; of that, the disk is to blame for some.

        While many results wait for the disk, orders are held back.
        """
        self._disk_s += disk_s
        self._note_slots()
        if seconds > disk_s:
            self._waits += 1
            self._waited_s += seconds - disk_s

    def on_committed(self, written: Mapping[str, Sequence[Row]]) -> None:
        """These rows are on disk, by their tables."""
        if written["attempts"]:
            self._attempts.extend(written["attempts"])
        if written["outcomes"]:
            self._outcomes.extend(written["outcomes"])

    def view(self, commits: int, commit_s: float) -> Activity:
        """The activity now, given the number of commits so far and the seconds that they took."""
        now = self._clock()
        self._count_failures()
        table, queue_s, completed = KindTable(), 0.0, Counter[str]()
        for kind in self._engine.view_kinds(now):
            table.add(self._domains[kind.lane], kind.name, kind.counts, kind.task_s)
            queue_s = max(queue_s, kind.waits_s)
            completed[self._domains[kind.lane]] += kind.counts[State.COMPLETED] - kind.settled
        for domain, tasks in completed.items():  # each of these tasks had one attempt that completed
            self.attempts[domain, "completed", ""] = tasks
        slots = self._view_slots(now)
        load = self._measure(now, commits, commit_s, queue_s)
        self.commits, self.commit_s = commits, commit_s
        kinds, more_kinds = table.kinds()
        return Activity(
            domains=table.domains(),
            kinds=kinds,
            more_kinds=more_kinds,
            slots=tuple(slots),
            more_slots=self._engine.leases - len(slots),
            failures=self._failures.rows(),
            load=load,
        )

    def _view_slots(self, now: float) -> list[SlotActivity]:
        leases = sorted(self._engine.view_leases(now, MOST_SLOTS), key=lambda lease: -lease.busy_s)
        found = []
        for lease in leases:
            place = self._find_place(lease.lease)
            host, process = (place.host, place.process) if place is not None else ("", 0)
            domain = self._domains[lease.lane]
            row = (lease.lease, host, process, lease.width, domain, lease.kind, lease.tasks, lease.busy_s)
            found.append(SlotActivity(*row))
        return found

    def _measure(self, now: float, commits: int, commit_s: float, queue_s: float) -> ManagerLoad:
        """The load since the last beat; this runs in the thread of the event loop."""
        (chunks, tasks), self._chunks_before = self._chunks_before, (self.chunks, self.chunk_tasks)
        busy_s, passed_s = self._busy_clock(), max(now - self._looked_at, 1e-3)
        share = min(1.0, (busy_s - self._busy_s) / passed_s)
        self._looked_at, self._busy_s = now, busy_s
        waits, waited_s, self._waits, self._waited_s = self._waits, self._waited_s, 0, 0.0
        disk_s, self._disk_s = self._disk_s, 0.0
        self._note_slots()
        slots_s, self._slots = max(self._slots, 1) * max(passed_s, LEAST_LOOK_S), 0
        return ManagerLoad(
            share,
            (commit_s - self.commit_s) / (commits - self.commits) if commits > self.commits else None,
            (self.chunk_tasks - tasks) / (self.chunks - chunks) if self.chunks > chunks else None,
            queue_s,
            min(1.0, waited_s / slots_s),
            waited_s / waits if waits else 0.0,
            min(1.0, disk_s / slots_s),
        )

    def _note_slots(self) -> None:
        self._slots = max(self._slots, self._engine.slots_in_use)

    def _count_failures(self) -> None:
        attempts, self._attempts = self._attempts, []
        outcomes, self._outcomes = self._outcomes, []
        self._failures.refresh()
        for number, state, _, reason, message, _ in outcomes:
            if state == State.FAILED:
                self._failures.add(self._domain_of(number), reason, message, is_final=True)
        for number, _, outcome, _, _, _, _, reason, message in attempts:
            self.attempts[self._domain_of(number), OUTCOMES[outcome], reason or ""] += 1
            if message is not None and outcome != ATTEMPT_SUPERSEDED:
                self._failures.add(self._domain_of(number), reason, message, is_final=False)

    def _domain_of(self, number: int) -> str:
        return self._domains[self._engine.queue.kinds[self._engine.kind_of[number]].lane]
