"""The Ray calls of a run's leases: made, watched, interrupted and killed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError

from dfz_ray.engine.messages import InterruptLease, KillLease, LeaseEnded, LeaseLost
from dfz_ray.errors import InfrastructureLost
from dfz_ray.manager import worker_control as reach
from dfz_ray.manager.nodes import is_alive
from dfz_ray.manager.ray_errors import describe_loss, reason_of
from dfz_ray.protocol.reports import Place

KILL_AGAIN_S = 1.0
"""A worker that Ray could not end in so long, because it is stopped, say, is killed by a signal."""
WHY_KILLED = {
    "timeout": "it ran longer than its deadline, and did not let go: its worker was killed",
    "preempted": "a task of a higher priority took its slot",
    "cancelled": "a task in its chunk was cancelled and did not let go: its worker was killed",
}

OnOver = Callable[[LeaseEnded | LeaseLost], None]


class LeaseCalls:
    """The calls that are out.

    Args:
        grace_s: how long a worker that was reached may take to let go of what was cancelled.
        on_over: is told how each lease ended.
        on_failure: is told why the run can't go on.
    """

    def __init__(self, grace_s: float, on_over: OnOver, on_failure: Callable[[BaseException], None]) -> None:
        self._grace_s = grace_s
        self._on_over = on_over
        self._on_failure = on_failure
        self._calls: dict[int, ray.ObjectRef[Any]] = {}
        self._places: dict[int, Place] = {}
        self._killed: dict[int, str] = {}
        self._watchers: dict[int, asyncio.Task[None]] = {}
        self._errands: set[asyncio.Task[None]] = set()
        self._interrupts: dict[int, asyncio.Task[None]] = {}
        """The last errand to a lease's worker that asks it to let go."""
        self.tracebacks: dict[int, str] = {}
        """Of tasks that took their worker with them: where it hung."""

    def watch(self, lease: int, call: Any) -> None:
        """A lease was called."""
        self._calls[lease] = call
        self._watchers[lease] = asyncio.create_task(self._watch(lease, call))

    def place(self, lease: int, place: Place) -> bool:
        """A lease runs there; whether that is news."""
        if lease in self._places or lease not in self._calls:
            return False
        self._places[lease] = place
        return True

    def host_of(self, lease: int) -> str | None:
        """The host name of the node that a lease runs on, where that is known."""
        place = self._places.get(lease)
        return place.host if place else None

    def interrupt(self, command: InterruptLease) -> None:
        """Ask a worker to let go of tasks."""
        place = self._places.get(command.lease)
        if place is not None:
            self._interrupts[command.lease] = self._errand(reach.interrupt(place, command.numbers))

    def kill(self, command: KillLease) -> None:
        """Kill a lease's worker."""
        if command.lease in self._calls:
            self._killed[command.lease] = command.why
            asked = self._interrupts.get(command.lease) if command.why == "cancelled" else None
            self._errand(self._kill(command.lease) if asked is None else self._kill_after(asked, command.lease))

    async def end_placed(self, grace_s: float, kill_s: float) -> None:
        """Wait for the ends of the leases that run; those that take longer than a grace are killed."""
        await self._wait_for_placed(grace_s)
        for lease in list(self._places):
            self._errand(self._kill(lease))
        await self._wait_for_placed(kill_s)

    async def _wait_for_placed(self, timeout_s: float) -> None:
        watchers = [self._watchers[lease] for lease in self._places if lease in self._watchers]
        if watchers:
            await asyncio.wait(watchers, timeout=timeout_s)

    async def _kill_after(self, asked: asyncio.Task[None], lease: int) -> None:
        """Kill a worker that does not let go; it may take long to be reached, and only then its grace begins."""
        if not asked.done():
            await asyncio.wait([asked])
            await asyncio.sleep(self._grace_s)
        await self._kill(lease)

    async def _kill(self, lease: int) -> None:
        call, place = self._calls.get(lease), self._places.get(lease)
        if call is None:
            return
        # Always by force: after a soft cancellation Ray would ignore a forced one.
        ray.cancel(call, force=True)
        await asyncio.sleep(KILL_AGAIN_S)
        if lease in self._calls and place is not None:
            await reach.kill(place)

    async def _watch(self, lease: int, call: Any) -> None:
        """Wait for the end of a lease's call, and tell how it came."""
        over: LeaseEnded | LeaseLost = LeaseEnded(lease)
        try:
            await call
        except RayTaskError as error:
            self._on_failure(InfrastructureLost(f"a lease failed, which is a defect of dfz_ray: {error}"))
        except RayError as error:
            over = await self._find_loss(lease, error)
        except Exception as error:
            self._on_failure(error)
        tables: tuple[dict[int, Any], ...]
        tables = (self._calls, self._watchers, self._places, self._killed, self._interrupts)
        for table in tables:
            table.pop(lease, None)
        self._on_over(over)

    async def _find_loss(self, lease: int, error: RayError) -> LeaseLost:
        """Which task a worker that died was executing, and why it died."""
        place, reason, message = self._places.get(lease), reason_of(error), describe_loss(error)
        if place is None:
            return LeaseLost(lease, message, reason)
        if reason == "node_lost" or not is_alive(place.node_id):
            return LeaseLost(lease, "the node that ran the task was lost", "node_lost")
        remains = await reach.read_remains(place, self._grace_s)
        if remains is None:  # Ray may not know yet that the node is dead: no task is to pay for that
            return LeaseLost(lease, "the node that ran the task can't be reached", "node_lost")
        executing, killed = remains.executing, self._killed.get(lease)
        if executing and (remains.dump or (killed == "timeout" and len(executing) > 1)):
            executing = remains.overdue
            reason = "timeout" if executing else reason
            self.tracebacks.update(dict.fromkeys(executing, remains.dump) if remains.dump else {})
        why = killed or ("timeout" if reason == "timeout" else "")
        are_guilty = reason == "timeout" and remains.are_guilty
        return LeaseLost(lease, WHY_KILLED.get(why, message), reason, executing, are_guilty)

    def _errand(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        errand = asyncio.create_task(coroutine)
        self._errands.add(errand)
        errand.add_done_callback(self._on_errand_done)
        return errand

    def _on_errand_done(self, errand: asyncio.Task[None]) -> None:
        self._errands.discard(errand)
        if not errand.cancelled() and errand.exception() is not None:
            self._on_failure(errand.exception() or InfrastructureLost("a worker can't be reached"))
