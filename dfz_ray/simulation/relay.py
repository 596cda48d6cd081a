"""The relays of the virtual cluster: the real rules for gathering, in virtual time, and their deaths."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from dfz_ray.protocol.orders import Order
from dfz_ray.protocol.relay_side import RelaySide
from dfz_ray.simulation.worker import SentReport, SimulatedWorker

if TYPE_CHECKING:
    from dfz_ray.simulation.cluster import Simulation


class SimulatedRelay:
    """A relay: it gathers the reports of its workers, and passes the answers on."""

    def __init__(self, cluster: Simulation) -> None:
        self.lives = True
        self.side: RelaySide[SentReport] = RelaySide()
        self._cluster = cluster
        self._wakes_at = math.inf

    def add(self, message: SentReport) -> None:
        """A report of a worker has arrived; a dead relay loses it."""
        if self.lives:
            self.side.add(message)
            self._send_due()

    def answer(self, worker: SimulatedWorker, order: Order) -> None:
        """An order of the manager has arrived; a dead relay loses it."""
        if self.lives:
            cluster = self._cluster
            cluster.at(cluster.now + cluster.take_s("message"), lambda: worker.on_order(order))

    def on_answer(self) -> None:
        """The manager has answered a group."""
        if self.lives:
            self.side.on_answer()
            self._send_due()

    def _send_due(self) -> None:
        cluster = self._cluster
        if not self.lives:
            return
        group = self.side.take_group(cluster.now)
        if group:
            cluster.send_group(group)
        elif self.side.due_at != self._wakes_at:
            self._wakes_at = self.side.due_at
            cluster.at(self._wakes_at, self._wake)

    def _wake(self) -> None:
        self._wakes_at = math.inf
        self._send_due()
