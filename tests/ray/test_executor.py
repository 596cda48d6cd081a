"""DFZExecutor: calls of whatever can be called, batched by themselves, with resources, deadlines and priorities."""

from __future__ import annotations

import asyncio
import concurrent.futures
import functools
import gc
import itertools
import os
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections import deque
from collections.abc import Iterator
from concurrent.futures import BrokenExecutor, CancelledError, Future
from pathlib import Path
from typing import Any

import pytest
import ray

from dfz_ray import DFZExecutor, InvalidInput
from dfz_ray.driver.domain_shipping import ship_by_value
from dfz_ray.driver.manager_client import get_manager
from dfz_ray.driver.run_session import RunSession
from dfz_ray.errors import CallFailed, DfzError, InfrastructureLost, RemoteTraceback, RunFolderRefused
from dfz_ray.executor.call_run import CallRun, ExecutorBroken
from dfz_ray.executor.future import CallFuture
from dfz_ray.executor.map import CallMap
from dfz_ray.journal.reader import JournalReader
from dfz_ray.journal.run_audit import audit_run

ship_by_value(sys.modules[__name__])  # the workers need not have this module
ROOT = Path(__file__).parents[2]
DEADLINE_S = 30.0


def wait_until(what: Any) -> None:
    """Wait for a condition, with a deadline."""
    until = time.monotonic() + DEADLINE_S
    while not what():
        assert time.monotonic() < until, "it does not come true"
        time.sleep(0.01)


def live_run(executor: DFZExecutor) -> RunSession:
    """The run behind an executor."""
    run: CallRun = executor._run
    return run._run


def crash() -> None:
    """Take the worker along."""
    os.kill(os.getpid(), signal.SIGKILL)


def threads_of_the_worker() -> str | None:
    """What a worker was told of its threads."""
    return os.environ.get("OMP_NUM_THREADS")


def wait_for_file(path: str) -> str:
    """Run until there is such a file."""
    until = time.monotonic() + DEADLINE_S
    while not Path(path).exists():
        assert time.monotonic() < until
        time.sleep(0.005)
    return "seen"


def touch(path: str) -> None:
    """Make a file."""
    Path(path).touch()


def begin_and_wait(begun: str, go: str) -> str:
    """Say that this has begun, and wait."""
    touch(begun)
    return wait_for_file(go)


@pytest.fixture(scope="module")
def executor(cluster: None) -> Iterator[DFZExecutor]:
    """An executor of two workers, for what leaves nothing behind."""
    with DFZExecutor(2) as made:
        yield made


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
    told: list[int] = []
    futures = [executor.submit(abs, -n) for n in range(20)]
    for future in futures:
        future.add_done_callback(lambda ended: told.append(ended.result()))

    seen = [future.result() for future in concurrent.futures.as_completed(futures, timeout=DEADLINE_S)]

    assert sorted(seen) == list(range(20))
    wait_until(lambda: len(told) == 20)
    assert not concurrent.futures.wait(futures, timeout=0).not_done


def test_a_callback_may_submit(executor: DFZExecutor) -> None:
    """What is submitted by the callback of another call is executed as well."""
    second: list[Future[int]] = []
    executor.submit(abs, -1).add_done_callback(lambda ended: second.append(executor.submit(abs, ended.result() - 3)))
    wait_until(lambda: second)
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
    """Calls get the CPUs that were asked for, as their threads; unknown and impossible options are told at once."""
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


def ray_cpus() -> float:
    """The CPUs that Ray has given to this worker."""
    return float(ray.get_runtime_context().get_assigned_resources()["CPU"])


def ray_cpus_of(_: int) -> float:
    """The same, with an argument."""
    return ray_cpus()


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
    """A call that a worker has begun is running, and can't be cancelled; one that waits can."""
    begun, go = str(tmp_path / "begun"), str(tmp_path / "go")
    with DFZExecutor(1) as single:
        first = single.submit(begin_and_wait, begun, go)
        wait_until(first.running)
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


def test_shutting_down_cancels_what_waits(cluster: None, tmp_path: Path) -> None:
    """With cancel_futures what has not begun is cancelled, items of a map as well; what has begun ends."""
    begun, go = str(tmp_path / "begun"), str(tmp_path / "go")
    executor = DFZExecutor(1)
    first = executor.submit(begin_and_wait, begun, go)
    wait_until(first.running)
    waiting = [executor.submit(abs, -1) for _ in range(10)]
    results = executor.map(abs, range(1000))

    executor.shutdown(wait=False, cancel_futures=True)

    assert all(future.cancelled() for future in waiting)
    with pytest.raises(CancelledError):
        next(results)
    touch(go)
    assert first.result(DEADLINE_S) == "seen"
    executor.shutdown()


