"""What calls find in their process: the driver's folder, variables and authkey, and what an initializer has made."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import time
from concurrent.futures import BrokenExecutor
from pathlib import Path
from typing import Any

import pytest
import ray
from support.calls import DEADLINE_S, wait_for_file

from dfz_ray import DFZExecutor, run
from dfz_ray.driver.domain_shipping import ship_by_value

ship_by_value(sys.modules[__name__])  # the workers need not have this module
LONG_S = 300.0
TABLE: list[int] = []

SCRIPT = """
import os, sys
from dfz_ray import DFZExecutor

def find():
    return os.getcwd(), os.environ.get("MINE"), os.environ.get("THEIRS")

os.environ["THEIRS"] = "before"
with DFZExecutor(1, address="local") as executor:
    executor.submit(abs, -1).result()
    os.chdir(sys.argv[1])
    os.environ["MINE"] = "later"
    del os.environ["THEIRS"]
    with DFZExecutor(1) as later:
        print(later.submit(find).result(), executor.submit(find).result())
"""


def fill(folder: str, values: Any) -> None:
    """An initializer as scripts have it."""
    global TABLE  # noqa: PLW0603 - that is what is tested
    TABLE = list(values)
    Path(folder, str(os.getpid())).open("a").write("x")  # noqa: SIM115


def look(position: int) -> tuple[int, int]:
    """A call as scripts have it."""
    return TABLE[position], os.getpid()


def test_an_initializer_once_in_each_process(cluster: None, tmp_path: Path) -> None:
    """Calls and maps see what the initializer has set, and it was called once in each process that made a call."""
    with DFZExecutor(2, initializer=fill, initargs=(str(tmp_path), range(100, 140))) as executor:
        found = [executor.submit(look, 3).result(DEADLINE_S), *executor.map(look, range(40))]
        found += executor.map(look, range(40), chunksize=1)
    assert [value for value, _ in found] == [103, *range(100, 140), *range(100, 140)]
    assert {file.read_text() for file in tmp_path.iterdir()} == {"x"}
    assert {str(process) for _, process in found} <= {file.name for file in tmp_path.iterdir()}


def test_an_initializer_that_fails(cluster: None) -> None:
    """Where the initializer fails, calls fail with its error, and later ones are refused, as those of a pool."""
    with DFZExecutor(1, initializer=divmod, initargs=(1, 0)) as executor:
        with pytest.raises(BrokenExecutor, match="ZeroDivisionError"):
            executor.submit(abs, -1).result(DEADLINE_S)
        with pytest.raises(BrokenExecutor, match="ZeroDivisionError"):
            executor.submit(abs, -1)
        assert "broken" in repr(executor)


def test_a_queue_of_a_manager(executor: DFZExecutor) -> None:
    """Objects of a multiprocessing manager work in calls: they know its key."""
    with multiprocessing.Manager() as manager:
        queue = manager.Queue()
        list(executor.map(queue.put, range(20)))
        assert sorted(queue.get(timeout=DEADLINE_S) for _ in range(20)) == list(range(20))


@pytest.mark.long
def test_the_folder_and_the_variables_of_the_driver(tmp_path: Path) -> None:
    """On an embedded Ray, calls have the folder and the environment that the driver had when it made their executor."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path)], capture_output=True, text=True, env=environment, timeout=500
    )
    assert done.stdout.strip() == f"{(str(tmp_path), 'later', None)} {(os.getcwd(), None, 'before')}", done.stderr


def make_calls(count: int) -> list[int]:
    """A call that has calls of its own."""
    with DFZExecutor() as executor:
        first = [executor.submit(abs, -number).result() for number in range(2)]  # alone, so that leases end meanwhile
        return [executor.max_workers, *first, *executor.map(abs, range(-count, 0))]


def run_batch() -> int:
    """A call that runs a batch."""
    return run([{"domain": "sorting", "parameters": {"list_length": 10}}] * 3).counts["completed"]


