"""The losses of a real run, whose tasks wait for known times, and whose manager is stopped for known times."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
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


def losses_of(
    folder: Path, naps_ms: list[int], useful_s: float, stopped_s: tuple[float, float] = (0.0, 0.0)
) -> tuple[dict[str, float], float]:
    """The losses of a run, and the time of all slots; the workers are warm. The manager is stopped between two times
    from the call."""
    tasks = [{"domain": "planted_nap", "seed": number, "parameters": {"ms": ms}} for number, ms in enumerate(naps_ms)]
    first = [{**task, "parameters": {"ms": 500}} for task in tasks[:WORKERS]]
    dfz_ray.run(first, max_workers=WORKERS, run_dir=folder / "warm-up", progress=False)
    with manager_stopped(*stopped_s):
        called_at, begun = time.time(), time.perf_counter()
        dfz_ray.run(tasks, max_workers=WORKERS, run_dir=folder / "run", progress=False)
        wall_s = time.perf_counter() - begun
    split = split_time(read_executed(folder / "run"), called_at, called_at + wall_s, WORKERS)
    return split_losses(split, useful_s), WORKERS * wall_s


@contextlib.contextmanager
def manager_stopped(from_s: float, until_s: float) -> Iterator[None]:
    """Stop this process's manager between two times from now."""
    (manager,) = [child for child in psutil.Process().children(recursive=True) if "TaskManager" in child.name()]
    timers = [
        threading.Timer(after_s, manager.send_signal, [number])
        for after_s, number in ((from_s, signal.SIGSTOP), (until_s, signal.SIGCONT))
        if until_s > from_s
    ]
    for timer in timers:
        timer.start()
    try:
        yield
    finally:
        for timer in timers:
            timer.join()


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


@pytest.mark.long
@pytest.mark.parametrize(
    ("name", "naps_ms", "stopped_s", "planted_s"),
    [
        pytest.param("ramp_up", [4_000] * 2, (0.0, 3.0), 2 * 3.0, id="ramp-up: the manager places no lease"),
        pytest.param("dispatch", [3_000] * 4, (1.5, 6.0), 2 * 3.0, id="dispatch: the manager hands out no task"),
        pytest.param("drain", [4_000] * 2, (2.0, 7.0), 2 * 3.0, id="drain: the manager takes in no result"),
    ],
)
def test_time_that_slots_wait_for_the_manager_is_where_it_was_lost(
    name: str, naps_ms: list[int], stopped_s: tuple[float, float], planted_s: float, cluster: None, tmp_path: Path
) -> None:
    """Before the first task, between two and after the last one: it is found within 5 % of the total."""
    losses, total_s = losses_of(tmp_path, naps_ms, sum(naps_ms) / 1000, stopped_s)
    assert sum(losses.values()) == pytest.approx(total_s)
    assert losses[name] == pytest.approx(planted_s, abs=0.05 * total_s)
    assert find_largest(losses) == name
