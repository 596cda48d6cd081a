"""The TaskManager: the Ray actor that tracks the state of every task. A driver process has one for all its runs."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc
import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ray

from dfz_ray.errors import InfrastructureLost
from dfz_ray.journal.landmark import Landmark
from dfz_ray.journal.recovery import open_for_work
from dfz_ray.manager.active_run import ActiveRun
from dfz_ray.manager.gates import Gates
from dfz_ray.manager.later import Later, run_later
from dfz_ray.manager.manager_cost import ManagerCost
from dfz_ray.manager.relays import Relays
from dfz_ray.protocol.lease_protocol import Message
from dfz_ray.protocol.message_bytes import unpack_message
from dfz_ray.protocol.orders import Order, pack_order
from dfz_ray.protocol.reports import unpack_report
from dfz_ray.protocol.submission import OpenedRun, RunOptions, ShippedDomain, Submission
from dfz_ray.protocol.task_events import TaskEvents

SWITCH_S = 0.0005
"""Seconds for which one of its threads may keep the others from running; with Python's 0.005 commits would wait."""
TOGETHER_S = 0.003
"""For so long the end of a task that came with others may wait for all open ones: an answer costs a core 1.5 ms."""


class TaskManager:
    """Passes each message on to its run; it decides nothing itself.

    Its methods are turns of one event loop, never two at once (`actor.py`); a run's journal has a thread of its own.
    `most_waiting` leases may linger at once: each of them holds a thread of the actor.
    """

    def __init__(self, is_nested: bool = False, niceness: int | None = None, most_waiting: int = 100) -> None:
        self._is_nested, self._most_waiting = is_nested, most_waiting
        _end_at_once_on_sigterm()
        _become_less_nice(niceness)
        sys.setswitchinterval(SWITCH_S)
        gc.freeze()  # the garbage collector need not look at imported modules again and again
        self._runs: dict[str, ActiveRun] = {}
        self._gates = Gates()
        self._exchanges = 0
        self._cost = ManagerCost()
        self._handle = ray.get_runtime_context().current_actor
        """By which workers and relays call this manager: always the same object, so that they load it once."""
        self._relays = Relays(self._handle)

    def __repr__(self) -> str:
        """Its name where the dashboard groups what it called."""
        return "dfz manager"

    async def open_run(
        self,
        run_id: str,
        folder: str,
        options: RunOptions,
        meta: dict[str, str],
        retry_failed: bool,
        landmark: Landmark | None = None,
    ) -> OpenedRun:
        """Open a run folder, a new one or one that was left; returns the kinds, batches and tasks of the run.

        Raises:
            ClusterUnusable: this process does not see the landmark that the driver has set.
            RunFolderRefused: the folder holds something else, or a live process works on the run.
            JournalDamaged: its journal can't be read or written, or is of another schema.
        """
        inline_bytes = options.inline_result_bytes
        path, durable = Path(folder), options.durable
        given = (path, meta, inline_bytes, retry_failed, durable, options.opening)
        if landmark is not None:
            await asyncio.to_thread(landmark.take)
        journal = await asyncio.to_thread(open_for_work, *given)
        meta, make_room = journal.recovered.meta, lambda: self._make_room(run_id)
        shared = self._cost, self._relays
        try:
            run = ActiveRun(run_id, path, journal, options, self._handle, meta, *shared, self._is_nested, make_room)
        except BaseException:  # else this process would hold the run as long as it lives
            await asyncio.to_thread(journal.writer.close)
            journal.lock.close()
            raise
        self._runs[run_id] = run
        run.look_ahead()
        return run.describe()

    def _make_room(self, run_id: str) -> None:
        """Let leases end that linger, of all runs but one."""
        for other, run in self._runs.items():
            if other != run_id:
                run.make_room()

    async def go_on(self, run_id: str, domains: Sequence[ShippedDomain]) -> None:
        """Queue the tasks of an opened run that have no outcome, given their domains."""
        self._get_run(run_id).go_on(domains)

    async def add_inputs(self, run_id: str, notes: dict[str, str]) -> None:
        """Take in notes on inputs that are in the run folder; returns when they are on disk."""
        await self._get_run(run_id).add_inputs(notes)

    async def submit(self, run_id: str, submission: bytes) -> None:
        """Take in new tasks; returns when they are on disk, or, if they are not awaited, at once."""
        await self._get_run(run_id).submit(Submission.unpack(submission))

    async def cancel(self, run_id: str, numbers: set[int] | None, scope: str, before: int) -> None:
        """Cancel those of these tasks, or of all, that are open; returns when that is on disk.

        The driver has sent `before` tasks: messages overtake each other, so this waits for all of them.
        """
        await self._get_run(run_id).cancel(numbers, scope, before)

    async def progress(self, run_id: str, timeout_s: float) -> list[int]:
        """Tasks per state: after the timeout, or as soon as all are in a final state."""
        return await self._get_run(run_id).progress(timeout_s)

    def take_events(self, run_id: str, timeout_s: float, number: int) -> Later[bytes]:
        """The events of the run's tasks since the last call; calls that take events are numbered by their driver."""
        return self._get_run(run_id).take_events(timeout_s, number).then(TaskEvents.pack)

    def submit_and_take(self, message: bytes) -> Later[bytes]:
        """Take in new tasks, as `submit` does, and return the next events, as `take_events` does: one call for both.

        The message has the run, the timeout in seconds, the number of the call, and the tasks: Ray handles each
        argument by itself.

        Tasks that come together may be the parts of one `map`: if they end together, that is one answer.
        """
        run_id, timeout_s, number, submission = unpack_message(message)
        run, new = self._get_run(run_id), Submission.unpack(submission)
        wait = timeout_s, number, TOGETHER_S if new.tasks.tasks > 1 else 0.0
        if run.submit_at_once(new):
            return run.take_events(*wait).then(TaskEvents.pack)
        return run_later(_submit_and_take(run, new, wait))

    async def is_open(self, run_id: str) -> bool:
        """True if the run is still worked on."""
        return run_id in self._runs

    def exchange(self, packed: bytes) -> bytes | Order | Later[bytes | Order]:
        """Take in a report of a lease, and answer it; both are packed."""
        self._exchanges += 1
        run_id, report = unpack_report(packed)
        run = self._runs.get(run_id)
        order = run.reports.exchange(report) if run else Order(report.number, Message.END)
        if not isinstance(order, Later):
            return pack_order(order)
        if run is not None and sum(other.reports.waiting for other in self._runs.values()) > self._most_waiting:
            run.make_room(1)
        return order.then(pack_order)

    async def exchange_group(self, reports: Sequence[bytes]) -> list[Any]:
        """Take in what a relay has gathered: reports.

        Returns the seconds for which the relay gathers from now on, and an order or an error for each report; None for
        the report of a lease that lingers: `exchange` waits for the answer to that one.
        """
        leases: dict[ActiveRun, list[int]] = {}
        with contextlib.ExitStack() as gathering:
            for run in self._runs.values():
                gathering.enter_context(run.gathering())
            answers = [self._take_gathered(packed, leases) for packed in reports]
        if behind := [run for run in leases if run.reports.is_behind]:
            begun = time.monotonic()
            # The next report meets an error.
            await asyncio.gather(*(run.reports.keep_up() for run in behind), return_exceptions=True)
            held_s = time.monotonic() - begun
            for run, own in leases.items():
                for lease in own:
                    run.reports.note_held(lease, held_s)
        return [self._cost.gather_s, answers]

    def _take_gathered(self, packed: bytes, leases: dict[ActiveRun, list[int]]) -> bytes | Order | Exception | None:
        """Take in one report of a group; its lease joins those of its run."""
        self._exchanges += 1
        try:
            run_id, report = unpack_report(packed)
            run = self._runs.get(run_id)
            if run is None:
                return pack_order(Order(report.number, Message.END))
            leases.setdefault(run, []).append(report.lease)
            order = run.reports.take(report, is_direct=False)
        except Exception as error:
            return error
        return None if order is None else pack_order(order)

    async def get_usage(self) -> tuple[float, int, float, int]:
        """The CPU seconds of this process so far, all its threads and Ray's own included, and its exchanges so far.

        Then the seconds for which slots have waited for it, and the number of these waits.
        """
        return time.process_time(), self._exchanges, self._cost.waited_s, self._cost.waits

    async def note_lease_error(self, run_id: str, lease: int, message: str, traceback: str | None) -> None:
        """Take in the error that ends a lease."""
        run = self._runs.get(run_id)
        if run is not None:
            run.note_lease_error(lease, message, traceback)

    async def get_file(self, run_id: str, name: str) -> bytes | list[Any] | None:
        """The content of a file of the run, or its object in a list; None if it is not known. Raises DfzError."""
        run = self._runs.get(run_id)
        return await run.get_file(name) if run else None

    async def close_run(self, run_id: str, grace_s: float) -> None:
        """Stop handing out work, wait a while for running tasks to end, and close the journal."""
        run = self._runs.get(run_id)
        if run is not None:
            try:
                await run.close(grace_s)
            finally:
                self._runs.pop(run_id, None)

    async def arrive(self, gate: str, count: int, timeout_s: float) -> int:
        """Wait for others at a gate, as `Gates` says: a few may do that, for each of them holds a thread."""
        return await self._gates.arrive(gate, count, timeout_s)

    def look_at_gate(self, gate: str, count: int) -> int | None:
        """Arrive at a gate without waiting, or look whether it is open, as `Gates` says."""
        return self._gates.look(gate, count)

    def _get_run(self, run_id: str) -> ActiveRun:
        try:
            return self._runs[run_id]
        except KeyError:
            raise InfrastructureLost(f"the manager does not work on run {run_id}") from None


