"""Large inputs on a real Ray: shared arrays, large files, and the large arguments and functions of calls."""

from __future__ import annotations

import multiprocessing
import os
import re
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import ray
from ray._private.internal_api import memory_summary
from support.attempt_rows import assert_sound
from support.driver import wait_until

from dfz_ray import DfzError, DFZExecutor, domain, get_shared, run
from dfz_ray.cli import call, group
from dfz_ray.driver.manager_actor import get_manager
from dfz_ray.errors import RunFolderRefused
from dfz_ray.journal.inputs import LARGE_BYTES
from dfz_ray.specs.input_file import InputFile

pytestmark = pytest.mark.usefixtures("cluster")

ARRAY = np.arange(2 * LARGE_BYTES, dtype=np.float64)
"""16 MiB."""


@domain("with a shared array", volatile=["is_own"])
def look_up(index: int, door: str = "") -> dict[str, Any]:
    """Read the shared array: a value, and the memory of this process that looking at all of it costs."""
    if door and Path(door).exists():
        raise RuntimeError("the door is there")
    before = psutil.Process().memory_full_info().uss
    array = get_shared("x")
    total = float(array.sum())
    cost = psutil.Process().memory_full_info().uss - before
    return {"value": float(array[index]), "total": total, "is_writeable": array.flags.writeable, "is_own": cost > 2**23}


@domain("with a large file")
def count_bytes(file: InputFile) -> dict[str, Any]:
    return {
        "size": len(file.buffer),
        "head": file.content[:5].decode(),
        "last": np.frombuffer(file.buffer, np.uint8)[-1],
    }


def inputs_of(folder: Path) -> list[str]:
    return sorted(os.listdir(folder / "inputs"))


@pytest.mark.parametrize("config", [{}, {"chunking": {"relay_leases": 1}}], ids=["directly", "through relays"])
def test_tasks_share_an_array(tmp_path: Path, config: dict[str, Any]) -> None:
    """Each task reads it, none gets a copy of its own, and it is not in the journal."""
    batch = [look_up.task(index=index) for index in range(60)]

    results = run(batch, max_workers=2, run_dir=tmp_path / "run", shared={"x": ARRAY}, config=config)

    assert [value["value"] for value in results.values()] == ARRAY[:60].tolist()
    assert {value["total"] for value in results.values()} == {float(ARRAY.sum())}
    assert not any(value["is_writeable"] or value["is_own"] for value in results.values())
    assert len(inputs_of(tmp_path / "run")) == 1
    assert (tmp_path / "run" / "run.sqlite").stat().st_size < LARGE_BYTES
    assert_sound(tmp_path / "run")


def test_a_run_that_goes_on_has_its_arrays(tmp_path: Path, door: Path) -> None:
    """From its folder: the program need not share them again, and can't share others under the same names."""
    batch = [look_up.task(index=index, door=str(door)) for index in range(4)]
    folder = tmp_path / "run"
    first = run(batch, max_workers=2, run_dir=folder, shared={"x": ARRAY})
    assert first.counts["failed"] == 4
    door.unlink()

    with pytest.raises(RunFolderRefused, match="the run shares another array as 'x'"):
        run(batch, max_workers=2, run_dir=folder, shared={"x": ARRAY[1:]}, retry_failed=True)
    results = run(batch, max_workers=2, run_dir=folder, retry_failed=True)

    assert [value["value"] for value in results.values()] == ARRAY[:4].tolist()
    assert_sound(folder)
    assert call(group, ["replay", str(folder), results[2].task_id]) == 0
    assert call(group, ["resume", str(folder)]) == 0


@pytest.mark.parametrize("config", [{}, {"chunking": {"relay_leases": 1}}], ids=["directly", "through relays"])
def test_a_damaged_array_fails_its_tasks(tmp_path: Path, door: Path, config: dict[str, Any]) -> None:
    """An array that has changed on the disk reaches no task: each says which file it is."""
    batch, folder = [look_up.task(index=3, door=str(door))], tmp_path / "run"
    run(batch, max_workers=1, run_dir=folder, shared={"x": ARRAY})
    door.unlink()
    with (folder / "inputs" / inputs_of(folder)[0]).open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"\x77")

    results = run(batch, max_workers=1, run_dir=folder, retry_failed=True, config=config)

    assert results.counts["failed"] == 1
    assert results[0].error.message.startswith("ValueError: an input of the run has changed since it was written: ")
    assert "\n" not in results[0].error.message


