"""The manager's knowledge of a worker's process."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from dfz_ray.manager.worker_control import _is_alive, _read_waited
from dfz_ray.protocol.reports import Place
from dfz_ray.worker.process_start import read_start

LOOP = "while True: pass"


def test_a_process_is_known_by_its_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """A step of the clock makes no other process of a worker; one that has got its number is another one."""
    with subprocess.Popen([sys.executable, "-c", LOOP]) as loop:
        try:
            place = Place("here", "node", loop.pid, read_start(loop.pid), "run/lease")
            assert _is_alive(place)
            booted_s = psutil.boot_time()
            monkeypatch.setattr(psutil, "boot_time", lambda: booted_s + 5)
            monkeypatch.setattr(psutil._psplatform, "boot_time", lambda: booted_s + 5)
            assert _is_alive(place)
            assert not _is_alive(place._replace(start=place.start + 1))
        finally:
            loop.kill()
    assert not _is_alive(place)


@pytest.mark.skipif(not Path("/proc/self/schedstat").exists(), reason="only Linux counts the wait for a processor")
def test_the_wait_for_a_processor_is_known() -> None:
    """Of two processes that share one processor each waits for the other, and the manager sees that."""
    processor = min(os.sched_getaffinity(0))
    loops = [subprocess.Popen([sys.executable, "-c", LOOP]) for _ in range(2)]
    try:
        for loop in loops:
            os.sched_setaffinity(loop.pid, {processor})
        place = Place("here", "node", loops[0].pid, 0.0, "run/lease")
        end = time.monotonic() + 120
        while _read_waited(place) < 0.2:
            assert time.monotonic() < end
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()
    assert _read_waited(place) == 0.0, "of a process that is gone nothing is known"
