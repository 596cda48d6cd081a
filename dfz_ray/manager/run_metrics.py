"""The metrics of a run, which Ray exports to Prometheus under these names with `ray_` before them.

They are set once a second, with the status. Series vanish with the manager, and Ray exports every ten seconds: of a
shorter run nothing may be seen. Ray never drops a series while the manager lives, so their number is limited.
"""

from __future__ import annotations

import functools
import logging
import time
from dataclasses import dataclass
from typing import Any

from dfz_ray.journal.run_status import RunStatus
from dfz_ray.manager.run_watch import RunWatch
from dfz_ray.specs.states import FINAL, State

logger = logging.getLogger("dfz_ray")

MOST_RUNS = 50
"""A manager exports the metrics of its first runs only, as many as this."""
NAME_CHARACTERS = 40


@dataclass(frozen=True)
class _Series:
    """The metrics of all runs of this process: each is made once."""

    tasks: Any
    attempts: Any
    slots: Any
    slots_busy: Any
    queue_age: Any
    idle: Any
    chunks: Any
    chunk_tasks: Any
    commits: Any
    commit_seconds: Any
    manager_busy: Any


@functools.cache
def _make_series() -> _Series:
    from ray.util.metrics import Counter as Total
    from ray.util.metrics import Gauge

    by_domain = ("run", "domain")
    return _Series(
        Gauge("dfz_tasks", "Tasks by domain and state.", (*by_domain, "state")),
        Total(
            "dfz_attempts",
            "Attempts that ended, by domain, outcome (completed, failed, lost, superseded) and reason.",
            (*by_domain, "outcome", "reason"),
        ),
        Gauge("dfz_slots", "Tasks that may execute at once.", ("run",)),
        Gauge("dfz_slots_busy", "Slots that leases use.", ("run",)),
        Gauge("dfz_queue_age_seconds", "Seconds for which the oldest waiting task has waited.", ("run",)),
        Gauge("dfz_idle_seconds", "Seconds since an attempt ended, while tasks are open; else 0.", ("run",)),
        Total("dfz_chunks", "Chunks of tasks that were handed out.", ("run",)),
        Total("dfz_chunk_tasks", "Tasks in these chunks.", ("run",)),
        Total("dfz_commits", "Commits to the journal by this manager.", ("run",)),
        Total("dfz_commit_seconds", "Seconds that these commits took.", ("run",)),
        Gauge("dfz_manager_busy_ratio", "Share of the time for which the manager's event loop is busy.", ("run",)),
    )


_runs: set[str] = set()


class RunMetrics:
    """Exports the metrics of one run; in the label `run` are its name and the beginning of its id."""

    def __init__(self, name: str, run_id: str, watch: RunWatch) -> None:
        text = "".join(one if one.isprintable() else "?" for one in name)[:NAME_CHARACTERS]
        self._run = {"run": f"{text or 'run'} {run_id[:8]}"}
        self._watch = watch
        self._totals: dict[Any, float] = {}
        """The exported value of each counter."""
        self._progress, self._progress_at = -1, time.monotonic()

    def publish(self, status: RunStatus) -> None:
        """Export a status. A failure in Ray's metrics must not end a run."""
        if not self._is_admitted():
            return
        try:
            self._publish(status)
        except Exception:
            logger.debug("metrics can't be exported", exc_info=True)

    def _is_admitted(self) -> bool:
        if len(_runs) < MOST_RUNS:
            _runs.add(self._run["run"])
        return self._run["run"] in _runs

    def _publish(self, status: RunStatus) -> None:
        series, activity = _make_series(), status.activity
        if activity is None or activity.load is None:
            return
        for row in activity.domains:
            for state, count in row.counts.items():
                series.tasks.set(count, {**self._run, "domain": row.domain, "state": state})
        watch = self._watch
        for (domain, outcome, reason), count in watch.attempts.items():
            self._raise(series.attempts, count, {"domain": domain, "outcome": outcome, "reason": reason})
        series.slots.set(status.slots, self._run)
        series.slots_busy.set(status.leases if status.working else 0, self._run)
        series.queue_age.set(activity.load.queue_s, self._run)
        series.idle.set(self._measure_idle(status), self._run)
        series.manager_busy.set(activity.load.busy_share, self._run)
        self._raise(series.chunks, watch.chunks)
        self._raise(series.chunk_tasks, watch.chunk_tasks)
        self._raise(series.commits, watch.commits)
        self._raise(series.commit_seconds, watch.commit_s)

    def _measure_idle(self, status: RunStatus) -> float:
        """Seconds since an attempt ended, while a process works on open tasks."""
        now = time.monotonic()
        ended = sum(status.counts[state.label] for state in FINAL) + self._watch.attempts.total()
        is_open = status.counts[State.PENDING.label] + status.counts[State.RUNNING.label]
        if ended != self._progress or not is_open or not status.working:
            self._progress, self._progress_at = ended, now
        return now - self._progress_at

    def _raise(self, counter: Any, value: float, tags: dict[str, str] | None = None) -> None:
        """Raise a counter to a value."""
        key = (id(counter), *(tags or {}).values())
        more = value - self._totals.get(key, 0.0)
        if more > 0:
            counter.inc(more, {**self._run, **(tags or {})})
            self._totals[key] = value
