"""DFZExecutor: calls of any function, batched by themselves, with resources, deadlines and priorities."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import functools
import gc
import os
import subprocess
import sys
import tempfile
import threading
import time
import weakref
from collections.abc import Iterator
from concurrent.futures import BrokenExecutor, CancelledError, Future
from pathlib import Path
from typing import Any

import pytest
import ray
from support.calls import DEADLINE_S, begin_and_wait, crash, ray_cpus, ray_cpus_of, sleep_and_tell, touch, wait_for_file
from support.driver import wait_until

from dfz_ray import DFZExecutor, InvalidInput
from dfz_ray.client import run_checked
from dfz_ray.driver.domain_shipping import ship_by_value
from dfz_ray.driver.listener import RunListener
from dfz_ray.driver.manager_actor import get_manager
from dfz_ray.driver.run_session import RunSession
from dfz_ray.errors import CallFailed, DfzError, InfrastructureLost, RemoteTraceback, RunFolderRefused
from dfz_ray.executor.call_run import CallRun, ExecutorBroken, Treatment
from dfz_ray.executor.future import CallFuture
from dfz_ray.executor.map import FIRST_BUDGET_S
from dfz_ray.journal.reader import JournalReader
from dfz_ray.journal.run_audit import audit_run
from dfz_ray.specs.policy import Policy
from dfz_ray.specs.resources import Resources
from dfz_ray.specs.run_config import RunConfig

ship_by_value(sys.modules[__name__])  # the workers need not have this module
ROOT = Path(__file__).parents[2]


def test_many_calls_at_once(executor: DFZExecutor) -> None:
    """Thousands of calls of several functions, submitted by several threads, each have their own result."""
    futures: dict[int, list[Future[Any]]] = {}

    def submit(base: int) -> None:
        futures[base] = [executor.submit(lambda x: x + 1, base + n) for n in range(2_000)]

    threads = [threading.Thread(target=submit, args=(base,)) for base in (0, 10_000, 20_000)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    for base, own in futures.items():
        assert [future.result(DEADLINE_S) for future in own] == [base + n + 1 for n in range(2_000)]


def test_results_of_any_size(executor: DFZExecutor) -> None:
    """A result larger than what the journal holds itself comes back whole, and so does one of None."""
    assert executor.submit(bytes, 3_000_000).result(DEADLINE_S) == bytes(3_000_000)
    assert executor.submit(lambda: None).result(DEADLINE_S) is None
    assert [len(one) for one in executor.map(bytes, [0, 1, 2_000_000])] == [0, 1, 2_000_000]


def test_callbacks_and_as_completed(executor: DFZExecutor) -> None:
    """Callbacks are called with the future, and as_completed and wait see each future once."""
    seen_by_callbacks: list[int] = []
    futures = [executor.submit(abs, -n) for n in range(20)]
    for future in futures:
        future.add_done_callback(lambda ended: seen_by_callbacks.append(ended.result()))

    seen = [future.result() for future in concurrent.futures.as_completed(futures, timeout=DEADLINE_S)]

    assert sorted(seen) == list(range(20))
    wait_until(lambda: len(seen_by_callbacks) == 20, "all callbacks were called")
    assert not concurrent.futures.wait(futures, timeout=0).not_done


def test_a_callback_may_submit(executor: DFZExecutor) -> None:
    """A call that is submitted by the callback of another call is executed as well."""
    second: list[Future[int]] = []
    executor.submit(abs, -1).add_done_callback(lambda ended: second.append(executor.submit(abs, ended.result() - 3)))
    wait_until(lambda: second, "the callback was called")
    assert second[0].result(DEADLINE_S) == 2


def test_asyncio(executor: DFZExecutor) -> None:
    """An event loop takes it as an executor, for functions that it need not be able to import."""

    async def work() -> list[Any]:
        loop = asyncio.get_running_loop()
        calls = [loop.run_in_executor(executor, functools.partial(pow, 2, exp=n)) for n in range(5)]
        return [*await asyncio.gather(*calls), await loop.run_in_executor(executor.options(cpus=2), lambda: "two")]

    assert asyncio.run(work()) == [1, 2, 4, 8, 16, "two"]


def test_an_exception_with_its_traceback(executor: DFZExecutor) -> None:
    """An exception is of its own type, and says where on the worker it was raised."""
    with pytest.raises(ZeroDivisionError) as caught:
        executor.submit(divmod, 1, 0).result(DEADLINE_S)
    assert isinstance(caught.value.__cause__, RemoteTraceback)
    assert "function_domain.py" in str(caught.value.__cause__)


def test_options(executor: DFZExecutor) -> None:
    """Calls get the CPUs that were asked for, as their threads; unknown and impossible options are refused at once."""
    two = executor.options(cpus=2)
    assert two.submit(ray_cpus).result(DEADLINE_S) == 2.0
    assert two.options(cpus=3).submit(ray_cpus).result(DEADLINE_S) == 3.0
    assert executor.submit(ray_cpus).result(DEADLINE_S) == 1.0
    assert list(two.map(ray_cpus_of, range(3))) == [2.0] * 3
    with pytest.raises(InvalidInput, match="cores: found"):
        executor.options(cores=2)
    with pytest.raises(InvalidInput, match="gpus: found"):
        executor.options(gpus=-1)
    with pytest.raises(InvalidInput, match="timeout_s"):
        executor.options(timeout_s=0)


def test_a_deadline(executor: DFZExecutor) -> None:
    """A call that overruns its deadline is ended, and its future says so; the executor goes on."""
    with pytest.raises(CallFailed) as caught:
        executor.options(timeout_s=0.2, max_attempts=1).submit(time.sleep, 60).result(DEADLINE_S)
    assert caught.value.reason == "timeout"
    assert executor.submit(abs, -1).result(DEADLINE_S) == 1


def test_a_crash_fails_one_call(executor: DFZExecutor) -> None:
    """A call that kills its worker fails alone, when it has been tried as often as it may."""
    others = [executor.submit(abs, -n) for n in range(50)]
    doomed = executor.options(max_attempts=2).submit(crash)
    others += [executor.submit(abs, -n) for n in range(50)]

    with pytest.raises(CallFailed) as caught:
        doomed.result(DEADLINE_S)

    assert caught.value.reason == "worker_crashed"
    assert [future.result(DEADLINE_S) for future in others] == [*range(50), *range(50)]


def test_a_call_that_has_begun_runs_on(executor: DFZExecutor, tmp_path: Path) -> None:
    """A call that a worker has begun is running, and can't be cancelled; a waiting call can."""
    begun, go = str(tmp_path / "begun"), str(tmp_path / "go")
    with DFZExecutor(1) as single:
        first = single.submit(begin_and_wait, begun, go)
        wait_until(first.running, "the first call runs")
        others = [single.submit(touch, str(tmp_path / f"other-{n}")) for n in range(20)]

        assert not first.cancel()
        assert all(other.cancel() for other in others)
        assert all(other.cancelled() for other in others)
        with pytest.raises(CancelledError):
            others[0].result()
        assert len(concurrent.futures.wait(others, timeout=0).done) == 20
        touch(go)
        assert first.result(DEADLINE_S) == "seen"
    assert not list(tmp_path.glob("other-*"))


