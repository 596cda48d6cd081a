"""A heartbeat: the longest time for which an event loop was blocked."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
import time
from typing import Self

BEAT_S = 0.01

_BESIDE = f"""
import select, sys, time
longest, last = 0.0, time.monotonic()
print("ready", flush=True)
while not select.select([sys.stdin], [], [], {BEAT_S})[0]:
    now = time.monotonic()
    longest, last = max(longest, now - last), now
print(longest)
"""


class Heart:
    """Beats in the running event loop and, for comparison, in a process that does nothing else.

    On a busy machine any process may be without a core for a while: a gap of the idle process is not the loop's fault.
    """

    def __init__(self) -> None:
        self.longest_s = 0.0
        """The longest gap between two beats, in seconds."""
        self.beats = 0
        self.beside_s = 0.0
        """The longest gap in the idle process, in seconds."""

    async def __aenter__(self) -> Self:
        self._beside = subprocess.Popen(
            [sys.executable, "-c", _BESIDE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._beside.stdout is not None
        assert self._beside.stdout.readline() == "ready\n"
        self._task = asyncio.create_task(self._beat())
        await asyncio.sleep(0)
        return self

    async def __aexit__(self, *error: object) -> None:
        await asyncio.sleep(2 * BEAT_S)
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task
        printed, _ = self._beside.communicate()
        self.beside_s = float(printed)

    async def _beat(self) -> None:
        last = time.monotonic()
        while True:
            await asyncio.sleep(BEAT_S)
            now = time.monotonic()
            self.longest_s, last = max(self.longest_s, now - last), now
            self.beats += 1
