"""The losses of a real run, whose tasks wait for known times."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

import dfz_ray
from dfz_ray import domain
from dfz_ray.journal.executions import read_executed
from dfz_ray.scaling.losses import find_largest, split_losses, split_time

WORKERS, SHORT_MS, LONG_MS = 2, 500, 6000


@domain("planted_nap", cpus=1)
def nap(ms: int = 1, *, seed: int) -> dict[str, int]:
    """Wait."""
    time.sleep(ms / 1000)  # the work that the test plants
    return {"ms": ms}


def losses_of(folder: Path, naps_ms: list[int], useful_s: float) -> tuple[dict[str, float], float]:
    """The losses of a run of these tasks, and the time of all slots; the workers are warm."""
    tasks = [{"domain": "planted_nap", "seed": number, "parameters": {"ms": ms}} for number, ms in enumerate(naps_ms)]
    dfz_ray.run(tasks[: 2 * WORKERS], max_workers=WORKERS, run_dir=folder / "warm-up", progress=False)
    called_at, begun = time.time(), time.perf_counter()
    dfz_ray.run(tasks, max_workers=WORKERS, run_dir=folder / "run", progress=False)
    wall_s = time.perf_counter() - begun
    split = split_time(read_executed(folder / "run"), called_at, called_at + wall_s, WORKERS)
    return split_losses(split, useful_s), WORKERS * wall_s


@pytest.mark.long
def test_a_long_last_task_is_imbalance(cluster: None, tmp_path: Path) -> None:
    """Where one long task comes last, the other slot's wait is found within 5 % of the total."""
    naps_ms = [SHORT_MS] * 12 + [LONG_MS]
    losses, total_s = losses_of(tmp_path, naps_ms, sum(naps_ms) / 1000)
    assert sum(losses.values()) == pytest.approx(total_s)
    assert losses["imbalance"] == pytest.approx(LONG_MS / 1000, abs=0.05 * total_s)
    assert losses["slower_work"] == pytest.approx(0, abs=0.05 * total_s)
    assert find_largest(losses) == "imbalance"


@pytest.mark.long
def test_tasks_that_take_longer_than_alone_are_slower_work(cluster: None, tmp_path: Path) -> None:
    """Where tasks take half as long again as in the sequential program, that half is found within 5 % of the total."""
    naps_ms = [SHORT_MS] * 24
    useful_s = sum(naps_ms) / 1000 / 1.5
    losses, total_s = losses_of(tmp_path, naps_ms, useful_s)
    assert losses["slower_work"] == pytest.approx(useful_s / 2, abs=0.05 * total_s)
    assert losses["imbalance"] == pytest.approx(0, abs=0.05 * total_s)
    assert find_largest(losses) == "slower_work"