def test_leaving_it_waits(cluster: None) -> None:
    """At the end of a `with` block all calls have ended; afterwards nothing can be submitted."""
    with DFZExecutor(2) as executor:
        futures = [executor.submit(time.sleep, 0.05) for _ in range(6)]
        results = executor.map(abs, range(-3, 0))
    assert all(future.done() for future in futures)
    assert list(results) == [3, 2, 1]
    with pytest.raises(RuntimeError, match="after shutdown"):
        executor.submit(abs, 1)
    with pytest.raises(RuntimeError, match="after shutdown"):
        executor.map(abs, [1])
    executor.shutdown()


def test_leaving_it_before_it_is_opened(cluster: None, tmp_path: Path) -> None:
    """A run that takes no more calls before it is opened has as many slots as one that is left later."""
    session = RunSession(RunConfig.of(run_dir=tmp_path / "run"), RunListener())
    session.submit_later(lambda first: None)
    session.finish()
    session.start()
    session.join()
    assert session.slots == 4


def test_shutting_down_cancels_what_waits(cluster: None, tmp_path: Path) -> None:
    """With cancel_futures what has not begun is cancelled, items of a map as well; what has begun ends."""
    begun, go = str(tmp_path / "begun"), str(tmp_path / "go")
    executor = DFZExecutor(1)
    first = executor.submit(begin_and_wait, begun, go)
    wait_until(first.running, "the first call runs")
    waiting = [executor.submit(abs, -1) for _ in range(10)]
    results = executor.map(abs, range(1000))

    executor.shutdown(wait=False, cancel_futures=True)

    assert all(future.cancelled() for future in waiting)
    with pytest.raises(CancelledError):
        next(results)
    touch(go)
    assert first.result(DEADLINE_S) == "seen"
    executor.shutdown()


