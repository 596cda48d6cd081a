"""Runs through Ray whose number of slots follows what pays."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from dfz_ray import domain, run, submit
from dfz_ray.journal.reader import JournalReader, PoolChangeRow
from dfz_ray.journal.run_audit import audit_run
from dfz_ray.journal.run_status import find_status

pytestmark = pytest.mark.usefixtures("cluster")

DEADLINE_S = 300.0


@domain("pool_nap", cpus=0.5)
def nap(ms: float = 5.0, *, seed: int) -> int:
    """Wait, and compute nothing."""
    time.sleep(ms / 1000)
    return seed % 1000


def changes_of(folder: Path) -> list[PoolChangeRow]:
    with JournalReader(folder) as journal:
        return journal.pool_changes()


@pytest.mark.long
def test_each_change_is_a_line_in_the_journal(tmp_path: Path) -> None:
    """With max_workers auto the number of slots changes while the run goes on, each time with a reason on disk."""
    folder, began_at = tmp_path / "run", time.time()
    handle = submit({"generate": [{"domain": "pool_nap", "count": 60_000}]}, max_workers="auto", run_dir=folder)
    try:
        deadline = time.monotonic() + DEADLINE_S
        while not (folder / "run.sqlite").exists() or len(changes_of(folder)) < 3:
            assert time.monotonic() < deadline
            handle.wait(0.1)
        told = find_status(folder)
    finally:
        handle.cancel()
        results = handle.results(DEADLINE_S)

    changes = changes_of(folder)
    assert (changes[0].slots, changes[0].reason) == (8, "begins with 8")
    assert changes[1].slots < 8
    assert changes[1].reason == f"from 8 to {changes[1].slots}: to see whether fewer suffice"
    assert changes[2].reason.startswith(f"from {changes[1].slots} to ")
    assert "throughput" in changes[2].reason
    times = [began_at, *(change.changed_at for change in changes), time.time()]
    assert times == sorted(times)
    assert told.why_slots in [change.reason for change in changes]
    assert 0 < results.metrics["utilization"] <= 1
    audit = audit_run(folder)
    assert audit.ok, audit


@pytest.mark.long
def test_threads_become_as_many_as_pay(tmp_path: Path) -> None:
    """Tasks that wait begin with eight threads for each process, and soon have many more, spread over all processes."""
    tasks = {
        "generate": [{"domain": "pool_nap", "count": 60_000, "parameters": {"ms": 20.0}, "resources": {"cpus": 1}}]
    }
    handle = submit(tasks, max_workers="auto", use_threads=True, run_dir=tmp_path / "run")
    try:
        deadline = time.monotonic() + DEADLINE_S
        while handle.counts["completed"] < 15_000:
            assert time.monotonic() < deadline
            handle.wait(0.1)
    finally:
        handle.cancel()
        results = handle.results(DEADLINE_S)

    changes = changes_of(tmp_path / "run")
    assert changes[0].slots == 4 * 8
    assert max(change.slots for change in changes) >= 64
    assert all(change.slots <= 4 * 256 for change in changes)
    assert results.metrics["max_concurrency"] > 32
    assert audit_run(tmp_path / "run").ok


@pytest.mark.long
def test_the_results_do_not_depend_on_the_slots() -> None:
    """A batch has the same results with a fixed number of workers and with auto, which never leaves its limits."""
    batch = {"seed": 5, "generate": [{"domain": "pool_nap", "count": 400, "parameters": {"ms": 1.0}}]}

    fixed = run(batch, max_workers=2)
    auto = run(batch, max_workers="auto", config={"pool": {"most": 3}})
    set_so = run(batch, config={"max_workers": "auto", "pool": {"least": 4}})

    assert fixed.digest == auto.digest == set_so.digest
    assert auto.metrics["max_concurrency"] <= 3
    assert set_so.counts["completed"] == 400