def test_an_executor_that_is_given_up(cluster: None) -> None:
    """An executor that nobody holds any more ends its calls, and then its run; no thread and no folder is left."""
    executor = DFZExecutor(2)
    folder, threads = live_run(executor).folder, live_run(executor)._threads
    future, results, gone = executor.submit(abs, -1), executor.map(abs, range(-100, 0)), weakref.ref(executor)
    del executor
    gc.collect()

    assert gone() is None
    assert future.result(DEADLINE_S) == 1
    assert list(results) == list(range(100, 0, -1))
    wait_until(lambda: not folder.exists())
    wait_until(lambda: not any(thread.is_alive() for thread in threads))


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
    """Where the manager dies another one goes on: no call is lost, and none has two outcomes."""
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


def test_the_run_is_written_down(cluster: None, tmp_path: Path) -> None:
    """Each call is a task of the run, under its function's name; the run is not gone on with, for it holds code."""
    from dfz_ray.client import run_checked

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
        run_checked(None, read_settings_of(), run_dir=tmp_path / "run")


def read_settings_of() -> Any:
    """The default settings."""
    from dfz_ray.specs.settings import Settings

    return Settings()


def test_no_ray(cluster: None) -> None:
    """Where there is no Ray at the address, the futures and the next submit say so."""
    executor = DFZExecutor(2, address="127.0.0.1:1")
    with pytest.raises(BrokenExecutor, match="the run can't go on"):
        submit_and_wait(executor)
    wait_until(lambda: executor._run.is_shut)
    with pytest.raises(BrokenExecutor, match="the run can't go on"):
        executor.submit(abs, 1)
    executor.shutdown()


def submit_and_wait(executor: DFZExecutor) -> int:
    """A call, and its result."""
    return executor.submit(abs, -1).result(DEADLINE_S)


def test_a_map_of_a_run_that_can_not_be_opened(cluster: None, tmp_path: Path) -> None:
    """A map that was asked for before the run has failed to open says so; to say it twice changes nothing."""
    (tmp_path / "something").touch()
    executor = DFZExecutor(2, run_dir=tmp_path)
    run: CallRun = executor._run
    with run._lock:  # as long as it is held, the end is told to nobody
        results = executor.map(abs, range(1000))
        (made,) = run._sources
        assert isinstance(made, CallMap)
        groups = list(made._groups)
        assert len(groups) < 1000

    wait_until(lambda: not made._groups)
    for group in groups:
        group.fail(ValueError())

    assert {type(value.error) for value in made._values} == {ExecutorBroken}
    with pytest.raises(BrokenExecutor, match="the run can't go on"):
        next(results)


def test_a_map_that_is_waited_for_as_its_run_fails(cluster: None, tmp_path: Path) -> None:
    """Who waits for the results of a map hears why there are none, and not that they were cancelled."""
    (tmp_path / "something").touch()
    with pytest.raises(BrokenExecutor, match="the run can't go on"):
        list(DFZExecutor(2, run_dir=tmp_path).map(abs, range(1000)))


def test_calls_that_are_sent_as_the_run_ends(cluster: None) -> None:
    """A call that relies on the request of another thread gets its end, when that request is refused."""
    executor = DFZExecutor(2, address="127.0.0.1:1")
    run: CallRun = executor._run
    wait_until(lambda: run.has_ended)
    left = CallFuture(run, executor._treatment, run.packer.pack(abs, (1,), {}))
    run._waiting.append(left)
    mine = CallFuture(run, executor._treatment, run.packer.pack(abs, (1,), {}))

    with pytest.raises(InfrastructureLost, match="the run can't go on"):
        run.send((mine,))
    with pytest.raises(BrokenExecutor, match="the run can't go on"):
        left.result(DEADLINE_S)


class Shrinking(deque[Any]):
    """A queue of which another thread takes something just after this one has asked for its length."""

    def __len__(self) -> int:
        return super().__len__() + 1


def test_calls_that_another_thread_takes(cluster: None, tmp_path: Path) -> None:
    """What waits is told of the end, though another thread takes from it at the same moment."""
    (tmp_path / "something").touch()
    executor = DFZExecutor(2, run_dir=tmp_path)
    run: CallRun = executor._run
    run._waiting = Shrinking()
    future = executor.submit(abs, 1)
    with pytest.raises(BrokenExecutor, match="the run can't go on"):
        future.result(DEADLINE_S)


def test_a_folder_that_is_taken(cluster: None, tmp_path: Path) -> None:
    """A folder that holds something else is refused."""
    (tmp_path / "something").touch()
    executor = DFZExecutor(2, run_dir=tmp_path)
    with pytest.raises(BrokenExecutor) as caught:
        submit_and_wait(executor)
    assert isinstance(caught.value.__cause__, RunFolderRefused)


