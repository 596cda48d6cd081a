"""Emulated leases against a real manager: so a machine with few cores shows what a large cluster would ask of one.

Hosts are Ray actors, each with a part of the leases. A lease speaks the lease protocol, and its tasks pass time without
computing. The manager is the one that users run, except that it has its leases started by the hosts.
"""

from __future__ import annotations

import asyncio
import random
import socket
import time
from array import array
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import psutil
import ray

from dfz_ray.engine.messages import StartLease
from dfz_ray.execution.execute import Execution, Work
from dfz_ray.manager.later import Later
from dfz_ray.manager.task_manager import TaskManager
from dfz_ray.protocol.orders import Order, unpack_order, unpack_works
from dfz_ray.protocol.reports import Place, pack_report
from dfz_ray.protocol.submission import OpenedRun
from dfz_ray.protocol.worker_side import WorkerSide
from dfz_ray.worker.relay import Relay

RESULT, DIGEST = b"\xc0", bytes(32)
Exchange = Callable[[bytes], Awaitable[bytes | Order]]


class EmulatingManager(TaskManager):
    """The manager of users; hosts start its leases, once they may."""

    def __init__(self, hosts: Sequence[Any]) -> None:
        super().__init__()
        self._hosts = hosts
        self._over: dict[int, asyncio.Future[None]] = {}
        self._unplaced: list[int] = []
        self._may_place = False
        self._calls = 0

    def exchange(self, packed: bytes) -> bytes | Order | Later[bytes | Order]:
        """Take in a report of a lease, and answer it."""
        self._calls += 1
        return super().exchange(packed)

    async def exchange_group(self, reports: Sequence[bytes]) -> list[Any]:
        """Take in what a relay has gathered."""
        self._calls += 1
        return await super().exchange_group(reports)

    async def count(self) -> tuple[float, int, int]:
        """CPU seconds of this process, calls of leases or relays, and exchanges, so far."""
        cpu_s, exchanges, *_ = await self.get_usage()
        return cpu_s, self._calls, exchanges

    async def open_run(self, run_id: str, *given: Any, **options: Any) -> OpenedRun:
        """Open a run whose leases are emulated."""
        opened = await super().open_run(run_id, *given, **options)
        self._runs[run_id]._lanes.call = self._call  # type: ignore[method-assign]
        return opened

    def _call(self, command: StartLease) -> Any:
        if not self._unplaced:
            asyncio.get_running_loop().call_soon(self._place)
        self._unplaced.append(command.lease)
        over = self._over[command.lease] = asyncio.get_running_loop().create_future()
        return over

    async def place(self) -> None:
        """Let the hosts start leases, those that wait and all later ones."""
        self._may_place = True
        self._place()

    def _place(self) -> None:
        if self._may_place:
            unplaced, self._unplaced = self._unplaced, []
            for number, host in enumerate(self._hosts):
                if mine := [lease for lease in unplaced if lease % len(self._hosts) == number]:
                    host.start.remote(mine)

    async def end_leases(self, leases: Sequence[int]) -> None:
        """Take in that the calls of leases have returned."""
        for lease in leases:
            self._over.pop(lease).set_result(None)

    async def measure_memory(self) -> int:
        """The bytes of this process."""
        return int(psutil.Process().memory_info().rss)


