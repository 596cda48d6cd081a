"""The compared ways to run a list of tasks, each used as its own documentation says."""
# ruff: noqa: D102 - Contestant documents its methods

from __future__ import annotations

import contextlib
import heapq
import importlib.util
import multiprocessing
import os
import sys
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from workloads import burn


class Contestant:
    """One way to run tasks: opened once, and then asked to run one batch after the other.

    Args:
        workers: how many tasks may execute at once.
        folder: where it may write.
    """

    label = ""
    packages: Sequence[str] = ()
    """Packages that must be installed."""
    durable = True
    """True if it waits for the disk, where it writes results to files."""

    def __init__(self, workers: int, folder: Path) -> None:
        self.workers = workers
        self.folder = folder

    def open(self) -> None:
        """Start the workers."""

    def prepare(self, iterations: Sequence[int], kinds: Sequence[str] | None) -> Any:
        """The argument of `run`, made before the clock starts."""
        return iterations

    def run(self, prepared: Any) -> Sequence[int]:
        """Run `burn` for each; returns all results in order."""
        raise NotImplementedError

    def close(self) -> None:
        """Stop the workers."""


class Limit(Contestant):
    """No scheduler at all: each process gets its whole share at once, cut by the known lengths of tasks."""

    label = "limit"

    def open(self) -> None:
        spawn = multiprocessing.get_context("spawn")
        pairs = [spawn.Pipe() for _ in range(self.workers)]
        self._connections = [ours for ours, _ in pairs]
        for _, theirs in pairs:
            spawn.Process(target=_serve_shares, args=(theirs,), daemon=True).start()

    def prepare(self, iterations: Sequence[int], kinds: Sequence[str] | None) -> Any:
        return share_out(iterations, self.workers), len(iterations)

    def run(self, prepared: Any) -> Sequence[int]:
        shares, count = prepared
        for connection, share in zip(self._connections, shares, strict=True):
            connection.send([length for _, length in share])
        results = [0] * count
        for connection, share in zip(self._connections, shares, strict=True):
            for (number, _), result in zip(share, connection.recv(), strict=True):
                results[number] = result
        return results

    def close(self) -> None:
        for connection in self._connections:
            connection.close()


def share_out(lengths: Sequence[int], workers: int) -> list[list[tuple[int, int]]]:
    """Numbers and lengths of the tasks of each worker: the longest first, each to who has least (LPT)."""
    shares: list[list[tuple[int, int]]] = [[] for _ in range(workers)]
    loads = [(0, worker) for worker in range(workers)]
    for number in sorted(range(len(lengths)), key=lengths.__getitem__, reverse=True):
        load, worker = heapq.heappop(loads)
        shares[worker].append((number, lengths[number]))
        heapq.heappush(loads, (load + lengths[number], worker))
    return shares


def _serve_shares(connection: Connection) -> None:
    with contextlib.suppress(EOFError):
        while True:
            connection.send([burn(length) for length in connection.recv()])


class Joblib(Contestant):
    """joblib with its default backend, loky, and automatic batches."""

    label, packages = "joblib", ("joblib",)

    def open(self) -> None:
        from joblib import Parallel, delayed

        self._parallel = Parallel(n_jobs=self.workers).__enter__()  # its workers are kept until it is left
        self._call = delayed(burn)

    def run(self, prepared: Any) -> Sequence[int]:
        results: list[int] = self._parallel(self._call(length) for length in prepared)
        return results

    def close(self) -> None:
        from joblib.externals.loky import get_reusable_executor

        self._parallel.__exit__(None, None, None)
        get_reusable_executor().shutdown()  # it would stay, in case that someone uses joblib again


class Mpire(Contestant):
    """mpire's map."""

    label, packages = "mpire", ("mpire",)

    def open(self) -> None:
        from mpire import WorkerPool

        self._pool = WorkerPool(self.workers, keep_alive=True)

    def run(self, prepared: Any) -> Sequence[int]:
        results: list[int] = self._pool.map(burn, prepared)
        return results

    def close(self) -> None:
        self._pool.stop_and_join()


class Futures(Contestant):
    """concurrent.futures: one `submit` per task."""

    label = "ProcessPool submit"

    def open(self) -> None:
        from concurrent.futures import ProcessPoolExecutor

        self._pool = ProcessPoolExecutor(self.workers)

    def run(self, prepared: Any) -> Sequence[int]:
        futures = [self._pool.submit(burn, length) for length in prepared]
        return [future.result() for future in futures]

    def close(self) -> None:
        self._pool.shutdown()


