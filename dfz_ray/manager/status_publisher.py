"""Publishes the status of a run in its folder, and executes the requests that are filed there, once a second."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from dfz_ray.errors import InvalidInput, RunFolderRefused
from dfz_ray.journal.cancel_requests import CancelRequest, read_requests, resolve
from dfz_ray.journal.run_activity import Activity
from dfz_ray.journal.run_status import RunStatus, ThroughputMeter, write_status
from dfz_ray.specs.states import STATES, count_final

logger = logging.getLogger("dfz_ray")

EACH_S = 1.0


class Reading(NamedTuple):
    """The state of a run at this moment; its load is that since the reading before."""

    counts: Sequence[int]
    """Tasks per state, in the order of the lifecycle's states."""
    slots: int
    why_slots: str
    """The reason for the number of slots, if it follows the throughput."""
    leases: int
    commits: int
    notices: Sequence[str]
    activity: Activity


class StatusPublisher:
    """Keeps status.json up to date, and executes the requests that others file.

    `cancel` cancels tasks by number, or all for None, on a request of that scope; it returns once that is on disk.
    `listen` receives each status, too.
    """

    def __init__(
        self,
        folder: Path,
        meta: dict[str, str],
        epoch: int,
        read: Callable[[], Reading],
        cancel: Callable[[set[int] | None, str], Awaitable[None]],
        listen: Callable[[RunStatus], None],
    ) -> None:
        self._folder = folder
        self._meta = meta
        self._epoch = epoch
        self._read = read
        self._cancel = cancel
        self._listen = listen
        self._throughput = ThroughputMeter()
        self._complaint = ""
        self._is_closed = False
        self._writing = threading.Lock()
        """Whoever writes a status holds it, so that an older one never replaces a newer one."""
        self._loop = asyncio.create_task(self._keep())

    async def close(self) -> None:
        """Write the last status, as the run has come to rest."""
        self._loop.cancel()
        self._is_closed = True
        await asyncio.to_thread(self._write_last, self._make_status(self._read(), working=False))

    async def _keep(self) -> None:
        while True:
            try:
                reading = self._read()
                # While the run is being opened its tasks are not known yet, and a request would find none.
                if any(reading.counts):
                    await asyncio.to_thread(self._write_unless_closed, self._make_status(reading, working=True))
                    for path, request in await asyncio.to_thread(read_requests, self._folder):
                        await self._meet(path, request)
            except Exception as error:
                self._complain(f"the status can't be told, or a request can't be met: {error}")
            await asyncio.sleep(EACH_S)

    async def _meet(self, path: Path, request: CancelRequest) -> None:
        try:
            numbers = None if request.whole_run else await asyncio.to_thread(resolve, self._folder, request)
            await self._cancel(numbers, request.scope)
        except InvalidInput as error:
            logger.warning("a request is passed over: %s", error)
        path.unlink(missing_ok=True)

    def _make_status(self, reading: Reading, working: bool) -> RunStatus:
        ended = count_final(reading.counts)
        self._throughput.note(time.monotonic(), ended)
        status = RunStatus(
            run_id=self._meta.get("run_id", ""),
            name=self._meta.get("name", ""),
            epoch=self._epoch,
            process=os.getpid(),
            host=socket.gethostname(),
            updated_at=time.time(),
            working=working,
            counts=dict(zip(STATES, reading.counts, strict=True)),
            slots=reading.slots,
            why_slots=reading.why_slots,
            leases=reading.leases,
            tasks_per_s=self._throughput.tasks_per_s if working else None,
            left_s=self._throughput.left_s(sum(reading.counts) - ended) if working else None,
            commits=reading.commits,
            notices=tuple(reading.notices),
            activity=reading.activity,
        )
        self._listen(status)
        return status

    def _write_unless_closed(self, status: RunStatus) -> None:
        """Write a status, in another thread: a slow disk keeps no worker waiting."""
        with self._writing:
            if not self._is_closed:
                self._write(status)

    def _write_last(self, status: RunStatus) -> None:
        with self._writing:
            self._write(status)

    def _write(self, status: RunStatus) -> None:
        try:
            write_status(self._folder, status)
        except (
            OSError,
            RunFolderRefused,
        ) as error:  # e.g. a full disk: then the journal, which matters, will fail, too
            self._complain(f"the status can't be written: {error}")

    def _complain(self, what: str) -> None:
        if what != self._complaint:
            self._complaint = what
            logger.warning("%s", what)
