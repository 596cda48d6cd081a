"""The least that a call through an actor can cost on Ray: an executor that passes calls on, and does nothing else.

The driver submits to an actor, the actor answers a worker that waits for work, the worker reports to the actor, and the
actor answers the driver, whose call waits for the end: so dfz_ray's driver, manager and worker talk to each other. Here
these four messages, one argument or answer of bytes each, have nothing in them but the call and its result. There is
no state, no journal and no deadline.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import pickle
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from queue import SimpleQueue
from typing import Any

import ray
from ray import cloudpickle
from workloads import do_nothing

from dfz_ray.driver.connection import connect
from dfz_ray.worker.answer import Answer

CHAIN = "calls: a chain, each call"
DASK = "dask's scheduler"
CHAIN_CALLS = 40


NUMBER = 8
"""The bytes of the number that each call begins with, and each result."""
THREADS = 64


class Middle:
    """Passes calls on to workers, and their results back. It is an actor with threads, as the manager is."""

    def __init__(self) -> None:
        self._calls: SimpleQueue[bytes] = SimpleQueue()
        self._results: defaultdict[bytes, SimpleQueue[bytes]] = defaultdict(SimpleQueue)

    def call(self, call: bytes) -> bytes:
        """Take in a call, and return its result once there is one."""
        result = self._results[call[:NUMBER]]
        self._calls.put(call)
        return result.get()

    def exchange(self, ended: bytes) -> bytes:
        """Take in the result of a call that has ended, and answer with the next one; nothing is the end of all."""
        if ended:
            self._results.pop(ended[:NUMBER]).put(ended)
        return self._calls.get()

    def end(self, workers: int) -> None:
        """Let the workers end."""
        for _ in range(workers):
            self._calls.put(b"")


def serve(middle: ray.actor.ActorHandle) -> None:
    """A worker that makes one call after the other."""
    ended = b""
    while call := Answer(middle.exchange.remote(ended)).read():
        function, arguments = pickle.loads(call[NUMBER:])  # noqa: S301 - our own
        ended = call[:NUMBER] + pickle.dumps(function(*arguments))


class BareExecutor(Executor):
    """An executor on such an actor."""

    def __init__(self, max_workers: int) -> None:
        self._max_workers = max_workers  # as dask asks for it
        self._numbers = itertools.count()
        self._middle = ray.remote(num_cpus=0, max_concurrency=THREADS)(Middle).remote()
        self._serving = [ray.remote(serve).remote(self._middle) for _ in range(max_workers)]

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Call a function in a worker."""
        called: Future[Any] = Future()
        number = next(self._numbers).to_bytes(NUMBER)
        reference = self._middle.call.remote(number + cloudpickle.dumps((fn, args)))

        def pass_on(answered: Future[bytes]) -> None:
            called.set_result(pickle.loads(answered.result()[NUMBER:]))  # noqa: S301 - our own

        reference.future().add_done_callback(pass_on)
        return called

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Let the workers end."""
        self._middle.end.remote(self._max_workers)
        ray.get(self._serving)


@contextlib.contextmanager
def open_messages(options: argparse.Namespace, step_s: float) -> Iterator[dict[str, Callable[[], dict[str, float]]]]:
    """A chain of such calls, and dask's scheduler, whose tasks go one by one, too."""
    measures: dict[str, Callable[[], dict[str, float]]] = {}
    if not {"calls", "clients"}.intersection(options.what):
        yield measures
        return
    connect("local", logical_cpus=options.cpus)
    with BareExecutor(options.workers) as executor:

        def chain() -> dict[str, float]:
            begun = time.perf_counter()
            for number in range(CHAIN_CALLS):
                executor.submit(do_nothing, number).result()
            return {"ms": 1e3 * (time.perf_counter() - begun) / CHAIN_CALLS}

        def schedule() -> dict[str, float]:
            from client_programs import CALL_S, PROGRAMS

            begun = time.perf_counter()
            PROGRAMS[DASK](executor, round(CALL_S / step_s))
            return {"s": time.perf_counter() - begun}

        if "calls" in options.what:
            measures[CHAIN] = chain
        if "clients" in options.what:
            measures[f"clients: {DASK}"] = schedule
        yield measures
