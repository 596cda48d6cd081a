"""The way of a lease's messages to the manager: directly, or through a relay once there is one for it."""

from __future__ import annotations

import contextlib
import math
from typing import Any, cast

from ray.exceptions import RayActorError

from dfz_ray.protocol.orders import Order, unpack_order
from dfz_ray.protocol.reports import Report, pack_report
from dfz_ray.worker.answer import Answer, AnswerLate, AnswerLost, check_connection

RELAY_S = 0.5
"""Seconds that a relay may take to say that it is there, once a lease has waited for its answer for as long."""


class RelayLost(Exception):
    """The relay does not answer."""


class ManagerRoute:
    """Sends the reports of one lease, each after the answer to the one before.

    A relay that dies, or is silent, is not used any more until the manager names it again: the last report goes to the
    manager, too, which knows it by its number if it has it already.
    """

    def __init__(self, manager: Any, run_id: str) -> None:
        self._manager = manager
        self._run_id = run_id
        self._relay: Any = None
        """The relay that brings the next report; None: it goes directly."""
        self._through: Any = None
        """The relay that brings the last report."""
        self._report = b""
        """The last report, packed."""
        self._probe: Answer | None = None
        """The answer to the question whether that relay is there."""
        self._probed_at = RELAY_S
        """After so many seconds of silence it was asked, or is asked."""

    def send(self, report: Report) -> Any:
        """Send a report; returns the reference of the answer."""
        check_connection()
        self._report = pack_report(self._run_id, report)
        self._through, self._probe, self._probed_at = self._relay, None, RELAY_S
        to = self._manager if self._through is None else self._through
        return to.exchange.remote(self._report)

    def read(self, reference: Any) -> Order:
        """Wait for the answer to the last report, and return it."""
        answer = Answer(reference)
        if self._through is not None:
            try:
                return self._take(_read_from_relay(self._through, answer))
            except (RayActorError, AnswerLost):
                answer = Answer(self.send_directly())
        return self._take(answer.read())

    def read_if_here(self, answer: Answer, silent_s: float) -> Order | None:
        """The answer to the last report if it is here; else None, and after some silence the relay is asked.

        Raises:
            RelayLost: the relay is lost, or silent; `send_directly` sends the report again.
        """
        if not answer.is_here:
            self._look_after_relay(silent_s)
            return None
        try:
            return self._take(answer.read())
        except RayActorError:
            if self._through is None:
                raise
            raise RelayLost from None

    def find_pause(self, silent_s: float) -> float:
        """The seconds until `read_if_here` has to look after the relay again; infinite if the report goes directly."""
        if self._through is None:
            return math.inf
        return max(0.0, self._probed_at + (0.0 if self._probe is None else RELAY_S) - silent_s)

    def _look_after_relay(self, silent_s: float) -> None:
        if self._through is None or silent_s < self._probed_at:
            return
        if self._probe is None:
            check_connection()
            self._probe, self._probed_at = Answer(self._through.identify.remote()), silent_s
        elif self._probe.is_here:
            try:
                self._probe.read()
            except RayActorError:
                raise RelayLost from None
            self._probe, self._probed_at = None, silent_s + RELAY_S
        elif silent_s > self._probed_at + RELAY_S:
            raise RelayLost

    def _take(self, packed: bytes | Order) -> Order:
        order = unpack_order(packed)
        if order.relay is not None:
            self._relay = order.relay
        return order

    def send_directly(self) -> Any:
        """Give the relay up, and send the last report to the manager; returns the reference of the answer."""
        check_connection()
        self._relay = self._through = self._probe = None
        return self._manager.exchange.remote(self._report)

    def get_file(self, name: str) -> bytes | memoryview | None:
        """The content of a file of the run; None if it is not known. Any thread may call this.

        A large one is a view of memory that the processes of the node share, which lasts as long as the view.

        Raises:
            DfzError: it can't be read.
        """
        content = self._ask_for_file(name)
        # Not with ray.get, which would report this worker as blocked, so that Ray starts another one in its place.
        return memoryview(Answer(content[0]).read()) if isinstance(content, list) else content

    def _ask_for_file(self, name: str) -> bytes | list[Any] | None:
        check_connection()
        relay = self._relay
        if relay is not None:
            try:
                content = _read_from_relay(relay, Answer(relay.get_file.remote(self._run_id, name)))
                return cast("bytes | list[Any] | None", content)
            except (RayActorError, AnswerLost):
                self._relay = None  # the last report, which may be on its way through it, is looked after by `read`
        check_connection()
        return cast("bytes | list[Any] | None", Answer(self._manager.get_file.remote(self._run_id, name)).read())


def _read_from_relay(relay: Any, answer: Answer) -> Any:
    """Wait for an answer of a relay, as long as the relay is there: the manager may be slow."""
    while True:
        with contextlib.suppress(AnswerLate):
            return answer.read(RELAY_S)
        check_connection()
        Answer(relay.identify.remote()).read(RELAY_S)
