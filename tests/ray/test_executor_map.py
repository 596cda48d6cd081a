"""DFZExecutor.map: results come in order, however calls are grouped, and whatever goes wrong."""

from __future__ import annotations

import gc
import itertools
import os
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import BrokenExecutor
from pathlib import Path
from typing import Any

import pytest
from support.calls import DEADLINE_S, append, crash, ray_cpus_of, sleep_and_tell, touch, wait_for_file

from dfz_ray import DFZExecutor
from dfz_ray.driver.domain_shipping import ship_by_value
from dfz_ray.errors import CallFailed
from dfz_ray.executor.map import GROUP_BYTES
from dfz_ray.journal.reader import JournalReader

ship_by_value(sys.modules[__name__])  # the workers need not have this module


def test_a_map_that_is_waited_for_as_its_run_fails(cluster: None, tmp_path: Path) -> None:
    """A caller that waits for the results of a map hears why there are none, not that they were cancelled."""
    (tmp_path / "something").touch()
    with pytest.raises(BrokenExecutor, match="the run can't go on"):
        list(DFZExecutor(2, run_dir=tmp_path).map(abs, range(1000)))


@pytest.mark.parametrize("chunksize", [None, 1, 7, 1000])
def test_map_keeps_the_order(executor: DFZExecutor, chunksize: int | None) -> None:
    """Results come in order, however calls are grouped, from several iterables up to the end of the shortest."""
    results = executor.map(lambda x, y: (x, y), range(500), "ab" * 200, chunksize=chunksize)
    assert list(results) == list(zip(range(500), "ab" * 200, strict=False))


