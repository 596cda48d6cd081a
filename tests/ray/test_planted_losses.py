"""The losses of a real run, whose tasks wait for known times."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

import dfz_ray
from dfz_ray import domain
from dfz_ray.journal.executions import read_executed
from dfz_ray.scaling.losses import find_largest, split_losses, split_time

WORKERS = 2


@domain("planted_nap", cpus=1)
def nap(ms: int = 1, *, seed: int) -> dict[str, int]:
    """Wait."""
    time.sleep(ms / 1000)  # the work that the test plants
    return {"ms": ms}


def losses_of(folder: Path, naps_ms: list[int], useful_s: float) -> tuple[dict[str, float], float]:
    """The losses of a run with a task for each worker, and the time of all slots; the workers are warm."""
    tasks = [{"domain": "planted_nap", "seed": number, "parameters": {"ms": ms}} for number, ms in enumerate(naps_ms)]
    first = [{**task, "parameters": {"ms": 500}} for task in tasks]
    dfz_ray.run(first, max_workers=WORKERS, run_dir=folder / "warm-up", progress=False)
    called_at, begun = time.time(), time.perf_counter()
    dfz_ray.run(tasks, max_workers=WORKERS, run_dir=folder / "run", progress=False)
    wall_s = time.perf_counter() - begun
    split = split_time(read_executed(folder / "run"), called_at, called_at + wall_s, WORKERS)
    return split_losses(split, useful_s), WORKERS * wall_s


@pytest.mark.long
def test_an_uneven_pair_is_imbalance(cluster: None, tmp_path: Path) -> None:
    """Where one of two tasks takes 6 s longer, the other slot's wait is found within 5 % of the total."""
    losses, total_s = losses_of(tmp_path, [4_000, 10_000], useful_s=14.0)
    assert sum(losses.values()) == pytest.approx(total_s)
    assert losses["imbalance"] == pytest.approx(6.0, abs=0.05 * total_s)
    assert losses["slower_work"] == pytest.approx(0, abs=0.05 * total_s)
    assert find_largest(losses) == "imbalance"


@pytest.mark.long
def test_tasks_that_take_longer_than_alone_are_slower_work(cluster: None, tmp_path: Path) -> None:
    """Where tasks take half as long again as in the sequential program, that half is found within 5 % of the total."""
    losses, total_s = losses_of(tmp_path, [9_000, 9_000], useful_s=12.0)
    assert sum(losses.values()) == pytest.approx(total_s)
    assert losses["slower_work"] == pytest.approx(6.0, abs=0.05 * total_s)
    assert find_largest(losses) == "slower_work"