@pytest.mark.long
def test_the_store_is_free_again(tmp_path: Path) -> None:
    """Runs that have ended leave nothing in Ray's object store."""

    def used() -> float:
        held = memory_summary(ray.get_runtime_context().gcs_address, stats_only=True)
        return float(re.findall(r"Plasma memory usage (\d+) MiB", held)[0])

    with DFZExecutor(1, shared={"x": ARRAY}) as executor:
        assert executor.submit(lambda: float(get_shared("x")[7])).result() == 7.0
        assert used() >= ARRAY.nbytes // 2**20
    for number in range(3):
        run([look_up.task(index=0)], max_workers=1, run_dir=tmp_path / str(number), shared={"x": ARRAY + number})

    wait_until(lambda: used() == 0, "the store is empty", 60)
    assert used() == 0


def test_a_forked_child_does_not_wait_for_an_array() -> None:
    """A child has no way to ask for one: it is told to let its parent read it first, and then has it."""

    def read_in_a_child(is_read_before: bool) -> str:
        if is_read_before:
            get_shared("x")
        pipe = multiprocessing.get_context("fork").SimpleQueue()

        def read() -> None:
            try:
                pipe.put(str(get_shared("x")[7]))
            except DfzError as error:
                pipe.put(str(error))

        child = multiprocessing.get_context("fork").Process(target=read)
        child.start()
        text: str = pipe.get()
        child.join()
        return text

    with DFZExecutor(1, shared={"x": ARRAY}) as executor:
        assert "let that task read the array first" in executor.submit(read_in_a_child, False).result(120)
        assert executor.submit(read_in_a_child, True).result(120) == "7.0"


def test_an_initializer_reads_an_array() -> None:
    """What an executor shares is there before its first call."""

    def look(expected: float) -> None:
        if get_shared("x")[7] != expected:
            raise RuntimeError("another array")

    with DFZExecutor(1, initializer=look, initargs=(7.0,), shared={"x": ARRAY}) as executor:
        assert executor.submit(abs, -2).result() == 2


def test_a_name_that_is_not_shared(tmp_path: Path) -> None:
    """A task that asks for another array fails with the names that there are."""
    results = run([look_up.task(index=0)], max_workers=1, run_dir=tmp_path / "run", shared={"y": ARRAY[:5]})

    assert "the run shares no such array; it shares: 'y'" in results[0].error.message


def test_calls_share_an_array() -> None:
    """An executor's calls read what it shares; the program itself has its own."""

    def value_at(index: int) -> float:
        return float(get_shared("x")[index])

    with DFZExecutor(2, shared={"x": ARRAY}) as executor:
        assert list(executor.map(value_at, range(50))) == ARRAY[:50].tolist()
        assert executor.submit(value_at, 7).result() == 7.0
    with pytest.raises(DfzError, match="this is no task"):
        get_shared("x")


def test_large_files_of_a_batch(tmp_path: Path) -> None:
    """A file of more than 64 MiB reaches its tasks whole, the journal does not hold it, and replay finds it."""
    path, folder = tmp_path / "large.bin", tmp_path / "run"
    with path.open("wb") as file:
        file.write(b"begin")
        file.truncate(70 * 2**20)
        file.seek(-1, os.SEEK_END)
        file.write(b"\x2a")

    results = run([count_bytes.task(file=str(path)) for _ in range(3)], max_workers=2, run_dir=folder)

    assert results.values() == [{"size": 70 * 2**20, "head": "begin", "last": 42}] * 3
    assert len(inputs_of(folder)) == 1
    assert (folder / "run.sqlite").stat().st_size < LARGE_BYTES
    assert_sound(folder)
    assert call(group, ["replay", str(folder), results[0].task_id]) == 0


@pytest.mark.long
def test_a_map_of_more_than_a_mebibyte(tmp_path: Path) -> None:
    """The files of a built-in domain may be large, too."""
    side = 1100
    rows = "\n".join(["." * side] * side)
    (tmp_path / "large.map").write_text(f"type octile\nheight {side}\nwidth {side}\nmap\n{rows}\n")
    task = {"domain": "maze", "parameters": {"map_file": str(tmp_path / "large.map"), "start": [0, 0], "goal": [5, 5]}}

    results = run([task, {**task, "id": "again"}], max_workers=1, run_dir=tmp_path / "run")

    assert results.counts["completed"] == 2, results[0].error
    assert (tmp_path / "run" / "run.sqlite").stat().st_size < LARGE_BYTES


