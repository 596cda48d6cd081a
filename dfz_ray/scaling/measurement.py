"""The measurement of one trial, and the file to which a study appends each of them."""

from __future__ import annotations

import dataclasses
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from types import UnionType
from typing import Any, Literal

Kind = Literal["baseline", "point"]
Mode = Literal["processes", "threads"]
Scaling = Literal["strong", "weak"]
"""Strong: every number of workers gets the same batch; weak: the batch grows with the workers."""

CLOCK_RESOLUTION_S = 1e-9
TYPES: Mapping[str, tuple[type | UnionType, str]] = {
    "Kind": (str, "a text"),
    "Mode": (str, "a text"),
    "str": (str, "a text"),
    "int": (int, "a whole number"),
    "float": (int | float, "a number"),
    "dict": (dict, "names with values"),
    "list": (list, "a list"),
}
"""The types of values, and their names, by the names that the fields of a trial have for them."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Measurement:
    """One trial: the whole batch, run once. Raises ValueError for values that no trial can have.

    A trial that failed has a measurement, too: with its `error`, and the wall time until the failure. Values that were
    not measured are None.
    """

    kind: Kind
    """The baseline (the batch in one process, without Ray), or a point (with Ray and workers)."""
    workers: int
    """Slots that the trial was given; 0 for the baseline."""
    repeat: int
    """Number of the repeat, from 0, among the trials with the same kind and workers."""
    order: int
    """Place among all trials of the study, which are interleaved at random, from 0."""
    wall_s: float
    """Seconds from the call of `run` until it returns the Results, without the warm-up; of the baseline, those of all
    tasks, one after the other."""
    warm_up_s: float | None = None
    """Seconds that the workers took to start and to import, before the trial."""
    tasks: int
    completed: int = 0
    failed: int = 0
    cancelled: int = 0
    digest: str | None = None
    """SHA-256 over the completed results; equal answers have equal digests."""
    avg_concurrency: float | None = None
    """Tasks that executed at one time, averaged over the wall time."""
    max_concurrency: int | None = None
    busy_s: float | None = None
    """Sum of all task durations, in seconds, completed or failed: of each task that of the attempt that counts."""
    cpu_s: float | None = None
    """CPU seconds of the same attempts."""
    queued_s: float | None = None
    """Seconds of `busy_s` in which tasks waited for a free core; None for a point."""
    split: dict[str, float] | None = None
    """The time of all slots, split by `losses.split_time`; None for the baseline."""
    busiest_s: float | None = None
    """Seconds in which the busiest slot executed attempts; None for the baseline, and in trials of before."""
    domains: dict[str, dict[str, float]] | None = None
    """By domain the run time of its tasks (`busy_s`), their CPU time (`cpu_s`) and that which they declare."""
    thread_settings: list[str] | None = None
    """The settings that cap thread pools which the baseline's process has loaded; None for a point."""
    profile: dict[str, Any] | None = None
    """The times that predictions rest on (`trial_profile.profile_trial`); None for the baseline."""
    workers_lost: int | None = None
    """The workers that died during the trial; None for the baseline."""
    timeline: dict[str, Any] | None = None
    """Which slot executed what kind of task when, as `timeline.make_timeline` describes it."""
    served: int | None = None
    """Slots that the cluster could run at once; None for the baseline."""
    started_at: float
    """Unix seconds."""
    mode: Mode | None = None
    """`processes`: each running task had a process; `threads`: several shared one. None for the baseline."""
    load: float | None = None
    """The host's 1-minute load average just before the trial."""
    error: str | None = None
    """The reason why the trial as a whole failed; None if it came to its end."""
    study: dict[str, Any] | None = None
    """Host, versions, commit, seed and thread settings: trials that differ in them are never put together."""

    def __post_init__(self) -> None:
        if self.kind not in ("baseline", "point"):
            raise ValueError(f"kind: found {self.kind!r}; expected 'baseline' or 'point'")
        if self.mode not in ("processes", "threads", None):
            raise ValueError(f"mode: found {self.mode!r}; expected 'processes' or 'threads'")
        if (self.workers == 0) != (self.kind == "baseline"):
            raise ValueError(
                f"workers: found {self.workers} for a {self.kind}; a baseline has 0, a point has 1 or more"
            )
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            _check_type(field.name, str(field.type), value)
            if isinstance(value, int | float) and not (math.isfinite(value) and value >= 0):
                raise ValueError(f"{field.name}: found {value}; expected a finite number of 0 or more")
        if self.completed > self.tasks:
            raise ValueError(f"completed: found {self.completed} of {self.tasks} tasks; expected no more than all")

    @property
    def timed(self) -> bool:
        """True if the wall time counts: the trial came to its end, in a time that a clock can measure."""
        return self.error is None and self.wall_s >= CLOCK_RESOLUTION_S

    def to_json(self) -> str:
        """The trial as one line of JSON, without the line's end."""
        return json.dumps(dataclasses.asdict(self), allow_nan=False)


def _check_type(name: str, declared: str, value: object) -> None:
    """Raise ValueError if a value is of another type than its field: somebody may have edited the file of trials."""
    word = declared.removesuffix(" | None").partition("[")[0]
    expected, noun = TYPES[word]
    if value is None and declared.endswith("| None"):
        return
    if isinstance(value, bool) or not isinstance(value, expected):
        raise ValueError(f"{name}: found {value!r}; expected {noun}")


def append_measurement(path: Path, measurement: Measurement) -> None:
    """Add one trial to the file and wait until it is on disk, so that a study cut short keeps what it measured."""
    with path.open("a", encoding="utf-8") as file:
        file.write(measurement.to_json() + "\n")
        file.flush()
        os.fsync(file.fileno())