async def _submit_and_take(run: ActiveRun, new: Submission, wait: tuple[float, int, float]) -> bytes:
    await run.submit(new)
    return (await run.take_events(*wait)).pack()


def _become_less_nice(niceness: int | None) -> None:
    """Give this process the niceness of its driver, if the system allows that; None: leave it as it is.

    Ray makes all its workers nice, and this is one of them. Where more workers than cores wake at once, each would have
    its turn before the manager that they wait for.
    """
    if niceness is None:
        return
    with contextlib.suppress(OSError):
        for thread in map(int, os.listdir("/proc/self/task")):
            with contextlib.suppress(ProcessLookupError):  # it has just ended
                if os.getpriority(os.PRIO_PROCESS, thread) > niceness:
                    os.setpriority(os.PRIO_PROCESS, thread, niceness)


def _end_at_once_on_sigterm() -> None:
    """Die of SIGTERM, and ignore SIGINT.

    Ray's own handler would wait for the actor's calls, and so for leases that wait for answers: for ever.
    Committed outcomes are safe, and the next manager goes on with the rest. `signal.signal` works in the main thread
    only, which may not be this one; Python's C interface knows no such limit.
    """
    set_handler = ctypes.pythonapi.PyOS_setsig
    set_handler.argtypes, set_handler.restype = [ctypes.c_int, ctypes.c_void_p], ctypes.c_void_p
    set_handler(signal.SIGTERM, signal.SIG_DFL)
    set_handler(signal.SIGINT, signal.SIG_IGN)
