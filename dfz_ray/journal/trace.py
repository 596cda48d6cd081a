"""The trace of a run, as Trace Event JSON: https://ui.perfetto.dev opens it, and so does chrome://tracing.

Format: "Trace Event Format", https://chromium.googlesource.com/catapult. Times are microseconds from the first event.
Slices of one track must nest, so each slot has a track.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dfz_ray.journal.executions import assign_slots, read_executed
from dfz_ray.journal.reader import JournalReader
from dfz_ray.journal.schema import ATTEMPT_FAILED, ATTEMPT_LOST, ATTEMPT_SUPERSEDED

_NAMES = {ATTEMPT_FAILED: "failed", ATTEMPT_LOST: "lost", ATTEMPT_SUPERSEDED: "superseded"}


def trace_events(folder: Path) -> Iterator[dict[str, Any]]:
    """The events of a run: a slice for each completed task, an instant for each other attempt, and the slots in use."""
    executed = read_executed(folder)
    with JournalReader(folder) as journal:
        names = journal.names()
        attempts = list(journal.query("ended_attempts"))
    begins = [*[one.began_at for one in executed[:1]], *[at for _, _, at, _ in attempts[:1]]]
    if not begins:
        return
    zero = min(begins)
    yield {"ph": "M", "pid": 1, "name": "process_name", "args": {"name": str(folder)}}
    for track, slot in enumerate(assign_slots(executed, len(executed))):
        yield {"ph": "M", "pid": 1, "tid": track + 1, "name": "thread_name", "args": {"name": f"slot {track}"}}
        yield {"ph": "M", "pid": 1, "tid": track + 1, "name": "thread_sort_index", "args": {"sort_index": track}}
        for one in slot.executed:
            task_id, domain, kind = names[one.number]
            yield {
                "ph": "X",
                "pid": 1,
                "tid": track + 1,
                "ts": round(1e6 * (one.began_at - zero)),
                "dur": round(1e6 * (one.ended_at - one.began_at)),
                "name": kind,
                "cat": domain,
                "args": {"task": task_id, "lease": one.lease[1], "cpu_s": one.cpu_s},
            }
    for number, outcome, ended_at, reason in attempts:
        task_id, domain, _ = names[number]
        yield {
            "ph": "i",
            "s": "p",
            "pid": 1,
            "tid": 0,
            "ts": round(1e6 * (ended_at - zero)),
            "name": f"{_NAMES[outcome]}: {reason}" if reason else _NAMES[outcome],
            "cat": domain,
            "args": {"task": task_id},
        }
    steps = heapq.merge([(one.began_at, 1) for one in executed], sorted((one.ended_at, -1) for one in executed))
    running = 0
    for at, step in steps:
        running += step
        yield {"ph": "C", "pid": 1, "ts": round(1e6 * (at - zero)), "name": "tasks running", "args": {"tasks": running}}
