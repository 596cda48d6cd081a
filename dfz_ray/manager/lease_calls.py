"""The Ray calls of a run's leases: made, watched, interrupted and killed."""

from __future__ import annotations

import asyncio
import time
from collections import Counter, deque
from collections.abc import Callable, Collection, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any

import ray
from ray.exceptions import RayError

from dfz_ray.engine.messages import InterruptLease, KillLease, LeaseEnded, LeaseLost
from dfz_ray.manager import worker_control
from dfz_ray.manager.nodes import is_alive
from dfz_ray.manager.ray_errors import describe_loss, find_process
from dfz_ray.manager.relays import Relays
from dfz_ray.manager.worker_control import REMOTE_S
from dfz_ray.protocol.reports import Place

STARTS_S = 0.002
"""Seconds for which leases are called before other events have their turn; one call takes a quarter of that."""
TOLD_AGAIN_S = 10.0
"""Seconds after which a lease that has given its relay up is told of it again."""
KILL_AGAIN_S = 1.0
"""Seconds after which a worker is killed by a signal if Ray could not end it, e.g. because it is stopped."""
RETURN_S = 2.0
"""Seconds that workers may take to return when their run is closed, or to be gone when they are killed."""
KILL_S = 5.0
"""Seconds that workers may take to be gone when they are killed because they did not return."""
AGAIN_S = 0.02
"""The least seconds between two looks at the time that a worker has had."""
PATIENCE = 100
"""A grace lasts at most so many times as long while the worker waits for a processor."""
BETWEEN_TASKS = (
    "the worker process died between two tasks: it was killed, or the manager's answers did not reach it, "
    "or a task had spoiled it"
)
NOT_LATE = (
    "the worker did not report in time, and was killed, although no task was beyond its deadline: "
    "its process was stopped, or the machine is too slow"
)
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
    lane: int
    place: Place | None = None
    """None until it has reported where it runs."""
    killed: str = ""
    """The reason why it is being killed; else empty."""
    cancelled: set[int] = field(default_factory=set)
    """The tasks that its worker was asked to end."""
    interrupt: asyncio.Task[tuple[float, float]] | None = None
    """The last command to its worker that asks it to end tasks; its result is a time and the worker's wait by then."""
    error: str = ""
    """The error that ended its worker, or for which that can't load the domain; else empty."""
    traceback: str | None = None
    """The traceback of that error."""
    relay: Any = None
    """The relay that it was told of last."""
    told_at: float = 0.0
    """The time at which that was."""


