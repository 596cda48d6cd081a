"""The way of a lease's messages to the manager: directly, or through the relay of its node once there is one."""

from __future__ import annotations

import contextlib
from typing import Any, cast

from ray.exceptions import RayActorError

from dfz_ray.protocol.orders import Order
from dfz_ray.protocol.reports import Report, pack_report
from dfz_ray.worker.answer import Answer, AnswerLost, check_connection

RELAY_S = 0.5
"""Seconds that a relay may take to say that it is there, once a lease has waited for its answer for as long."""
SILENT_S = 10.0
"""Seconds after which a lease of several threads, which can't wait, gives a silent relay up."""


class RelayLost(Exception):
    """The relay does not answer."""


class ManagerRoute:
    """Sends the reports of one lease, each after the answer to the one before.

    A relay that dies, or is silent, is not used any more: the last report goes to the manager, too, which knows it by
    its number if it has it already.
    """

    def __init__(self, manager: Any, run_id: str) -> None:
        self._manager = manager
        self._run_id = run_id
        self._relay: Any = None
        self._report: Report | None = None

    def send(self, report: Report) -> Any:
        """Send a report; returns the reference of the answer."""
        check_connection()
        self._report = pack_report(report)
        to = self._manager if self._relay is None else self._relay
        return to.exchange.remote(self._run_id, self._report)

    def read(self, reference: Any) -> Order:
        """Wait for the answer to the last report, and return it."""
        answer = Answer(reference)
        if self._relay is not None:
            try:
                return self._take(self._read_from_relay(answer))
            except (RayActorError, AnswerLost):
                answer = Answer(self.send_directly())
        return self._take(answer.read())

    def read_if_here(self, answer: Answer, silent_s: float) -> Order | None:
        """The answer to the last report if it is here; else None.

        Raises:
            RelayLost: the relay is lost, or was silent for so many seconds; `send_directly` sends the report again.
        """
        if not answer.is_here:
            if self._relay is not None and silent_s > SILENT_S:
                raise RelayLost
            return None
        try:
            return self._take(answer.read())
        except RayActorError:
            if self._relay is None:
                raise
            raise RelayLost from None

    def _take(self, order: Order) -> Order:
        if order.relay is not None:
            self._relay = order.relay
        return order

    def _read_from_relay(self, answer: Answer) -> Any:
        """Wait for an answer of the relay, as long as the relay is there: the manager may be slow."""
        while True:
            with contextlib.suppress(AnswerLost):
                return answer.read(RELAY_S)
            Answer(self._relay.identify.remote()).read(RELAY_S)

    def send_directly(self) -> Any:
        """Give the relay up, and send the last report to the manager; returns the reference of the answer."""
        check_connection()
        self._relay = None
        return self._manager.exchange.remote(self._run_id, self._report)

    def get_file(self, sha256: str) -> bytes | None:
        """The content of a file that parameters name; None if it is not known."""
        check_connection()
        if self._relay is not None:
            try:
                content = self._read_from_relay(Answer(self._relay.get_file.remote(self._run_id, sha256)))
                return cast("bytes | None", content)
            except (RayActorError, AnswerLost):
                self._relay = None
        return cast("bytes | None", Answer(self._manager.get_file.remote(self._run_id, sha256)).read())
