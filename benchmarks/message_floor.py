"""The least that a call through an actor can cost on Ray: the four messages of a call, with nothing in them.

The driver submits to an actor, the actor answers a worker that waits for work, the worker reports to the actor, and the
actor answers the driver, whose call waits for the end: so dfz_ray's driver, manager and worker talk to each other.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import time
from collections.abc import Callable, Iterator

import ray

from dfz_ray.driver.connection import connect
from dfz_ray.worker.answer import Answer

CHAIN = "calls: a chain, each call"


class Middle:
    """Passes on what the driver submits, and what the worker reports. It is an asyncio actor, as the manager is."""

    def __init__(self) -> None:
        self._submitted: asyncio.Queue[int | None] = asyncio.Queue()
        self._ended: asyncio.Queue[int] = asyncio.Queue()

    async def submit_and_take(self, number: int | None) -> int | None:
        """Take in a call, and return what has ended, once there is something; None is the end of all."""
        self._submitted.put_nowait(number)
        return None if number is None else await self._ended.get()

    async def exchange(self, ended: int | None) -> int | None:
        """Take in what has ended, and answer with the next call once there is one."""
        if ended is not None:
            self._ended.put_nowait(ended)
        return await self._submitted.get()


def serve(middle: ray.actor.ActorHandle) -> None:
    """A worker that does nothing."""
    number = None
    while (number := Answer(middle.exchange.remote(number)).read()) is not None:
        pass


@contextlib.contextmanager
def open_messages(options: argparse.Namespace, step_s: float) -> Iterator[dict[str, Callable[[], dict[str, float]]]]:
    """A chain of such calls."""
    measures: dict[str, Callable[[], dict[str, float]]] = {}
    if "calls" not in options.what:
        yield measures
        return
    connect("local", logical_cpus=options.cpus)
    middle = ray.remote(num_cpus=0, max_concurrency=1_000)(Middle).remote()
    serving = ray.remote(serve).remote(middle)

    def chain(calls: int = 40) -> dict[str, float]:
        begun = time.perf_counter()
        for number in range(calls):
            if ray.get(middle.submit_and_take.remote(number)) != number:
                raise AssertionError("another call has ended")
        return {"ms": 1e3 * (time.perf_counter() - begun) / calls}

    yield {CHAIN: chain}
    middle.submit_and_take.remote(None)
    ray.get(serving)
