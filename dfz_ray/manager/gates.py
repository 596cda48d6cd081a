"""Gates, at which callers wait for each other."""

from __future__ import annotations

import asyncio
import contextlib

MOST_GATES = 100
"""Of more the oldest are forgotten."""


class _Gate:
    def __init__(self) -> None:
        self.arrived = 0
        self.opened = asyncio.Event()


class Gates:
    """All gates of a manager, by name."""

    def __init__(self) -> None:
        self._gates: dict[str, _Gate] = {}

    async def arrive(self, name: str, count: int, timeout_s: float) -> int:
        """Wait at a gate until `count` callers are there, or the time is up; returns how many were there then.

        A gate that is open stays open, and whoever comes later does not count. A `count` of 0 opens it for the others.
        """
        gate = self._join(name, count)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await gate.opened.wait()
        gate.opened.set()
        return gate.arrived

    def look(self, name: str, count: int) -> int | None:
        """Arrive without waiting, or, with a `count` of -1, look again; None until the gate is open."""
        gate = self._gates.get(name) if count < 0 else self._join(name, count)
        if gate is None:
            return 0  # it was forgotten
        return gate.arrived if gate.opened.is_set() else None

    def _join(self, name: str, count: int) -> _Gate:
        gate = self._gates.setdefault(name, _Gate())
        if len(self._gates) > MOST_GATES:
            del self._gates[next(iter(self._gates))]
        if count and not gate.opened.is_set():
            gate.arrived += 1
        if gate.arrived >= count:
            gate.opened.set()
        return gate