def note_and_wait(folder: str, number: int) -> None:
    """Make a file; the first call waits for another one."""
    touch(f"{folder}/made-{number}")
    if number == 0:
        wait_for_file(f"{folder}/go")


def test_shutting_down_ends_a_map_that_was_sent(cluster: None, tmp_path: Path) -> None:
    """With cancel_futures the calls that a group hands back, for one of them takes long, are not made."""
    executor = DFZExecutor(1)
    results = executor.map(note_and_wait, [str(tmp_path)] * 50, range(50))
    open_calls = executor._run._open
    wait_until(lambda: any(call.has_begun for call in open_calls.copy().values()), "the driver knows that a call runs")
    wait_until((tmp_path / "made-0").exists, "the first call runs")
    begun = time.monotonic()

    executor.shutdown(wait=False, cancel_futures=True)

    wait_until(lambda: time.monotonic() - begun > FIRST_BUDGET_S, "the group's time is over")
    touch(str(tmp_path / "go"))
    executor.shutdown()
    assert [path.name for path in tmp_path.glob("made-*")] == ["made-0"]
    assert next(results) is None
    with pytest.raises(CancelledError):
        next(results)


def test_an_executor_that_is_given_up(cluster: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An executor without owners ends its calls, and then its run; no thread and no folder is left."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    others = set(threading.enumerate())
    executor = DFZExecutor(2)
    future, results, gone = executor.submit(abs, -1), executor.map(abs, range(-100, 0)), weakref.ref(executor)
    assert list(tmp_path.iterdir())
    assert new_threads(others)
    del executor
    gc.collect()

    assert gone() is None
    assert future.result(DEADLINE_S) == 1
    assert list(results) == list(range(100, 0, -1))
    wait_until(lambda: not list(tmp_path.iterdir()), "the run folder is gone")
    wait_until(lambda: not new_threads(others), "its threads have ended")


def new_threads(others: set[threading.Thread]) -> list[threading.Thread]:
    """The threads of runs that are not among others."""
    return [one for one in threading.enumerate() if one not in others and one.name.startswith("dfz_ray")]


def test_the_end_of_a_program(cluster: None, tmp_path: Path) -> None:
    """A script without a main guard ends by itself, without a word, when its calls have ended."""
    script = tmp_path / "script.py"
    script.write_text(
        "import sys, time\nfrom dfz_ray import DFZExecutor\n"
        "class Point:\n    def __init__(self, x): self.x = x\n"
        "def double(point): return Point(2 * point.x)\n"
        "def leave(path): time.sleep(0.3); open(path, 'w').close()\n"
        "executor = DFZExecutor(2)\n"
        "point = executor.submit(double, Point(4)).result()\n"
        "assert type(point) is Point\n"
        "print(point.x, list(executor.map(lambda x: x + point.x, range(3))))\n"
        "executor.submit(leave, sys.argv[1])\n"
    )
    address = ray.get_runtime_context().gcs_address
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path / "left")],
        capture_output=True,
        text=True,
        timeout=DEADLINE_S * 2,
        env={**os.environ, "RAY_ADDRESS": address, "PYTHONPATH": str(ROOT)},
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "8 [8, 9, 10]\n", "")
    assert (tmp_path / "left").exists()