class LeaseCalls:
    """The calls of leases that have not returned.

    A worker has `grace_s` to end a cancelled task, from when the signal has reached it. The time for which it waits for
    a processor does not count. `spare` takes back the kill of a lease, if it is no longer overdue. So many
    `relay_leases`, on one node or on some together, have a relay; None: there is none.
    """

    def __init__(
        self,
        grace_s: float,
        on_over: OnOver,
        spare: Callable[[int], bool],
        on_failure: Callable[[BaseException], None],
        relays: Relays,
        relay_leases: int | None,
    ) -> None:
        self._grace_s = grace_s
        self._spare = spare
        self._on_over = on_over
        self._on_failure = on_failure
        self._relays = relays
        self._relay_leases = relay_leases
        self._calls: dict[int, _LeaseCall] = {}
        """By lease."""
        self._starts: deque[tuple[int, int, Callable[[], Any]]] = deque()
        """The leases that are to be called, each with its lane and the function that does it."""
        self._may_start = True
        self._commands: set[asyncio.Task[Any]] = set()
        """Commands to workers that are on their way."""
        self.tracebacks: dict[int, str] = {}
        """By task that ended its worker: the stack where it hung, or where the error was raised."""

    def start(self, lease: int, lane: int, call: Callable[[], Any]) -> None:
        """Call a lease of a lane soon, and watch its call.

        Few are called at a time, between other events: making calls keeps this thread busy, and workers whose leases
        were called before wait for their first chunks meanwhile.
        """
        if not self._may_start:
            return
        self._starts.append((lease, lane, call))
        if len(self._starts) == 1:
            asyncio.get_running_loop().call_soon(self._start_next)

    def start_no_more(self) -> None:
        """Call no lease any more: the run is over, though its nodes may still become larger."""
        self._may_start = False
        self._starts.clear()

    def _start_next(self) -> None:
        began_at = time.monotonic()
        while self._starts:
            lease, lane, call = self._starts[0]
            try:
                self.watch(lease, lane, call())
            except Exception as error:
                self._starts.clear()
                self._on_failure(error)
                return
            self._starts.popleft()
            if self._starts and time.monotonic() - began_at > STARTS_S:
                asyncio.get_running_loop().call_soon(self._start_next)
                return

    def watch(self, lease: int, lane: int, reference: Any) -> None:
        """Watch the call of a lease."""
        self._calls[lease] = _LeaseCall(reference, asyncio.create_task(self._watch(lease, reference)), lane)

    def count_unplaced(self) -> Counter[int]:
        """By lane, the leases that were called and have not reported a place; those that are to be called do not count.

        A lease that the engine has given up meanwhile counts: Ray still has its request.
        """
        return Counter(call.lane for call in self._calls.values() if call.place is None)

    def place(self, lease: int, place: Place) -> bool:
        """Note where a lease runs; returns False if that is known, or the lease has ended."""
        call = self._calls.get(lease)
        if call is None or call.place is not None:
            return False
        call.place = place
        self._relays.add_lease(place.node_id)
        return True

    def find_new_relay(self, lease: int, is_direct: bool) -> Any:
        """The relay of a lease's node, if there is one that the lease does not use; else None.

        A lease that was told of it, and whose reports come directly, has given it up; it is told again after a while.
        """
        call = self._calls.get(lease)
        if call is None or call.place is None:
            return None
        relay = self._relays.find(call.place.node_id, self._relay_leases)
        if relay is None or (
            relay is call.relay and not (is_direct and time.monotonic() > call.told_at + TOLD_AGAIN_S)
        ):
            return None
        call.relay, call.told_at = relay, time.monotonic()
        return relay

    def find_place(self, lease: int) -> Place | None:
        """The place of a lease, if it is known."""
        call = self._calls.get(lease)
        return call.place if call is not None else None

    def host_of(self, lease: int) -> str | None:
        """The host name of the node that a lease runs on, if it is known."""
        place = self.find_place(lease)
        return place.host if place is not None else None

    def note_error(self, lease: int, message: str, traceback: str | None) -> None:
        """Note the error that ends a lease."""
        call = self._calls.get(lease)
        if call is not None:
            call.error, call.traceback = message, traceback

    def interrupt(self, command: InterruptLease) -> None:
        """Ask a worker to end tasks."""
        call = self._calls.get(command.lease)
        if call is not None and call.place is not None:
            call.cancelled.update(command.numbers)
            call.interrupt = self._command(self._interrupt(call.place, command.numbers))

    async def _interrupt(self, place: Place, numbers: Sequence[int]) -> tuple[float, float]:
        waited_s = await worker_control.interrupt(place, numbers)
        return time.monotonic(), waited_s

    def kill(self, command: KillLease) -> None:
        """Kill a lease's worker, once it has had its grace."""
        self._command(self._kill_overdue(command))

    async def end_placed(self, find_busy: Callable[[], Collection[int]], grace_s: float) -> None:
        """Wait until the leases that Ray has placed have ended, and start no more.

        Those that `find_busy` finds hold work; they are killed after a grace. The others return by themselves, and are
        killed only if they do not: a killed worker serves nobody, and Ray has to start another one for the next run.
        """
        self.start_no_more()
        await self._wait_for(find_busy(), grace_s)
        self._kill_all(find_busy())
        await self._wait_for(self._calls, RETURN_S)
        self._kill_all(self._calls)
        await self._wait_for(self._calls, KILL_S)

    async def _wait_for(self, leases: Collection[int], timeout_s: float) -> None:
        watchers = [call.watcher for lease, call in self._calls.items() if lease in leases and call.place is not None]
        if watchers:
            await asyncio.wait(watchers, timeout=timeout_s)

    def _kill_all(self, leases: Collection[int]) -> None:
        for lease, call in self._calls.items():
            if lease in leases and call.place is not None:
                self._command(self._kill(lease))

    async def _kill_overdue(self, command: KillLease) -> None:
        lease, why = command.lease, command.why
        call = self._calls.get(lease)
        if call is not None and call.place is not None and why != "preempted":
            await self._give_grace(lease, call.place, call.interrupt if why == "cancelled" else None)
            while not (is_spared := self._spare(lease)) and why == "cancelled" and await self._is_innocent(call):
                await asyncio.sleep(max(self._grace_s, AGAIN_S))
            if is_spared:
                return
        if lease in self._calls:
            self._calls[lease].killed = why
            await self._kill(lease)

    async def _is_innocent(self, call: _LeaseCall) -> bool:
        """True if a worker executes tasks, and none that it was asked to end: it will leave those out."""
        executing = await worker_control.read_executing(call.place) if call.place is not None else ()
        return bool(executing) and call.cancelled.isdisjoint(executing)

    async def _give_grace(self, lease: int, place: Place, interrupt: asyncio.Task[tuple[float, float]] | None) -> None:
        """Wait until a worker has had a grace: since an interrupt has reached it, or else from now on."""
        if interrupt is None:
            since, waited_s = time.monotonic(), await worker_control.read_waited(place)
        else:
            since, waited_s = await asyncio.shield(interrupt)
        while lease in self._calls:
            had_s = time.monotonic() - since
            left_s = self._grace_s - had_s + max(0.0, await worker_control.read_waited(place) - waited_s)
            if left_s <= 0 or had_s > PATIENCE * self._grace_s:
                return
            await asyncio.sleep(max(left_s, AGAIN_S))

    async def _kill(self, lease: int) -> None:
        call = self._calls.get(lease)
        if call is None:  # it has ended since the command was given
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
            try:
                await reference
                call = self._calls[lease]
                if call.error and call.place is None:  # it could not load the domain
                    over = LeaseLost(lease, call.error, "exception", traceback=call.traceback)
            except RayError as error:
                over = await self._find_loss(lease, error)
        except Exception as error:
            self._on_failure(error)
        call = self._calls.pop(lease)
        if call.place is not None:
            self._relays.remove_lease(call.place.node_id)
        self._on_over(over)

    async def _find_loss(self, lease: int, error: RayError) -> LeaseLost:
        """Find the tasks that a dead worker was executing, and the reason of its death."""
        call, (reason, message) = self._calls[lease], describe_loss(error)
        place = call.place
        if call.error:
            message = f"an error ended the worker: {call.error}"
        if process := find_process(error):  # it lives, and may not serve another lease
            await worker_control.kill_at(*process)
        if place is None:
            return LeaseLost(lease, message, reason)
        if reason == "node_lost" or not is_alive(place.node_id):
            return LeaseLost(lease, "the node that ran the task was lost", "node_lost")
        crash_report = await worker_control.read_crash_report(place, self._grace_s)
        if crash_report is None:  # Ray may not know yet that the node is dead: no task is charged for that
            return LeaseLost(lease, f"the node of the worker did not answer for {REMOTE_S:g} s", "node_lost")
        executing, traceback, are_guilty = crash_report.executing, call.traceback, False
        if executing and (crash_report.dump or call.killed == "timeout"):
            executing, traceback, are_guilty = crash_report.overdue, crash_report.dump, crash_report.are_guilty
            reason = "timeout" if executing else reason
        if call.killed == "timeout" and reason != "timeout":
            message = NOT_LATE
        elif call.killed or reason == "timeout":
            message = WHY_KILLED[call.killed or reason]
        elif executing is not None and not executing and reason == "worker_crashed" and not call.error:
            message = BETWEEN_TASKS
        had_strays = crash_report.had_strays and reason == "worker_crashed"
        if had_strays and executing:
            executing = None  # the guilty one may have ended: it is searched among all
        if traceback:
            self.tracebacks.update(dict.fromkeys(executing or (), traceback))
        return LeaseLost(lease, message, reason, executing, are_guilty, had_strays=had_strays)

    def _command(self, coroutine: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        command = asyncio.create_task(coroutine)
        self._commands.add(command)
        command.add_done_callback(self._on_command_done)
        return command

    def _on_command_done(self, command: asyncio.Task[Any]) -> None:
        self._commands.discard(command)
        error = None if command.cancelled() else command.exception()
        if error is not None:
            self._on_failure(error)