def test_arguments_of_cancelled_calls(tmp_path: Path, door: Path) -> None:
    """Calls that are cancelled before a worker asks for their arguments leave nothing in the folder."""

    def wait() -> None:
        while door.exists():
            time.sleep(0.01)

    with DFZExecutor(1, run_dir=tmp_path / "run") as executor:
        first = executor.submit(wait)
        wait_until(first.running, "the first call has begun", 120)
        futures = [executor.submit(np.sum, ARRAY) for _ in range(3)]
        wait_until((tmp_path / "run" / "inputs").exists, "one was sent", 120)
        assert [future.cancel() for future in futures] == [True] * 3
        door.unlink()
    assert inputs_of(tmp_path / "run") == []
    assert_sound(tmp_path / "run")


def test_calls_begin_a_new_run(tmp_path: Path) -> None:
    """An executor refuses the folder of another one: its calls would be taken for those of the same number."""
    with DFZExecutor(1, run_dir=tmp_path / "run") as executor:
        assert executor.submit(abs, -1).result() == 1

    with pytest.raises(RunFolderRefused, match="holds a run, and calls begin a new one: name a new folder"):
        DFZExecutor(1, run_dir=tmp_path / "run")


def test_large_arguments_of_calls(tmp_path: Path) -> None:
    """They reach the call whole, and are its own; the folder holds them until the call has ended, and no longer."""

    def total(array: np.ndarray[Any, Any]) -> float:
        array[0] += 1.0  # an argument is the call's own
        return float(array.sum())

    with DFZExecutor(2, run_dir=tmp_path / "run") as executor:
        futures = [executor.submit(total, ARRAY[number:]) for number in range(4)]
        mapped = list(executor.map(total, [ARRAY, ARRAY[::2]]))

        assert [future.result() for future in futures] == [float(ARRAY[number:].sum()) + 1.0 for number in range(4)]
        assert mapped == [float(ARRAY.sum()) + 1.0, float(ARRAY[::2].sum()) + 1.0]
    assert inputs_of(tmp_path / "run") == []
    assert (tmp_path / "run" / "run.sqlite").stat().st_size < LARGE_BYTES
    assert_sound(tmp_path / "run")


@pytest.mark.long
@pytest.mark.parametrize("is_kept", [True, False], ids=["with a run folder", "temporary"])
def test_the_manager_dies_with_large_arguments(tmp_path: Path, door: Path, is_kept: bool) -> None:
    """Another manager finds the arguments in the run folder: the calls return what they would have."""

    def wait_and_sum(array: np.ndarray[Any, Any], number: int) -> float:
        (tmp_path / f"begun-{number}").touch()
        while door.exists():
            time.sleep(0.01)
        return float(array.sum()) + number

    with DFZExecutor(2, run_dir=tmp_path / "run" if is_kept else None) as executor:
        futures = [executor.submit(wait_and_sum, ARRAY, number) for number in range(3)]
        while not any(tmp_path.glob("begun-*")):
            time.sleep(0.01)
        ray.kill(get_manager())
        threading.Timer(0.1, door.unlink).start()

        assert [future.result() for future in futures] == [float(ARRAY.sum()) + number for number in range(3)]


def test_the_state_of_a_method_is_sent_once(tmp_path: Path) -> None:
    """A bound method whose object is large travels with its first call, and then once, until the object changes."""

    class Table:
        def __init__(self) -> None:
            self.values = np.arange(LARGE_BYTES, dtype=np.int64)

        def find(self, index: int) -> int:
            return int(self.values[index])

    table = Table()
    with DFZExecutor(2, run_dir=tmp_path / "run") as executor:
        assert [executor.submit(table.find, index).result() for index in range(5)] == list(range(5))
        assert len(inputs_of(tmp_path / "run")) == 1
        table.values[3] = 77
        assert [executor.submit(table.find, 3).result() for _ in range(3)] == [77] * 3
        assert len(inputs_of(tmp_path / "run")) == 2
    assert_sound(tmp_path / "run")
