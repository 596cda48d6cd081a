"""Code as users write it, for type checkers to look at: it is never run."""

from __future__ import annotations

import asyncio
from concurrent.futures import Executor, Future, as_completed
from typing import assert_type

import dfz_ray
from dfz_ray import (
    BatchHandle,
    CallFailed,
    CallTimedOut,
    ClusterUnusable,
    DFZExecutor,
    Record,
    RemoteTraceback,
    Results,
    TasksFailed,
    domain,
    run,
    submit,
)


@domain("coin", cpus=1, volatile=["at"])
def coin(flips: int = 10, *, seed: int = 0) -> dict[str, int]:
    """Flip a coin."""
    return {"heads": flips // 2 + seed}


def square(x: int) -> float:
    """A function of the user's own."""
    return float(x * x)


def use_domain() -> None:
    """A decorated function keeps its signature, and makes tasks."""
    assert_type(coin(flips=3, seed=1), dict[str, int])
    assert_type(coin(3, seed=1)["heads"], int)
    tasks = [coin.task(flips=100) for _ in range(10)]
    tasks += [coin.task(), coin.task(100)]
    results = run(tasks, max_workers=4, progress=lambda counts: print(counts["running"]))
    assert_type(results, Results)
    assert_type(results["task-0"], Record)
    assert_type(results[0].duration, float | None)
    for record in results:
        assert_type(record, Record)
        print(record.error.reason if record.error else record.result)
    failed = results.select(state="failed")
    print(len(failed), failed.counts["failed"], results.digest, results.metrics["throughput"])
    try:
        print(sum(value["heads"] for value in results.values()))
    except TasksFailed as error:
        print(error.counts)
    print(dfz_ray.__version__, CallFailed, CallTimedOut, ClusterUnusable, RemoteTraceback)


async def use_handle() -> None:
    """A handle iterates both ways."""
    handle = submit("configs/demo.yaml", run_dir="runs/mine", config={"max_workers": 2})
    assert_type(handle, BatchHandle)
    async for record in handle.as_completed(timeout=60):
        assert_type(record, Record)
    for record in handle.as_completed():
        assert_type(record.status, str)
    handle.cancel(["g4"])
    assert_type(handle.wait(1.0), bool)
    assert_type(handle.results(), Results)


async def use_executor() -> None:
    """An executor gives futures of what the function returns."""
    with DFZExecutor(max_workers=2) as executor:
        own: Executor = executor
        future = executor.submit(square, 3)
        assert_type(future, Future[float])
        assert_type(future.result(timeout=10), float)
        wide = executor.options(cpus=2, memory="1GiB", timeout_s=None, retry_on=["timeout"]).submit(square, 4)
        assert_type(executor.max_workers, int)
        assert_type(wide, Future[float])
        for done in as_completed([future, wide]):
            assert_type(done.result(), float)
        for value in executor.map(square, range(10), timeout=5, chunksize=2):
            assert_type(value, float)
        print(await asyncio.get_running_loop().run_in_executor(own, square, 3))