def test_the_manager_dies(cluster: None, tmp_path: Path) -> None:
    """If the manager dies, another one goes on: no call is lost, and none has two outcomes."""
    with DFZExecutor(2, run_dir=tmp_path / "run") as executor:
        before = [executor.submit(abs, -n) for n in range(500)]
        concurrent.futures.wait(before[:10], timeout=DEADLINE_S)
        ray.kill(get_manager())
        after = [executor.submit(abs, -n) for n in range(500)]
        assert [future.result(DEADLINE_S) for future in before + after] == [*range(500), *range(500)]
        assert list(executor.map(abs, range(-500, 0))) == list(range(500, 0, -1))
    with JournalReader(tmp_path / "run") as journal:
        assert journal.counts()["completed"] == sum(journal.counts().values())
    assert [text for check in audit_run(tmp_path / "run").checks for text in check.violations] == []


@pytest.mark.long
def test_the_manager_of_a_temporary_run_dies(cluster: None) -> None:
    """Calls whose results may not be on disk, or which may not be there themselves, get theirs from another manager."""
    with DFZExecutor(2) as executor:
        for number in range(3):
            calls = [executor.submit(abs, -n) for n in range(40)]
            assert [executor.submit(abs, -n).result(DEADLINE_S) for n in range(5)] == [*range(5)]
            calls.append(executor.submit(abs, -40))
            ray.kill(get_manager())
            assert [future.result(DEADLINE_S) for future in calls] == [*range(41)]
            assert list(executor.map(abs, range(-50 * number, 0))) == list(range(50 * number, 0, -1))


@pytest.mark.long
def test_the_manager_of_a_temporary_run_dies_in_the_middle_of_a_batch(cluster: None) -> None:
    """Of calls that are sent together the first may be on disk when the manager is lost: the others are sent again."""
    with DFZExecutor(2) as executor:
        assert executor.submit(abs, -1).result(DEADLINE_S) == 1
        folder = executor._run.folder

        def kill_in_the_middle() -> int:
            wait_until(lambda: count_tasks(folder) > 1, "the first block is on disk", each_s=0.001)
            ray.kill(get_manager())
            return count_tasks(folder)

        with concurrent.futures.ThreadPoolExecutor(1) as killer:
            kept = killer.submit(kill_in_the_middle)
            calls = [executor.submit(abs, -n) for n in range(50_000)]
            assert kept.result() < len(calls)
        assert [future.result(DEADLINE_S) for future in calls] == [*range(50_000)]
        assert [executor.submit(abs, -n).result(DEADLINE_S) for n in range(10)] == [*range(10)]


def count_tasks(folder: Path) -> int:
    with JournalReader(folder) as journal:
        return sum(journal.counts().values())


def test_the_run_is_written_down(cluster: None, tmp_path: Path) -> None:
    """Each call is a task of the run, under its function's name; the run is not gone on with, for it holds code."""
    with DFZExecutor(2, run_dir=tmp_path / "run") as executor:
        assert executor.submit(divmod, 7, 2).result(DEADLINE_S) == (3, 1)
        assert executor.submit(divmod, 7, 0).exception(DEADLINE_S) is not None

    with JournalReader(tmp_path / "run") as journal:
        records = list(journal.table())
    assert [(one.kind, one.status) for one in records] == [
        ("builtins.divmod", "completed"),
        ("builtins.divmod", "failed"),
    ]
    assert records[1].error is not None
    assert records[1].error.message == "ZeroDivisionError: integer division or modulo by zero"
    with pytest.raises(DfzError, match="never taken for code"):
        run_checked(None, RunConfig.of(run_dir=tmp_path / "run"))


def test_no_ray(cluster: None) -> None:
    """If there is no Ray at the address, the futures and the next submit say so."""
    executor = DFZExecutor(2, address="127.0.0.1:1")
    with pytest.raises(BrokenExecutor, match="the run can't go on"):
        submit_and_wait(executor)
    with pytest.raises(BrokenExecutor, match="the run can't go on"):
        executor.submit(abs, 1)
    executor.shutdown()


