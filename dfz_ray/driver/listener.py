"""Hears what becomes of the tasks of a run."""

from __future__ import annotations

from dfz_ray.journal.reader import JournalReader
from dfz_ray.protocol.columns import Completions
from dfz_ray.protocol.task_events import FailedTask, TaskEvents
from dfz_ray.specs.states import STATES


def read_news(journal: JournalReader) -> TaskEvents:
    """What a journal says of all tasks, as news."""
    rows = journal.rows()
    ran = {one.task: (one.began_at, one.ended_at, rows.nodes.get(one.chunk)) for one in rows.attempts}
    failures = [
        FailedTask(number, reason, message, traceback, None, *ran.get(number, (None, None, None)))
        for number, state, reason, message, traceback in rows.others
        if STATES[state] == "failed"
    ]
    completions = [
        Completions(chunk.tasks, chunk.times, rows.results(chunk.chunk), chunk.digests) for chunk in rows.completions
    ]
    nodes = [rows.nodes.get(chunk.chunk) for chunk in rows.completions]
    cancelled = [number for number, state, *_ in rows.others if STATES[state] == "cancelled"]
    unsuccessful = [one.task for one in rows.attempts]
    counts = list(journal.counts().values())
    return TaskEvents(counts, (), completions, nodes, failures, cancelled, unsuccessful, is_whole=True)
