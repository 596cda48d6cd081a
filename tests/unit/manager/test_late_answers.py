"""Answers to leases that linger."""

from __future__ import annotations

import asyncio
import math

import pytest

from dfz_ray.errors import InfrastructureLost
from dfz_ray.manager.late_answers import LateAnswers
from dfz_ray.protocol.lease_protocol import Message
from dfz_ray.protocol.orders import Order

ORDER = Order(4, Message.CHUNK, 1, 7)


def test_a_report_that_arrived_twice_is_answered_twice() -> None:
    """Both calls of the lease return the order, and no other lease's does."""

    async def wait_for_all() -> tuple[list[Order], bool]:
        answers = LateAnswers()
        twice, other = [answers.wait(1) for _ in range(2)], answers.wait(2)
        assert len(answers) == 2
        answers.send(1, ORDER)
        found = [await call for call in twice]
        assert not other.is_set
        answers.forget(2)
        return found, (await other).message is Message.END

    assert asyncio.run(wait_for_all()) == ([ORDER, ORDER], True)


def test_time_without_work_is_no_wait_for_the_manager() -> None:
    """The next report of a lease whose answer came late is known by that, once."""
    answers = LateAnswers()
    answers.send(1, ORDER)

    assert [answers.excuse(1), answers.excuse(1), answers.excuse(2)] == [math.inf, 0.0, 0.0]


def test_time_for_the_disk_is_no_wait_for_the_manager() -> None:
    """Of the wait that a lease reports next, what its last answer was held back is left out, once."""
    answers = LateAnswers()
    answers.hold(1, 3.0)

    assert [answers.excuse(1), answers.excuse(1), answers.excuse(2)] == [3.0, 0.0, 0.0]
    answers.send(1, ORDER)
    answers.hold(1, 3.0)
    assert answers.excuse(1) == math.inf
    answers.hold(1, 3.0)
    answers.forget(1)
    assert answers.excuse(1) == 0.0


def test_a_run_that_can_not_go_on_lets_no_lease_wait() -> None:
    """Every call ends with an error of its own: one for all would get longer with each call that raises it."""

    async def wait_in_vain() -> list[InfrastructureLost]:
        answers = LateAnswers()
        calls = [answers.wait(lease) for lease in (1, 2)]
        answers.fail("the disk is full")
        errors = []
        for call in calls:
            with pytest.raises(InfrastructureLost, match="the disk is full") as found:
                await call
            errors.append(found.value)
        return errors

    first, second = asyncio.run(wait_in_vain())
    assert first is not second
