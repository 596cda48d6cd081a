"""The measurement of one trial, and the file to which a study appends each of them."""

from __future__ import annotations

import dataclasses
import json
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from dfz_ray.errors import InvalidInput, Problem

Kind = Literal["baseline", "point"]
Mode = Literal["processes", "threads"]

CLOCK_RESOLUTION_S = 1e-9


@dataclasses.dataclass(frozen=True, kw_only=True)
class Measurement:
    """One trial: the whole batch, run once.

    A trial that failed has a measurement too: it carries its `error`, and its wall time ends with the failure. What
    could not be measured is None.

    Raises:
        ValueError: values that no trial can have.
    """

    # A file of measurements is read as strictly as a batch file: no unknown keys, no texts for numbers.
    __pydantic_config__ = {"extra": "forbid", "strict": True}  # noqa: RUF012  pydantic wants a plain attribute

    kind: Kind
    """The baseline (the batch in one process, without Ray), or a point (with Ray and so many workers)."""
    workers: int
    """Slots that the trial was given; 0 for the baseline."""
    repeat: int
    """Number of the repeat, from 0, among the trials with the same kind and workers."""
    order: int
    """Place among all trials of the study, which are interleaved at random, from 0."""
    wall_s: float
    """Seconds from the call of `run` until it returns the Results, without the warm-up; of the baseline, those of all
    tasks, one after the other."""
    warm_up_s: float | None
    """Seconds that the workers needed beforehand to start and to import."""
    tasks: int
    completed: int
    failed: int
    cancelled: int
    digest: str | None
    """SHA-256 over the completed results; equal answers have equal digests."""
    avg_concurrency: float | None
    """Tasks that executed at one time, averaged over the wall time."""
    max_concurrency: int | None
    busy_s: float | None
    """Sum of all task durations, in seconds."""
    served: int | None
    """Slots that the cluster could run at once; None for the baseline."""
    started_at: float
    """Unix seconds."""
    mode: Mode | None = None
    """`processes`: each running task had a process; `threads`: several shared one. None for the baseline."""
    load: float | None = None
    """The host's 1-minute load average just before the trial."""
    error: str | None = None
    """Why the trial as a whole failed; None if it came to its end."""
    study: dict[str, Any] | None = None
    """Host, versions, commit, seed and thread settings: trials that differ in them are never put together."""

    def __post_init__(self) -> None:
        if self.kind not in ("baseline", "point"):
            raise ValueError(f"kind: found {self.kind!r}; expected 'baseline' or 'point'")
        if (self.workers == 0) != (self.kind == "baseline"):
            raise ValueError(
                f"workers: found {self.workers} for a {self.kind}; a baseline has 0, a point has 1 or more"
            )
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if isinstance(value, int | float) and not (math.isfinite(value) and value >= 0):
                raise ValueError(f"{field.name}: found {value}; expected a finite number of 0 or more")

    @property
    def timed(self) -> bool:
        """True if the wall time counts: the trial came to its end, in a time that a clock can measure."""
        return self.error is None and self.wall_s >= CLOCK_RESOLUTION_S

    def to_json(self) -> str:
        """The trial as one line of JSON, without the line's end."""
        return json.dumps(dataclasses.asdict(self), allow_nan=False)

    @classmethod
    def from_json(cls, line: str, source: str = "measurement") -> Measurement:
        """Read one line that `to_json` wrote.

        Args:
            line: the JSON text.
            source: what to call it in a message, e.g. a path with a line number.

        Raises:
            InvalidInput: the line is no trial; all problems at once.
        """
        from pydantic import TypeAdapter, ValidationError

        try:
            return TypeAdapter(cls).validate_json(line)
        except ValidationError as error:
            problems = [
                Problem(
                    where=".".join(map(str, problem["loc"])) or "line",
                    found=repr(problem["input"])[:80],
                    expected=problem["msg"],
                )
                for problem in error.errors(include_url=False)
            ]
            raise InvalidInput(problems, source) from None


def append_measurement(path: Path, measurement: Measurement) -> None:
    """Add one trial to the file and wait until it is on disk, so that a study cut short keeps what it measured."""
    with path.open("a", encoding="utf-8") as file:
        file.write(measurement.to_json() + "\n")
        file.flush()
        os.fsync(file.fileno())


def read_measurements(path: Path) -> list[Measurement]:
    """Read all trials of a file, in the order in which they ended.

    A last line that was cut off while it was written is left out; damage anywhere else is not passed over.

    Raises:
        InvalidInput: a line is no trial.
    """
    return list(_parse(path.read_text(encoding="utf-8", errors="replace"), str(path)))


def _parse(text: str, source: str) -> Iterator[Measurement]:
    *lines, torn = text.split("\n")
    del torn  # empty, unless the writer was killed in the middle of a line
    for number, line in enumerate(lines, start=1):
        if line.strip():
            yield Measurement.from_json(line, f"{source}, line {number}")