def test_executors_within_calls(cluster: None) -> None:
    """Calls that hold all CPUs of the cluster get workers for executors, and batches, of their own."""
    with DFZExecutor() as executor:  # four CPUs
        wide = executor.options(cpus=2)
        calls = [wide.submit(make_calls, 3), wide.submit(make_calls, 5)]
        assert calls[0].result(LONG_S) == [2, 0, 1, 3, 2, 1]
        assert calls[1].result(LONG_S) == [2, 0, 1, 5, 4, 3, 2, 1]
        assert executor.options(cpus=4).submit(run_batch).result(LONG_S) == 3


WITHIN_TWO = """
from dfz_ray import DFZExecutor
from dfz_ray.driver.connection import connect

def make_calls(count):
    with DFZExecutor() as executor:
        return [executor.max_workers, *executor.map(abs, range(-count, 0))]

connect("local", logical_cpus=2)
with DFZExecutor() as executor:
    calls = [executor.submit(make_calls, count) for count in (3, 5)]
    print([call.result(100) for call in calls])
"""


@pytest.mark.long
def test_executors_within_calls_that_hold_two_cpus() -> None:
    """On two CPUs, both held by calls that wait for calls of their own, those get workers within seconds."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", WITHIN_TWO], capture_output=True, text=True, env=environment, timeout=LONG_S
    )
    assert done.stdout.strip() == "[[1, 3, 2, 1], [1, 5, 4, 3, 2, 1]]", done.stderr


def ask_for_memory(size_bytes: int) -> BaseException | None:
    """A call whose own executor wants memory; returns why it gets none."""
    with DFZExecutor(1) as executor:
        return executor.options(memory=size_bytes).submit(abs, -1).exception(LONG_S)


@pytest.mark.long
def test_an_executor_within_a_call_that_holds_what_it_wants(cluster: None) -> None:
    """Where no node has what a call's own executor wants beside what the call holds, it is refused with the reason."""
    memory = int(ray.cluster_resources()["memory"])
    with DFZExecutor(1) as executor:
        refused = executor.options(memory=memory // 4 * 3).submit(ask_for_memory, memory // 2).result(LONG_S)
        assert "beside what the call holds that waits for this" in str(refused)
        assert executor.options(memory=memory // 4).submit(ask_for_memory, memory // 2).result(LONG_S) is None


@pytest.mark.parametrize("buffersize", [None, 1])
def test_a_map_that_takes_too_long(cluster: None, tmp_path: Path, buffersize: int | None) -> None:
    """A `with` is left although calls of a map run on whose time is over: they are ended."""
    never, begun = [str(tmp_path / "never")] * 3, time.monotonic()
    with pytest.raises(TimeoutError), DFZExecutor(1) as executor:
        list(executor.map(wait_for_file, never, timeout=0.5, buffersize=buffersize))
    assert time.monotonic() - begun < DEADLINE_S  # by itself a call waits for longer


def test_arguments_of_a_process_pool(cluster: None) -> None:
    """What Ray has no use for is accepted with a warning that says so, and checked as a pool checks it."""
    context = multiprocessing.get_context("spawn")
    with pytest.warns(UserWarning, match="mp_context has no effect"), DFZExecutor(1, context) as executor:
        assert (executor.max_workers, executor._max_workers) == (1, 1)  # type: ignore[attr-defined]
    with pytest.warns(UserWarning, match="max_tasks_per_child has no effect"):
        DFZExecutor(1, max_tasks_per_child=3).shutdown()
    with pytest.raises(ValueError, match="max_tasks_per_child must be >= 1"):
        DFZExecutor(1, max_tasks_per_child=0)
    with DFZExecutor() as executor:
        assert executor.max_workers == 4
        assert "4 at once; open; 0 unfinished" in repr(executor)
        assert repr(executor.options(cpus=2)).startswith("<View with cpus=2.0 of <DFZExecutor: ")
