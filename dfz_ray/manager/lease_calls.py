"""The Ray calls of a run's leases: made, watched, interrupted and killed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError

from dfz_ray.engine.messages import InterruptLease, KillLease, LeaseEnded, LeaseLost
from dfz_ray.errors import InfrastructureLost
from dfz_ray.manager import worker_control
from dfz_ray.manager.nodes import is_alive
from dfz_ray.manager.ray_errors import describe_loss
from dfz_ray.protocol.reports import Place

KILL_AGAIN_S = 1.0
"""Seconds after which a worker is killed by a signal if Ray could not end it, e.g. because it is stopped."""
WHY_KILLED = {
    "timeout": "it ran longer than its deadline, and did not end when interrupted: its worker was killed",
    "preempted": "a task of a higher priority took its slot",
    "cancelled": "a task in its chunk was cancelled and did not end when interrupted: its worker was killed",
}

OnOver = Callable[[LeaseEnded | LeaseLost], None]


@dataclass(slots=True)
class _LeaseCall:
    """One call that has not returned."""

    reference: ray.ObjectRef[Any]
    watcher: asyncio.Task[None]
    place: Place | None = None
    """None until it has reported where it runs."""
    killed: str = ""
    """The reason why it is being killed; else empty."""
    interrupt: asyncio.Task[None] | None = None
    """The last command to its worker that asks it to end tasks."""


class LeaseCalls:
    """The calls of leases that have not returned.

    A worker has `grace_s` to end a cancelled task, from when the signal has reached it.
    """

    def __init__(self, grace_s: float, on_over: OnOver, on_failure: Callable[[BaseException], None]) -> None:
        self._grace_s = grace_s
        self._on_over = on_over
        self._on_failure = on_failure
        self._calls: dict[int, _LeaseCall] = {}
        """By lease."""
        self._commands: set[asyncio.Task[None]] = set()
        """Commands to workers that are on their way."""
        self.tracebacks: dict[int, str] = {}
        """By task that ended its worker: the stack where it hung."""

    def watch(self, lease: int, reference: Any) -> None:
        """Watch the call of a lease."""
        self._calls[lease] = _LeaseCall(reference, asyncio.create_task(self._watch(lease, reference)))

    def place(self, lease: int, place: Place) -> bool:
        """Note where a lease runs; returns False if that is known, or the lease has ended."""
        call = self._calls.get(lease)
        if call is None or call.place is not None:
            return False
        call.place = place
        return True

    def host_of(self, lease: int) -> str | None:
        """The host name of the node that a lease runs on, if it is known."""
        call = self._calls.get(lease)
        return call.place.host if call is not None and call.place is not None else None

    def interrupt(self, command: InterruptLease) -> None:
        """Ask a worker to end tasks."""
        call = self._calls.get(command.lease)
        if call is not None and call.place is not None:
            call.interrupt = self._command(worker_control.interrupt(call.place, command.numbers))

    def kill(self, command: KillLease) -> None:
        """Kill a lease's worker."""
        call = self._calls.get(command.lease)
        if call is not None:
            call.killed = command.why
            self._command(self._kill(command.lease, call.interrupt if command.why == "cancelled" else None))

    async def end_placed(self, grace_s: float, kill_s: float) -> None:
        """Wait until the leases that run have ended; kill those that take longer than a grace."""
        await self._wait_for_placed(grace_s)
        for lease, call in self._calls.items():
            if call.place is not None:
                self._command(self._kill(lease))
        await self._wait_for_placed(kill_s)

    async def _wait_for_placed(self, timeout_s: float) -> None:
        watchers = [call.watcher for call in self._calls.values() if call.place is not None]
        if watchers:
            await asyncio.wait(watchers, timeout=timeout_s)

    async def _kill(self, lease: int, interrupt: asyncio.Task[None] | None = None) -> None:
        """Kill a worker. An interrupt may take long to reach it: it has a grace from then on."""
        if interrupt is not None and not interrupt.done():
            await asyncio.wait([interrupt])
            await asyncio.sleep(self._grace_s)
        call = self._calls.get(lease)
        if call is None:
            return
        # Always by force: after a soft cancellation Ray would ignore a forced one.
        ray.cancel(call.reference, force=True)
        await asyncio.sleep(KILL_AGAIN_S)
        if lease in self._calls and call.place is not None:
            await worker_control.kill(call.place)

    async def _watch(self, lease: int, reference: Any) -> None:
        """Wait for the end of a lease's call, and report how it ended."""
        over: LeaseEnded | LeaseLost = LeaseEnded(lease)
        try:
            await reference
        except RayTaskError as error:
            self._on_failure(InfrastructureLost(f"a lease failed, which is a defect of dfz_ray: {error}"))
        except RayError as error:
            over = await self._find_loss(lease, error)
        except Exception as error:
            self._on_failure(error)
        del self._calls[lease]
        self._on_over(over)

    async def _find_loss(self, lease: int, error: RayError) -> LeaseLost:
        """Find the tasks that a dead worker was executing, and the reason of its death."""
        call, (reason, message) = self._calls[lease], describe_loss(error)
        place = call.place
        if place is None:
            return LeaseLost(lease, message, reason)
        if reason == "node_lost" or not is_alive(place.node_id):
            return LeaseLost(lease, "the node that ran the task was lost", "node_lost")
        crash_report = await worker_control.read_crash_report(place, self._grace_s)
        if crash_report is None:  # Ray may not know yet that the node is dead: no task is charged for that
            return LeaseLost(lease, "the node that ran the task can't be reached", "node_lost")
        executing, killed = crash_report.executing, call.killed
        if executing and (crash_report.dump or (killed == "timeout" and len(executing) > 1)):
            executing = crash_report.overdue
            reason = "timeout" if executing else reason
            self.tracebacks.update(dict.fromkeys(executing, crash_report.dump) if crash_report.dump else {})
        why = killed or ("timeout" if reason == "timeout" else "")
        are_guilty = reason == "timeout" and crash_report.are_guilty
        return LeaseLost(lease, WHY_KILLED.get(why, message), reason, executing, are_guilty)

    def _command(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        command = asyncio.create_task(coroutine)
        self._commands.add(command)
        command.add_done_callback(self._on_command_done)
        return command

    def _on_command_done(self, command: asyncio.Task[None]) -> None:
        self._commands.discard(command)
        error = None if command.cancelled() else command.exception()
        if error is not None:
            self._on_failure(error)