class FuturesChunks(Futures):
    """concurrent.futures: `map`, with the chunks that multiprocessing would choose: four for each worker."""

    label = "ProcessPool map"

    def run(self, prepared: Any) -> Sequence[int]:
        return list(self._pool.map(burn, prepared, chunksize=-(-len(prepared) // (4 * self.workers))))


class RayTasks(Contestant):
    """Plain Ray: one remote call per task."""

    label, packages = "Ray tasks", ("ray",)

    def open(self) -> None:
        import ray

        _start_ray(self.workers)
        self._function = ray.remote(burn)

    def run(self, prepared: Any) -> Sequence[int]:
        import ray

        results: list[int] = ray.get([self._function.remote(length) for length in prepared])
        return results

    def close(self) -> None:
        import ray

        ray.shutdown()


class RayPool(RayTasks):
    """Ray's multiprocessing.Pool: actors, and chunks of equal numbers of tasks."""

    label, packages = "Ray Pool.map", ("ray",)

    def open(self) -> None:
        from ray.util.multiprocessing import Pool

        _start_ray(self.workers)
        self._pool = Pool(self.workers)

    def run(self, prepared: Any) -> Sequence[int]:
        results: list[int] = self._pool.map(burn, prepared)
        return results


def _start_ray(workers: int) -> None:
    import ray

    ray.init(address="local", num_cpus=workers, include_dashboard=False, log_to_driver=False, logging_level="error")


class Parsl(Contestant):
    """Parsl with its high-throughput executor on this machine."""

    label, packages = "Parsl", ("parsl",)

    def open(self) -> None:
        import parsl
        from parsl.config import Config
        from parsl.executors import HighThroughputExecutor
        from parsl.providers import LocalProvider

        # It looks for its own programs there, which need not be on it where a virtual environment is not activated.
        os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        executor = HighThroughputExecutor(
            max_workers_per_node=self.workers,
            address="127.0.0.1",
            provider=LocalProvider(init_blocks=1, min_blocks=1, max_blocks=1),
        )
        config = Config(executors=[executor], run_dir=str(self.folder / "parsl"), initialize_logging=False)
        self._kernel = parsl.load(config)
        self._app = parsl.python_app(burn)

    def run(self, prepared: Any) -> Sequence[int]:
        futures = [self._app(length) for length in prepared]
        return [future.result() for future in futures]

    def close(self) -> None:
        import parsl

        self._kernel.cleanup()
        parsl.clear()


class Dask(Contestant):
    """Dask distributed on this machine: a scheduler, and workers of one thread."""

    label, packages = "Dask distributed", ("distributed", "dask")

    def open(self) -> None:
        from distributed import Client, LocalCluster

        self._cluster = LocalCluster(
            n_workers=self.workers,
            threads_per_worker=1,
            dashboard_address=None,
            local_directory=str(self.folder),
            silence_logs=50,
        )
        self._client = Client(self._cluster)

    def run(self, prepared: Any) -> Sequence[int]:
        results: list[int] = self._client.gather(self._client.map(burn, prepared, pure=False))
        return results

    def close(self) -> None:
        self._client.close()
        self._cluster.close()


class DfzRay(Contestant):
    """dfz_ray's run(): parameters checked, and every result on disk (fsync) before it is in hand."""

    label, packages = "dfz_ray", ("dfz_ray", "ray")

    def open(self) -> None:
        from burn_domain import burn_task

        from dfz_ray.driver.connection import connect

        connect("local", logical_cpus=self.workers)
        self._task = burn_task.task
        self._runs = 0

    def prepare(self, iterations: Sequence[int], kinds: Sequence[str] | None) -> Any:
        if kinds is None:
            return [self._task(iterations=length) for length in iterations]
        return [self._task(iterations=length, kind=kind) for length, kind in zip(iterations, kinds, strict=True)]

    def run(self, prepared: Any) -> Sequence[int]:
        from dfz_ray import run

        self._runs += 1
        config = {"journal": {"durable": self.durable}}
        where = self.folder / f"run-{self._runs}"
        results = run(prepared, max_workers=self.workers, run_dir=where, progress=False, config=config)
        values: list[int] = results.values()
        return values

    @property
    def last_run(self) -> Path:
        """The folder of the last run."""
        return self.folder / f"run-{self._runs}"

    def close(self) -> None:
        import ray

        ray.shutdown()


CONTESTANTS: dict[str, type[Contestant]] = {
    "limit": Limit,
    "joblib": Joblib,
    "mpire": Mpire,
    "futures": Futures,
    "futures_chunks": FuturesChunks,
    "ray_pool": RayPool,
    "ray_tasks": RayTasks,
    "parsl": Parsl,
    "dask": Dask,
    "dfz_ray": DfzRay,
}


def missing_packages(name: str) -> list[str]:
    """Packages that a contestant needs and that are not installed."""
    return [package for package in CONTESTANTS[name].packages if importlib.util.find_spec(package) is None]
