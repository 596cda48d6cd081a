"""The relay's part of the lease protocol: it gathers what leases report, and decides when that is sent.

A relay changes no message and answers none. So a lease whose relay is lost sends its last report again, to the manager:
reports are numbered, and one that arrives twice counts once and gets the same answer twice.

A relay has one group on its way at a time. So a full manager never meets more groups than there are relays, however
many reports come: these wait at the relays, and their groups grow, each of which costs the manager little more.

This is pure: its owner sends the groups, and gives it the time.
"""

from __future__ import annotations

import math
from typing import Generic, TypeVar

PATIENCE_S = 1.0
"""After so many seconds without an answer the next group is sent: the answer may be lost, or wait for a slow disk."""
GATHER_S = 0.005
"""A manager that asks for no more seconds between two groups has time: so no report waits that need not."""
MOST_GATHER_S = 0.05
MOST_SHARE, LEAST_SHARE = 0.45, 0.38
"""Relays gather for longer if the manager takes more than such a share of a core, and for less if it takes less."""
STEP = 1.25

M = TypeVar("M")


class RelaySide(Generic[M]):
    """Gathers messages of leases. Times are seconds of any one clock."""

    def __init__(self) -> None:
        self.gather_s = GATHER_S
        self._gathered: list[M] = []
        self._sent_at = -math.inf
        self._unanswered = 0
        """The groups that are on their way."""

    @property
    def due_at(self) -> float:
        """The time at which a group is due; infinite if nothing was gathered.

        When everything was answered that is at once, as long as the manager has time. A busy one asks for longer
        gathering, and gets larger groups however soon it answers: each costs it far more than what is in it.
        """
        if not self._gathered:
            return math.inf
        if self._unanswered:
            return self._sent_at + PATIENCE_S
        return self._sent_at + (self.gather_s if self.gather_s > GATHER_S else 0.0)

    def add(self, message: M) -> None:
        """Take in a message of a lease."""
        self._gathered.append(message)

    def take_group(self, now: float) -> list[M]:
        """The messages that are due now, as one group; empty if none are."""
        if now < self.due_at:
            return []
        group, self._gathered, self._sent_at = self._gathered, [], now
        self._unanswered += bool(group)
        return group

    def on_answer(self) -> None:
        """The manager has answered a group, or can't."""
        self._unanswered = max(0, self._unanswered - 1)


def adapt_gathering(gather_s: float, cores: float) -> float:
    """The seconds that relays gather from now on, given the cores that the manager takes."""
    if cores > MOST_SHARE:
        return min(MOST_GATHER_S, gather_s * STEP)
    return max(GATHER_S, gather_s / STEP) if cores < LEAST_SHARE else gather_s
