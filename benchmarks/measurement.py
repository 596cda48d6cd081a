"""One measurement: a batch in a session, between two calibrations."""

from __future__ import annotations

import dataclasses
import json
import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from calibration import Calibrators, useful_seconds
from session import Failed, Session, Timed
from workloads import Batch, lower_bound

from dfz_ray.scaling.estimate import estimate_median
from dfz_ray.scaling.host import host_facts

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Measurement:
    """One batch, measured once; a failure has an error, and no makespan."""

    peer: str
    workers: int
    batch: str
    grain_s: float | None
    """Of an even batch."""
    repeat: int
    tasks: int
    iterations: int
    """Of all tasks."""
    bound_iterations: float
    """So many steps one after the other no schedule avoids."""
    step_before_s: float
    step_after_s: float
    makespan_s: float | None
    error: str | None = None

    @property
    def useful_s(self) -> float:
        """Core time of the tasks' own work."""
        return useful_seconds(self.iterations, self.step_before_s, self.step_after_s)

    @property
    def efficiency(self) -> float:
        """Useful core time over workers x makespan."""
        return self.useful_s / (self.workers * self._makespan_s)

    @property
    def over_bound(self) -> float:
        """Makespan over the lower bound of any schedule."""
        bound_s = useful_seconds(1, self.step_before_s, self.step_after_s) * self.bound_iterations
        return self._makespan_s / bound_s

    @property
    def tasks_per_s(self) -> float:
        """Results in hand per second."""
        return self.tasks / self._makespan_s

    @property
    def _makespan_s(self) -> float:
        if self.makespan_s is None:
            raise ValueError(f"{self.peer}, {self.batch}: {self.error}")
        return self.makespan_s


def measure(
    session: Session,
    calibrators: Calibrators,
    batch: Batch,
    peer: str,
    workers: int,
    repeat: int = 0,
    durable: bool = True,
) -> tuple[Measurement, Timed | None]:
    """Run a batch once; its lengths are turned into steps by a calibration just before."""
    before_s = calibrators.measure()
    iterations = batch.iterations(before_s)
    timed = session.time(iterations, batch.kinds, durable)
    after_s = calibrators.measure()
    makespan_s, error = (None, timed.error) if isinstance(timed, Failed) else (timed.makespan_s, None)
    grain_s = batch.lengths_s[0] if batch.name.startswith("even") else None
    measurement = Measurement(
        peer,
        workers,
        batch.name,
        grain_s,
        repeat,
        len(iterations),
        sum(iterations),
        lower_bound(iterations, workers),
        before_s,
        after_s,
        makespan_s,
        error,
    )
    return measurement, None if isinstance(timed, Failed) else timed


def failure(peer: str, workers: int, repeat: int, error: str) -> Measurement:
    """A contestant that could not be opened."""
    return Measurement(peer, workers, "none: it could not be opened", None, repeat, 0, 0, 0, 0, 0, None, error)


def describe_host(packages: Iterable[str]) -> dict[str, Any]:
    """The facts without which the numbers mean nothing.

    Args:
        packages: packages whose versions are added to those of every study.
    """
    facts = host_facts()
    versions = {package: _version(package) for package in packages}
    return {**facts, "versions": facts["versions"] | versions}


def estimated(values: list[float]) -> dict[str, Any]:
    """The median of repeats with its 95 % interval (from six repeats on), as it goes into a JSON file."""
    estimate = estimate_median(values)
    return {"value": estimate.value, "ci95": estimate.ci95, "repeats": len(values)}


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a result file: what it holds, when, where and by which command it was made."""
    whole = {"schema_version": SCHEMA_VERSION, "command": sys.argv, "written_at": time.time(), **content}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(whole, indent=1, default=_plain, allow_nan=False) + "\n")


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"{value!r} has no JSON form")


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