class Leases:
    """The leases of one host."""

    def __init__(self, run_id: str, task_s: float) -> None:
        self._run_id = run_id
        self._task_s = task_s
        self._place = Place(socket.gethostname(), ray.get_runtime_context().get_node_id(), 0, 0.0, "")
        self._draw = random.Random(ray.get_runtime_context().get_actor_id())  # noqa: S311 - times, not secrets
        self._serving: set[asyncio.Task[None]] = set()
        self._chunks = array("d")
        """Begin and end of every chunk."""
        self._waits = array("d")
        """The time at which a chunk began, and how long its slot had waited since the one before."""
        self._first_rounds = 0

    def start(self, manager: Any, exchange: Exchange, leases: Sequence[int]) -> None:
        """Start leases."""
        for lease in leases:
            task = asyncio.create_task(self._serve(manager, exchange, lease))
            self._serving.add(task)
            task.add_done_callback(self._serving.discard)

    async def _serve(self, manager: Any, exchange: Exchange, lease: int) -> None:
        """Do as a worker does, with one thread. It begins at any time, so that slots ask at any time."""
        await asyncio.sleep(self._draw.random() * self._task_s)
        side, begun, ended_at, is_first = WorkerSide(lease, self._place), None, 0.0, True
        while True:
            report = side.find_report(time.monotonic())
            if report is None and begun is None:
                break
            answer = None if report is None else asyncio.ensure_future(exchange(pack_report(self._run_id, report)))
            if begun is not None:
                held, works = begun
                began_at = time.time()
                if ended_at:
                    self._waits.extend((began_at, began_at - ended_at))
                executions = foretell_chunk(works, began_at, self._task_s, held.budget_s)
                ended_at = executions[-1].ended_at
                self._chunks.extend((began_at, ended_at))
                await asyncio.sleep(ended_at - time.time())
                side.end_task(held, executions)
                self._first_rounds += is_first
                is_first = False
            if answer is not None:
                idle_since = time.monotonic()
                order = unpack_order(await answer)
                side.note_wait(time.monotonic() - idle_since)
                side.on_order(order._replace(works=[order.works]), time.monotonic())
            begun = side.begin_task(time.monotonic())
            if begun is not None:
                begun = begun[0], unpack_works(begun[1])
        await manager.end_leases.remote([lease])

    def count_first_rounds(self) -> int:
        """The number of leases that have ended their first chunk."""
        return self._first_rounds

    def measure(self, begin: float, end: float) -> tuple[float, bytes]:
        """The seconds of tasks within a window of time, over all slots, and the waits that ended there."""
        times = iter(self._chunks)
        busy_s = sum(
            max(0.0, min(ended_at, end) - max(began_at, begin)) for began_at, ended_at in zip(times, times, strict=True)
        )
        times = iter(self._waits)
        waits = array("d", [wait_s for at, wait_s in zip(times, times, strict=True) if begin <= at <= end])
        return busy_s, waits.tobytes()


def foretell_chunk(works: Sequence[Work], began_at: float, task_s: float, budget_s: float) -> list[Execution]:
    """The tasks of a chunk that a worker will have executed: once its time is used up, no further one begins."""
    return [
        Execution(work.number, began_at + at * task_s, began_at + (at + 1) * task_s, 0.0, RESULT, DIGEST, None)
        for at, work in enumerate(works)
        if not at or at * task_s <= budget_s
    ]


class RelayHost:
    """Nodes with relays, those that users get; each lease talks to the manager through one of them."""

    def __init__(self, run_id: str, task_s: float, relays: int) -> None:
        self._leases = Leases(run_id, task_s)
        self._count = relays
        self._relays: list[Relay] = []
        self._manager: Any = None

    async def connect(self, manager: Any) -> None:
        """Take the handle of the manager."""
        self._manager = manager
        self._relays = [Relay(manager) for _ in range(self._count)]

    async def start(self, leases: Sequence[int]) -> None:
        """Start leases."""
        for number, relay in enumerate(self._relays):
            self._leases.start(self._manager, relay.exchange, leases[number :: len(self._relays)])

    async def count_first_rounds(self) -> int:
        """The number of leases that have ended their first chunk."""
        return self._leases.count_first_rounds()

    async def measure(self, begin: float, end: float) -> tuple[float, bytes]:
        """The seconds of tasks within a window of time, over all slots, and the waits that ended there."""
        return self._leases.measure(begin, end)


class Host:
    """A node: its leases talk to the manager each by itself."""

    def __init__(self, run_id: str, task_s: float) -> None:
        self._leases = Leases(run_id, task_s)
        self._manager: Any = None

    async def connect(self, manager: Any) -> None:
        """Take the handle of the manager."""
        self._manager = manager

    async def start(self, leases: Sequence[int]) -> None:
        """Start leases."""
        manager = self._manager
        self._leases.start(manager, manager.exchange.remote, leases)

    async def count_first_rounds(self) -> int:
        """The number of leases that have ended their first chunk."""
        return self._leases.count_first_rounds()

    async def measure(self, begin: float, end: float) -> tuple[float, bytes]:
        """The seconds of tasks within a window of time, over all slots, and the waits that ended there."""
        return self._leases.measure(begin, end)