@pytest.mark.parametrize("chunksize", [None, 1, 7, 1000])
def test_map_keeps_the_order(executor: DFZExecutor, chunksize: int | None) -> None:
    """Results come in order, whatever goes together, from several iterables up to the end of the shortest."""
    results = executor.map(lambda x, y: (x, y), range(500), "ab" * 200, chunksize=chunksize)
    assert list(results) == list(zip(range(500), "ab" * 200, strict=False))


def test_map_ends_at_an_exception(executor: DFZExecutor) -> None:
    """An exception is raised where its result is due, after all results before it, whatever went together."""
    seen: list[int] = []
    with pytest.raises(ZeroDivisionError):
        seen.extend(executor.map(lambda x: 100 // (1500 - x), range(3000)))
    assert seen == [100 // (1500 - x) for x in range(1500)]


def test_map_with_a_crash(executor: DFZExecutor) -> None:
    """A call that kills its worker fails alone, whatever was sent together with it."""
    seen: list[int] = []
    with pytest.raises(CallFailed, match="worker_crashed"):
        seen.extend(executor.options(max_attempts=1).map(lambda n: crash() if n == 700 else n, range(1000)))
    assert seen == list(range(700))


def test_map_with_an_item_that_can_not_travel(executor: DFZExecutor) -> None:
    """An item that can't be pickled is an error where its result is due, and the executor ends as ever."""
    seen: list[Any] = []
    with pytest.raises(TypeError, match="cannot pickle"):
        seen.extend(executor.map(type, [*range(50), threading.Lock(), 1]))
    assert seen == [int] * 50
    with DFZExecutor(1) as other, pytest.raises(TypeError, match="cannot pickle"):
        list(other.map(type, [threading.Lock()], chunksize=5))
    assert list(executor.map(abs, [])) == []


def test_map_with_many_items_that_can_not_travel(cluster: None, tmp_path: Path) -> None:
    """Where whole portions of a map can't be pickled, what follows is called all the same, and the executor ends."""
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
    """Calls that are all given one list each have it as it is in the driver, whatever goes together."""
    seen: list[int] = []
    results = list(executor.map(append, range(500), itertools.repeat(seen)))
    assert results == [[n] for n in range(500)]
    assert seen == []


def append(number: int, to: list[int]) -> list[int]:
    """Append; returns the list."""
    to.append(number)
    return to


def test_map_with_calls_that_turn_out_long(executor: DFZExecutor) -> None:
    """Where short calls are followed by long ones, these are shared out: no worker is left with all of them."""
    begun = time.monotonic()
    processes = list(executor.map(sleep_and_tell, [0.0] * 2000 + [0.05] * 40))
    took_s = time.monotonic() - begun

    assert len(set(processes[2000:])) == 2
    assert took_s < 0.05 * 40 + 5.0


def sleep_and_tell(duration_s: float) -> int:
    """Sleep; returns which process slept."""
    if duration_s:
        time.sleep(duration_s)
    return os.getpid()


def test_map_of_large_values(executor: DFZExecutor) -> None:
    """Quick calls with large arguments and results go together only as far as memory is not in danger."""
    items = [bytes([n % 256]) * 300_000 for n in range(150)]
    assert list(executor.map(lambda item: item + b"!", items)) == [item + b"!" for item in items]
    largest = max(len(slot.items) for slot in seen_groups(executor, items))
    assert largest <= 2**22 / 300_000


def seen_groups(executor: DFZExecutor, items: list[bytes]) -> list[Any]:
    """The groups of a map, as they were sent."""
    groups: list[Any] = []
    run: CallRun = executor._run
    made = CallMap(run, run.packer.pack_function(len), executor._treatment, [(item,) for item in items], None, None)
    values = made.results()
    for _ in items:
        groups += made._groups
        next(values)
    return groups


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
    """A result that is not there in time is a TimeoutError, after those that are."""
    results = executor.map(time.sleep, [0, 0, 5], timeout=2)
    assert [next(results), next(results)] == [None, None]
    with pytest.raises(TimeoutError):
        next(results)


def test_a_map_that_is_left(executor: DFZExecutor, tmp_path: Path) -> None:
    """Closing the iterator cancels what has not begun."""
    results = executor.map(wait_for_file, [str(tmp_path / "go")] * 500)
    touch(str(tmp_path / "go"))
    assert next(results) == "seen"
    results.close()  # type: ignore[attr-defined]
    assert executor.submit(abs, -1).result(DEADLINE_S) == 1


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
