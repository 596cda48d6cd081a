"""Relays on a real Ray: leases talk through them, and find another way when one dies."""

from __future__ import annotations

import hashlib
import os
import signal
import time
from collections.abc import Mapping
from pathlib import Path

import psutil
import pytest
from support.attempt_rows import assert_sound, read_attempts, workers_lost
from support.driver import wait_until

from dfz_ray import DFZExecutor, domain, run
from dfz_ray.results import Results

pytestmark = pytest.mark.usefixtures("cluster")

WORKERS, TASKS = 4, 200
MANY_TASKS = 20_000
"""They report for longer than it takes until a relay is replaced that another test has frozen as it started."""
WORKER_BYTES = 150 * 2**20
"""What a worker process may take of the memory."""
FOUND_S = 300.0
"""Seconds within which a busy machine has started a relay."""


@domain("relayed")
def relayed(number: int = 0, door: str = "", waits: bool = False) -> str:
    """Take a while, less once the door is open, and return what follows from the number; some tasks wait for that."""
    time.sleep(0.02 if Path(door).exists() else 0.002)
    while waits and Path(door).exists():
        time.sleep(0.01)
    return hashlib.sha256(str(number).encode()).hexdigest()


def find_relays() -> list[psutil.Process]:
    """The relays of this process's Ray that are not frozen."""
    found = []
    for process in psutil.Process().children(recursive=True):
        try:
            is_relay = any(word.startswith("ray::Relay") for word in process.cmdline()[:1])
            if is_relay and process.status() != psutil.STATUS_STOPPED:
                found.append(process)
        except psutil.Error:
            continue
    return found


def run_tasks(
    folder: Path,
    door: Path,
    relay_leases: int | None,
    number: int = signal.SIGKILL,
    use_threads: bool = False,
    workers: int = WORKERS,
    waiting: int = WORKERS,
    tasks: int = TASKS,
) -> Results:
    """Run the tasks; the last ones wait at the door. Under load the relays get a signal, and the door opens.

    Whether there is a door is part of the task, and not of its result.
    """

    end = time.monotonic() + FOUND_S + 5 * workers

    def look(counts: Mapping[str, int]) -> None:
        assert not door.exists() or relay_leases is None or time.monotonic() < end, "no relay was found"
        is_loaded = counts["completed"] > WORKERS or counts["running"] >= workers
        relays = find_relays() if door.exists() and is_loaded else []
        for relay in relays:
            relay.send_signal(number)
            door.unlink(missing_ok=True)

    batch = {
        "defaults": {"resources": {"cpus": min(1.0, WORKERS / workers)}},
        "tasks": [relayed.task(number=task, door=str(door), waits=task >= tasks - waiting) for task in range(tasks)],
    }
    config = {"chunking": {"relay_leases": relay_leases, "target_s": 0.04}}
    return run(batch, max_workers=workers, run_dir=folder, config=config, progress=look, use_threads=use_threads)


def test_a_relay_that_is_killed_under_load_costs_nothing(tmp_path: Path, door: Path) -> None:
    """Every task completes in its first attempt, and the digest is that of a run without relays."""
    results = run_tasks(tmp_path / "run", door, relay_leases=2)
    assert not door.exists(), "a relay was killed"
    undisturbed = run_tasks(tmp_path / "undisturbed", door, relay_leases=None)

    assert results.counts["completed"] == TASKS
    assert [record.attempts for record in results] == [1] * TASKS
    assert results.digest == undisturbed.digest
    assert_sound(tmp_path / "run")


@pytest.mark.long
def test_a_hundred_workers_lose_their_relay(tmp_path: Path, door: Path) -> None:
    """As many worker processes as the machine's memory holds: each finds another way, and the digest is undisturbed."""
    workers = min(100, psutil.virtual_memory().available // WORKER_BYTES)
    results = run_tasks(tmp_path / "run", door, relay_leases=2, workers=workers, waiting=TASKS)
    assert not door.exists(), "a relay was killed"
    undisturbed = run_tasks(tmp_path / "undisturbed", door, relay_leases=None)

    assert [record.attempts for record in results] == [1] * TASKS
    assert results.digest == undisturbed.digest
    assert len({row.worker for row in read_attempts(tmp_path / "run")}) >= workers
    assert workers_lost(tmp_path / "run") == 0
    assert_sound(tmp_path / "run")


@pytest.mark.long
@pytest.mark.parametrize("use_threads", [False, True], ids=["processes", "threads"])
@pytest.mark.parametrize("number", [signal.SIGSTOP, signal.SIGKILL], ids=["frozen", "killed"])
def test_leases_find_another_way(number: int, use_threads: bool, tmp_path: Path, door: Path) -> None:
    """Also a relay that is frozen, which answers nothing and does not die, costs no attempt and no worker."""
    relay_leases = 1 if use_threads else 2
    results = run_tasks(tmp_path / "run", door, relay_leases, number, use_threads, tasks=MANY_TASKS)

    assert not door.exists(), "a relay got the signal"
    assert [record.attempts for record in results] == [1] * MANY_TASKS
    assert results.counts["completed"] == MANY_TASKS
    assert workers_lost(tmp_path / "run") == 0
    assert_sound(tmp_path / "run")


@pytest.mark.long
def test_a_lease_that_lingers_has_its_next_call_through_a_relay() -> None:
    """Calls come one after the other, with pauses in which the worker waits for the next one; also when its relay is
    killed meanwhile."""
    with DFZExecutor(1, config={"chunking": {"relay_leases": 1}}) as executor:

        def call_and_look() -> bool:
            assert executor.submit(pow, 3, 2).result(300) == 9
            return bool(find_relays())

        wait_until(call_and_look, "there is a relay", 300)
        process = executor.submit(os.getpid).result(300)
        for number in range(20):
            assert executor.submit(pow, number, 2).result(300) == number**2
        for relay in find_relays():
            relay.kill()
        assert executor.submit(pow, 5, 2).result(300) == 25
        assert executor.submit(os.getpid).result(300) == process, "no worker was lost"
