"""The time of a run's slots by the names of the benchmarks: as `dfz_ray.scaling.losses`, with CPU time told apart."""

from __future__ import annotations

from collections.abc import Sequence

from dfz_ray.journal.executions import Executed
from dfz_ray.scaling.losses import split_time

LOSSES = ("useful", "encoding", "no core", "dispatch", "imbalance", "ramp-up", "drain", "other")
"""`journal` comes to them where a run is compared with one that did not wait for the disk."""


def split_losses(
    executed: Sequence[Executed], called_at: float, returned_at: float, workers: int, useful_s: float
) -> dict[str, float]:
    """Split the time of all slots; the arguments are those of `split_time`, and the core time of the tasks' own work.

    Returns:
        Core-seconds by the names of LOSSES; they add up to workers x makespan. The others are those of `split_time`:
        encoding: what workers do for a task besides its own work: decoding, checking, encoding, digest, times. It is
            the difference between the CPU time of workers and `useful`, so it also has what Ray's threads in the
            workers used meanwhile, and any error of the calibration.
        no core: the task was begun and waited for a core.
        other: for what the caller finds besides.
    """
    split, cpu_s = split_time(executed, called_at, returned_at, workers), sum(one.cpu_s for one in executed)
    return {
        "useful": useful_s,
        "encoding": split["handling"] + cpu_s - useful_s,
        "no core": split["in_tasks"] - cpu_s,
        "dispatch": split["dispatch"],
        "imbalance": split["imbalance"],
        "ramp-up": split["ramp_up"],
        "drain": split["drain"],
        "other": 0.0,
    }
