"""The trace of a run, as Trace Event JSON: https://ui.perfetto.dev opens it, and so does chrome://tracing.

Format: "Trace Event Format", https://chromium.googlesource.com/catapult. Times are whole microseconds from the first
event. Each node is a process of the trace, and each of its slots a thread: slices of one thread must not overlap. The
run itself is another process, with the openings and cancellations, and the number of tasks that run. Perfetto takes
process 0 and thread 0 for the idle one, so numbers begin at 1.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from dfz_ray.journal.executions import Executed, Slot, assign_slots, read_executed
from dfz_ray.journal.reader import JournalReader
from dfz_ray.journal.schema import ATTEMPT_FAILED, ATTEMPT_LOST, ATTEMPT_SUPERSEDED

_NAMES = {ATTEMPT_FAILED: "failed", ATTEMPT_LOST: "lost", ATTEMPT_SUPERSEDED: "superseded"}
_RUN, _EVENTS = 1, 1
"""Process and thread of what concerns the whole run."""

Event = dict[str, Any]


class _Attempt(NamedTuple):
    """An attempt that did not complete its task."""

    number: int
    outcome: int
    began_at: float | None
    ended_at: float | None
    cpu_s: float | None
    reason: str | None
    epoch: int
    lease: int
    chunk: int
    committed_at: float

    @property
    def label(self) -> str:
        return f"{_NAMES[self.outcome]}: {self.reason}" if self.reason else _NAMES[self.outcome]


class _Clock(NamedTuple):
    """Turns Unix seconds into the microseconds of the trace."""

    zero: float

    def us(self, at: float) -> int:
        return max(0, round(1e6 * (at - self.zero)))


def trace_events(folder: Path) -> Iterator[Event]:
    """The events of a run.

    A slice for each execution whose times are known, completed or not; an instant for each other attempt, when the
    manager heard of it; instants for openings and cancellations; and the number of tasks that run.
    """
    executed = read_executed(folder)
    with JournalReader(folder) as journal:
        names = journal.names()
        attempts = [_Attempt(*row) for row in journal.query("unsuccessful_attempts")]
        openings = [(opened_at, epoch) for epoch, opened_at, _ in journal.query("read_epoch_times")]
        cancels = list(journal.query("read_cancels"))
        leases = {(epoch, lease): (node, worker) for epoch, lease, node, worker in journal.query("read_leases")}
        run_name = journal.meta.get("name") or folder.name
    timed = {(one.number, one.chunk): one for one in attempts if one.began_at is not None and one.ended_at is not None}
    executed += [
        Executed(one.number, (one.epoch, one.lease), one.began_at or 0.0, one.ended_at or 0.0, one.cpu_s or 0.0, chunk)
        for (_, chunk), one in timed.items()
    ]
    executed.sort(key=lambda one: one.began_at)
    untimed = [one for one in attempts if (one.number, one.chunk) not in timed]
    instants = [
        *((at, "the run was opened" if epoch == 1 else "the run was opened again", {"epoch": epoch}, "run")
          for at, epoch in openings),
        *((at, f"cancelled: {scope}", {"tasks": tasks}, "run") for at, scope, tasks in cancels),
        *((one.committed_at, one.label, {"task": names[one.number][0]}, names[one.number][1]) for one in untimed),
    ]  # fmt: skip
    begins = [*[one.began_at for one in executed[:1]], *[at for at, *_ in instants]]
    if not begins:
        return
    clock = _Clock(min(begins))
    yield {"ph": "M", "pid": _RUN, "name": "process_name", "args": {"name": f"run {run_name}"}}
    yield {"ph": "M", "pid": _RUN, "tid": _EVENTS, "name": "thread_name", "args": {"name": "events"}}
    for at, name, facts, category in sorted(instants, key=lambda instant: instant[:2]):
        where = {"pid": _RUN, "tid": _EVENTS, "ts": clock.us(at)}
        yield {"ph": "i", "s": "p", **where, "name": name, "cat": category, "args": facts}
    yield from _count_running(executed, clock)
    nodes: dict[str, list[Executed]] = defaultdict(list)
    for one in executed:
        nodes[leases.get(one.lease, ("unknown node", 0))[0]].append(one)
    track = _EVENTS
    for process, node in enumerate(sorted(nodes), _RUN + 1):
        yield {"ph": "M", "pid": process, "name": "process_name", "args": {"name": node}}
        yield {"ph": "M", "pid": process, "name": "process_sort_index", "args": {"sort_index": process}}
        for position, slot in enumerate(assign_slots(nodes[node], len(executed))):
            track += 1
            where = {"pid": process, "tid": track}
            yield {"ph": "M", **where, "name": "thread_name", "args": {"name": f"slot {position}"}}
            yield {"ph": "M", **where, "name": "thread_sort_index", "args": {"sort_index": track}}
            yield from _slices(slot, where, clock, names, leases, timed)


def _slices(
    slot: Slot,
    where: Mapping[str, int],
    clock: _Clock,
    names: Sequence[tuple[str, str, str]],
    leases: Mapping[tuple[int, int], tuple[str, int]],
    unsuccessful: Mapping[tuple[int, int], _Attempt],
) -> Iterator[Event]:
    """The executions of a slot. Where clocks disagree a slice begins at the end of the one before it."""
    free_us = 0
    for one in slot.executed:
        task_id, domain, kind = names[one.number]
        began_us = max(free_us, clock.us(one.began_at))
        free_us = max(began_us, clock.us(one.ended_at))
        facts: dict[str, Any] = {"task": task_id, "lease": one.lease[1], "chunk": one.chunk, "cpu_s": one.cpu_s}
        if one.lease in leases:
            facts["worker"] = leases[one.lease][1]
        event = {"ph": "X", **where, "ts": began_us, "dur": free_us - began_us, "name": kind, "cat": domain}
        attempt = unsuccessful.get((one.number, -1 if one.chunk is None else one.chunk))
        if attempt is not None:
            facts["outcome"] = attempt.label
            event |= {"name": f"{kind} ({attempt.label})", "cname": "terrible"}
        yield {**event, "args": facts}


def _count_running(executed: Sequence[Executed], clock: _Clock) -> Iterator[Event]:
    """A counter that changes with each beginning and end; at equal times ends come first."""
    ends = sorted((clock.us(one.ended_at), -1) for one in executed)
    begins = sorted((clock.us(one.began_at), 1) for one in executed)
    running = 0
    for at_us, step in heapq.merge(ends, begins):
        running += step
        yield {"ph": "C", "pid": _RUN, "ts": at_us, "name": "tasks running", "args": {"tasks": max(0, running)}}
