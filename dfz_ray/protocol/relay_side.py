"""The relay's part of the lease protocol: it gathers what the leases of a node report, and decides when that is sent.

A relay changes no message and answers none. So a lease whose relay is lost sends its last report again, to the manager:
reports are numbered, and one that arrives twice counts once and gets the same answer twice.

This is pure: its owner sends the groups, and gives it the time.
"""

from __future__ import annotations

import math
from typing import Generic, TypeVar

GATHER_S = 0.005
"""Seconds between two groups at least, unless the manager asks for more. After a longer pause a report goes at once."""
MOST_GATHER_S = 0.05
MOST_SHARE, LEAST_SHARE = 0.4, 0.3
"""Relays gather for longer if the manager takes more than such a share of a core, and for less if it takes less."""
STEP = 1.25

M = TypeVar("M")


class RelaySide(Generic[M]):
    """Gathers messages of leases. Times are seconds of any one clock."""

    def __init__(self) -> None:
        self.gather_s = GATHER_S
        self._gathered: list[M] = []
        self._sent_at = -math.inf

    @property
    def due_at(self) -> float:
        """The time at which a group is due; infinite if nothing was gathered."""
        return self._sent_at + self.gather_s if self._gathered else math.inf

    def add(self, message: M) -> None:
        """Take in a message of a lease."""
        self._gathered.append(message)

    def take_group(self, now: float) -> list[M]:
        """The messages that are due now; empty if there are none, or the last group was sent a moment ago."""
        if now < self.due_at:
            return []
        group, self._gathered, self._sent_at = self._gathered, [], now
        return group


def adapt_gathering(gather_s: float, cores: float) -> float:
    """The seconds that relays gather from now on, given the cores that the manager takes."""
    if cores > MOST_SHARE:
        return min(MOST_GATHER_S, gather_s * STEP)
    return max(GATHER_S, gather_s / STEP) if cores < LEAST_SHARE else gather_s
