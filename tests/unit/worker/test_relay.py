"""The relay of a node, between leases and a manager that the tests play."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Any

from dfz_ray.protocol.lease_protocol import Message
from dfz_ray.protocol.orders import Order, pack_order, unpack_order
from dfz_ray.protocol.relay_side import GATHER_S
from dfz_ray.protocol.reports import Report, pack_report, unpack_report
from dfz_ray.worker.relay import Relay

ANSWER_S = 10.0


class Call:
    """A method of an actor's handle."""

    def __init__(self, method: Callable[..., Any]) -> None:
        self.remote = method


class PlayedManager:
    """Answers reports; `refuse` says which of them it can't take."""

    def __init__(self, refuse: Callable[[int], bool] = lambda number: False) -> None:
        self.groups: list[list[int]] = []
        self.single: list[int] = []
        self.fetched: list[str] = []
        self._refuse = refuse
        self.exchange_group = Call(self._exchange_group)
        self.exchange = Call(self._exchange)
        self.get_file = Call(self._get_file)

    async def _exchange_group(self, reports: Sequence[bytes]) -> list[Any]:
        numbers = [unpack_report(packed)[1].lease for packed in reports]
        self.groups.append(numbers)
        if any(map(self._refuse, numbers)):
            raise ValueError("one of them is wrong")
        return [GATHER_S, [pack_order(Order(1, Message.NOTED, number)) for number in numbers]]

    async def _exchange(self, packed: bytes) -> bytes | Order:
        lease = unpack_report(packed)[1].lease
        self.single.append(lease)
        if self._refuse(lease):
            raise ValueError("it is wrong")
        return pack_order(Order(1, Message.NOTED, lease))

    async def _get_file(self, run_id: str, sha256: str) -> bytes | None:
        self.fetched.append(run_id)
        await asyncio.sleep(0)
        return None if run_id == "closed" else b"content"


def report_of(lease: int) -> bytes:
    """A report that carries nothing, packed."""
    return pack_report("run", Report(lease, 1, None, None, None, None, True, 0))


def test_every_report_is_answered_however_late_the_relay_is() -> None:
    """Reports come at any moment around the time at which a group is due, while the process stands still at times."""

    async def report_all() -> list[Any]:
        relay = Relay(PlayedManager())
        answers = []
        for lease in range(300):
            answers.append(asyncio.create_task(relay.exchange(report_of(lease))))
            await asyncio.sleep(GATHER_S * (lease % 5) / 4)
            if lease % 7 == 0:
                time.sleep(2 * GATHER_S)
        return await asyncio.wait_for(asyncio.gather(*answers), ANSWER_S)

    assert [unpack_order(answer).threads for answer in asyncio.run(report_all())] == list(range(300))


def test_reports_that_come_together_go_together() -> None:
    """The first one goes at once, and those of the next milliseconds in one call."""
    manager = PlayedManager()

    async def report_all() -> None:
        relay = Relay(manager)
        await asyncio.wait_for(asyncio.gather(*[relay.exchange(report_of(lease)) for lease in range(10)]), ANSWER_S)

    asyncio.run(report_all())
    assert manager.groups == [[0], list(range(1, 10))]
    assert manager.single == []


def test_a_report_goes_at_once_when_everything_was_answered() -> None:
    """One that comes a moment after an answer, or after a group that could not be taken in, waits for no other."""
    manager = PlayedManager(refuse=lambda lease: lease == 1)

    async def report_all() -> None:
        relay = Relay(manager)
        for lease in range(4):
            call = asyncio.create_task(relay.exchange(report_of(lease)))
            for _ in range(20):
                await asyncio.sleep(0)
            assert call.done()
            call.exception()

    asyncio.run(report_all())
    assert manager.groups == [[0], [1], [2], [3]]


def test_a_report_that_is_wrong_fails_alone() -> None:
    """Where a group can't be taken in, each of its reports goes by itself."""
    manager = PlayedManager(refuse=lambda lease: lease == 3)

    async def report_all() -> list[Any]:
        relay = Relay(manager)
        calls = [relay.exchange(report_of(lease)) for lease in range(6)]
        return await asyncio.wait_for(asyncio.gather(*calls, return_exceptions=True), ANSWER_S)

    ends = asyncio.run(report_all())
    assert isinstance(ends[3], ValueError)
    assert [unpack_order(end).threads for end in ends if not isinstance(end, BaseException)] == [0, 1, 2, 4, 5]


def test_a_file_is_fetched_once_and_not_through_another_run() -> None:
    """A run that is closed has no files; who asks for another run at the same time gets what that one has."""
    manager = PlayedManager()

    async def fetch_all() -> list[bytes | None]:
        relay = Relay(manager)
        return await asyncio.gather(*[relay.get_file(run, "hash") for run in ("closed", "open", "open", "open")])

    assert asyncio.run(fetch_all()) == [None, b"content", b"content", b"content"]
    assert sorted(manager.fetched) == ["closed", "open"]