def test_map_ends_at_an_exception(executor: DFZExecutor) -> None:
    """An exception is raised where its result is due, after all results before it, however calls are grouped."""
    seen: list[int] = []
    with pytest.raises(ZeroDivisionError):
        seen.extend(executor.map(lambda x: 100 // (1500 - x), range(3000)))
    assert seen == [100 // (1500 - x) for x in range(1500)]


def test_map_with_a_crash(executor: DFZExecutor) -> None:
    """A call that kills its worker fails alone, also if it was sent in a group."""
    seen: list[int] = []
    with pytest.raises(CallFailed, match="worker_crashed"):
        seen.extend(executor.options(max_attempts=1).map(lambda n: crash() if n == 700 else n, range(1000)))
    assert seen == list(range(700))


def change_at_times(number: int) -> tuple[str, str | None]:
    """The state as it is felt; some calls change it, one of them for good."""
    found = os.getcwd(), os.environ.get("DFZ_MODE")
    if number % 150 == 70:
        os.chdir("/")
        os.environ["DFZ_MODE"] = "coarse"
    if number == 250:
        sys.addaudithook(lambda *_: None)
    return found


@pytest.mark.parametrize("chunksize", [None, 50])
@pytest.mark.parametrize("use_threads", [False, True])
def test_no_call_of_a_map_feels_what_another_one_has_changed(
    cluster: None, use_threads: bool, chunksize: int | None
) -> None:
    """Calls that go together are as far apart as others, on threads, too: a call's changes end with it."""
    with DFZExecutor(2, use_threads=use_threads) as executor:
        results = list(executor.map(change_at_times, range(400), chunksize=chunksize))

    assert results == [(os.getcwd(), None)] * 400


def test_map_with_an_item_that_can_not_travel(executor: DFZExecutor) -> None:
    """An item that can't be pickled is an error where its result is due, and the executor ends as ever."""
    seen: list[Any] = []
    with pytest.raises(TypeError, match="cannot pickle"):
        seen.extend(executor.map(type, [*range(50), threading.Lock(), 1]))
    assert seen == [int] * 50
    with DFZExecutor(1) as other, pytest.raises(TypeError, match="cannot pickle"):
        list(other.map(type, [threading.Lock()], chunksize=5))
    assert list(executor.map(abs, [])) == []
    for buffersize in (2, 100):
        seen = []
        with pytest.raises(TypeError, match="cannot pickle"):
            seen.extend(executor.map(type, [*range(5), threading.Lock(), 1], buffersize=buffersize))
        assert seen == [int] * 5


def test_map_with_many_items_that_can_not_travel(cluster: None, tmp_path: Path) -> None:
    """If whole groups of a map can't be pickled, the calls after them are made all the same, and the executor ends."""
    lock, file = threading.Lock(), tmp_path / "made"
    with DFZExecutor(1) as executor:
        executor.map(type, [lock] * 3)
    with DFZExecutor(1) as executor:
        results = executor.map(type, [lock] * 3)
        executor.map(touch, [lock] * 100 + [str(file)])
        others = executor.map(type, [1] * 20 + [lock] * 2000 + [1])
        with pytest.raises(TypeError, match="cannot pickle"):
            next(results)
    assert file.exists()
    assert list(itertools.islice(others, 20)) == [int] * 20
    with pytest.raises(TypeError, match="cannot pickle"):
        next(others)


def test_map_with_one_object_for_all_calls(executor: DFZExecutor) -> None:
    """If all calls are given one list, each gets it as it is in the driver, however calls are grouped."""
    seen: list[int] = []
    results = list(executor.map(append, range(500), itertools.repeat(seen)))
    assert results == [[n] for n in range(500)]
    assert seen == []


def test_map_with_calls_that_turn_out_long(executor: DFZExecutor) -> None:
    """If long calls follow short ones, they are shared out: no worker is left with all of them."""
    processes = list(executor.map(sleep_and_tell, [0.0] * 2000 + [0.05] * 40))

    assert len(set(processes[2000:])) >= 2


@pytest.mark.long
def test_map_of_large_values(cluster: None, tmp_path: Path) -> None:
    """Quick calls with large arguments and results go together only as far as memory is not in danger."""
    items = [bytes([n % 256]) * 300_000 for n in range(150)]
    with DFZExecutor(2, run_dir=tmp_path / "run") as executor:
        assert list(executor.map(lambda item: item + b"!", items)) == [item + b"!" for item in items]
    with JournalReader(tmp_path / "run") as journal:
        groups = len(list(journal.ids()))
    assert len(items) * len(items[0]) / GROUP_BYTES <= groups < len(items)


def test_the_first_map_of_an_executor(cluster: None, tmp_path: Path) -> None:
    """The calls of a map that is made before the slots are counted are tasks that any worker may take."""
    with DFZExecutor(run_dir=tmp_path / "run") as executor:
        assert list(executor.map(abs, range(-8, 0))) == list(range(8, 0, -1))
    with JournalReader(tmp_path / "run") as journal:
        assert len(list(journal.ids())) == 8


def test_map_takes_all_items_at_once(executor: DFZExecutor) -> None:
    """The iterables are used up when map returns, and nothing is lost where nobody asks for the results."""
    items = iter(range(100))
    executor.map(abs, items)
    assert list(items) == []


def test_map_with_a_buffer(executor: DFZExecutor) -> None:
    """With a buffer no more calls are submitted than it holds, until results are taken."""
    taken: list[int] = []

    def items() -> Iterator[int]:
        for n in range(20):
            taken.append(n)
            yield n

    results = executor.map(abs, items(), buffersize=3)
    assert len(taken) == 3
    assert next(results) == 0
    assert len(taken) == 4
    assert list(results) == list(range(1, 20))
    assert list(executor.map(abs, range(-7, 0), buffersize=2, chunksize=3)) == [7, 6, 5, 4, 3, 2, 1]
    endless = executor.map(abs, itertools.count(), buffersize=2)
    assert [next(endless) for _ in range(5)] == list(range(5))
    for wrong, error in ((0, ValueError), (-1, ValueError), ("2", TypeError)):
        with pytest.raises(error):
            executor.map(abs, [1], buffersize=wrong)  # type: ignore[arg-type]


def test_map_with_a_buffer_and_options(executor: DFZExecutor) -> None:
    """A view that nobody holds sends all calls of a map with a buffer, each with its options."""
    results = executor.options(cpus=2).options(priority=1).map(ray_cpus_of, range(20), buffersize=4)
    gc.collect()
    assert list(results) == [2.0] * 20


def test_map_in_time(executor: DFZExecutor) -> None:
    """A result that is not there in time is a TimeoutError, after the results that are."""

    def take(timeout_s: float) -> list[Any]:
        taken: list[Any] = []
        with pytest.raises(TimeoutError):
            taken.extend(executor.map(time.sleep, [0, 0, 4 * timeout_s], timeout=timeout_s))
        return taken

    # On a slow machine even the first results may not be there in two seconds.
    assert any(take(timeout_s) == [None, None] for timeout_s in (2, 8, 32, 128))


def test_a_map_that_is_left(executor: DFZExecutor, tmp_path: Path) -> None:
    """Closing the iterator cancels what has not begun."""
    results = executor.map(wait_for_file, [str(tmp_path / "go")] * 500)
    touch(str(tmp_path / "go"))
    assert next(results) == "seen"
    results.close()  # type: ignore[attr-defined]
    assert executor.submit(abs, -1).result(DEADLINE_S) == 1