def submit_and_wait(executor: DFZExecutor) -> int:
    """A call, and its result."""
    return executor.submit(abs, -1).result(DEADLINE_S)


@pytest.mark.parametrize("is_broken", [True, False])
def test_calls_that_are_sent_as_the_run_ends(cluster: None, is_broken: bool) -> None:
    """A call that relies on the request of another thread gets its end when that request is refused.

    If nothing is wrong with the run, it came too late; else its future says what is wrong.
    """
    run = CallRun(RunConfig.of(max_workers=2, address="127.0.0.1:1" if is_broken else None))
    if not is_broken:
        run.finish()
    wait_until(lambda: run.has_ended, "the run has ended")
    treatment = Treatment(Resources(), Policy())
    mine, left = (CallFuture(run, treatment, run.packer.pack(abs, (1,), {})) for _ in range(2))

    class Calls(list[CallFuture]):
        """Calls that are looked at again when they were refused; at that moment another thread sends a call."""

        looks = 0

        def __iter__(self) -> Iterator[CallFuture]:
            self.looks += 1
            if self.looks == 2:
                run.send((left,))
            return super().__iter__()

    with pytest.raises(InfrastructureLost, match="the run can't go on" if is_broken else "the run was closed"):
        run.send(Calls([mine]))
    error = left.exception(DEADLINE_S)
    assert type(error) is (ExecutorBroken if is_broken else RuntimeError)
    assert ("the run can't go on" if is_broken else "cannot schedule new futures after shutdown") in str(error)
    assert not mine.done()


def test_calls_of_many_threads_as_the_run_fails(cluster: None, tmp_path: Path) -> None:
    """Each call that threads submit while their run fails is refused, or its future says why."""
    (tmp_path / "something").touch()
    executor = DFZExecutor(2, run_dir=tmp_path)
    futures: list[Future[int]] = []

    def submit_until_refused() -> None:
        with contextlib.suppress(BrokenExecutor):
            while True:
                futures.append(executor.submit(abs, 1))

    threads = [threading.Thread(target=submit_until_refused) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE_S)

    assert not any(thread.is_alive() for thread in threads)
    assert {type(future.exception(DEADLINE_S)) for future in futures} <= {ExecutorBroken}


def test_a_folder_that_is_taken(cluster: None, tmp_path: Path) -> None:
    """A folder that holds something else is refused."""
    (tmp_path / "something").touch()
    executor = DFZExecutor(2, run_dir=tmp_path)
    with pytest.raises(BrokenExecutor) as caught:
        submit_and_wait(executor)
    assert isinstance(caught.value.__cause__, RunFolderRefused)


@pytest.mark.long
def test_calls_on_threads(cluster: None) -> None:
    """With use_threads calls that wait share processes, and each other's modules; many wait at the same time."""
    with DFZExecutor(32, use_threads=True) as executor:
        executor.submit(abs, 1).result(DEADLINE_S)
        begun = time.monotonic()
        futures = [executor.submit(sleep_and_tell, 0.5) for _ in range(32)]
        processes = {future.result(DEADLINE_S) for future in futures}
        took_s = time.monotonic() - begun
        assert len(processes) <= 4
        assert took_s < 0.5 * 32 / 2
        assert list(executor.map(abs, range(-100, 0))) == list(range(100, 0, -1))


def test_as_many_workers_as_pay(cluster: None) -> None:
    """With `auto` the number of workers is found while calls are made."""
    with DFZExecutor("auto") as executor:
        assert list(executor.map(abs, range(-100, 0))) == list(range(100, 0, -1))
        assert executor.submit(abs, -1).result(DEADLINE_S) == 1


def test_arguments(cluster: None) -> None:
    """Arguments that can't be are refused as those of the standard library's executors are."""
    for wrong in (0, -1):
        with pytest.raises(ValueError, match="max_workers must be greater than 0"):
            DFZExecutor(wrong)
    with pytest.raises(InvalidInput, match="settings"):
        DFZExecutor(2, config={"no_such": 1})
    with DFZExecutor(2) as executor, pytest.raises(ValueError, match="chunksize must be >= 1"):
        executor.map(abs, [1], chunksize=0)
