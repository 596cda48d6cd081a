"""A relay: a small actor through which the leases of a node, or of some small ones, talk to the manager.

Each call of an actor costs the manager far more than what is in it. So the relay sends the reports of its leases in
groups, and fetches each file once for all of them. It holds nothing that is needed: see `protocol/relay_side.py`.
"""

from __future__ import annotations

import asyncio
import gc
import math
import os
from collections.abc import Coroutine
from typing import Any

from dfz_ray.protocol.relay_side import RelaySide
from dfz_ray.specs.input_file import SHARED

KEPT_BYTES = 2**28
"""The bytes of files that a relay keeps."""
_Waiting = tuple[bytes, "asyncio.Future[Any]"]
"""A report, and the answer; both are packed, and stay so."""


class Relay:
    """Serves the leases of its nodes, of all runs of a manager. It is an asyncio actor."""

    def __init__(self, manager: Any) -> None:
        self._manager = manager
        self._side: RelaySide[_Waiting] = RelaySide()
        self._timer: asyncio.TimerHandle | None = None
        self._exchanging: set[asyncio.Task[None]] = set()
        self._files: dict[str, bytes] = {}
        self._fetching: dict[tuple[str, str], asyncio.Task[bytes | list[Any] | None]] = {}
        gc.freeze()

    def __repr__(self) -> str:
        """Its name in the dashboard."""
        return "dfz relay"

    async def identify(self) -> int:
        """The process of the relay: it is there."""
        return os.getpid()

    async def exchange(self, report: bytes) -> Any:
        """Bring a report to the manager, and return its answer."""
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._side.add((report, answer))
        self._send_due()
        return await answer

    def _send_due(self) -> None:
        loop = asyncio.get_running_loop()
        group = self._side.take_group(loop.time())
        if group:
            self._keep(self._exchange(group))
        elif self._timer is None and self._side.due_at < math.inf:
            self._timer = loop.call_at(self._side.due_at, self._on_time)

    def _on_time(self) -> None:
        self._timer = None
        self._send_due()

    async def _exchange(self, group: list[_Waiting]) -> None:
        try:
            reports = [report for report, _ in group]
            self._side.gather_s, answers = await self._manager.exchange_group.remote(reports)
        except Exception:  # one of them may be to blame, or all together be too large: each goes by itself
            answers = [None] * len(group)
        self._side.on_answer()
        self._send_due()
        for (report, waiting), answer in zip(group, answers, strict=True):
            if answer is None:
                self._keep(self._exchange_one(report, waiting))
            elif waiting.done():
                continue
            elif isinstance(answer, Exception):
                waiting.set_exception(answer)
            else:
                waiting.set_result(answer)

    async def _exchange_one(self, report: bytes, waiting: asyncio.Future[Any]) -> None:
        """Send a report by itself: the answer to a lease that lingers may come much later than those of its group."""
        try:
            order = await self._manager.exchange.remote(report)
        except Exception as error:
            if not waiting.done():
                waiting.set_exception(error)
        else:
            if not waiting.done():
                waiting.set_result(order)

    def _keep(self, exchanging: Coroutine[Any, Any, None]) -> None:
        """Run something, and keep it until it has ended: asyncio itself would let it be collected."""
        task = asyncio.create_task(exchanging)
        self._exchanging.add(task)
        task.add_done_callback(self._exchanging.discard)

    async def get_file(self, run_id: str, sha256: str) -> bytes | list[Any] | None:
        """The content of a file of the run, or its object in a list; None if it is not known.

        A content is fetched once for all leases; an object is not kept, for it belongs to its run.
        """
        content = self._files.get(sha256)
        if content is None:
            fetching = self._fetching.get((run_id, sha256))
            if fetching is None:
                fetching = self._fetching[run_id, sha256] = asyncio.create_task(self._fetch(run_id, sha256))
            return await asyncio.shield(fetching)
        return content

    async def _fetch(self, run_id: str, sha256: str) -> bytes | list[Any] | None:
        try:
            content: bytes | list[Any] | None = await self._manager.get_file.remote(run_id, sha256)
            if isinstance(content, bytes) and sha256 != SHARED:  # each run shares its own
                while self._files and sum(map(len, self._files.values())) + len(content) > KEPT_BYTES:
                    del self._files[next(iter(self._files))]  # the oldest one: it can be asked for again
                self._files[sha256] = content
            return content
        finally:
            del self._fetching[run_id, sha256]
