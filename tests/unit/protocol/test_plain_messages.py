"""Messages arrive as they were sent. Nearly all travel as bytes, which Ray hands on as they are."""

from __future__ import annotations

from typing import Any

import msgpack
import pytest

from dfz_ray.execution.execute import Execution
from dfz_ray.execution.failure import make_failure
from dfz_ray.protocol.columns import Completions, TaskColumns
from dfz_ray.protocol.lease_protocol import Message
from dfz_ray.protocol.orders import Order, pack_order, pack_works, unpack_order
from dfz_ray.protocol.reports import Place, Report, Spoiled, pack_report, unpack_executions, unpack_report
from dfz_ray.protocol.submission import ShippedDomain, Submission, SubmittedKind
from dfz_ray.protocol.task_events import FailedTask, TaskEvents

COMPLETED = Execution(3, 10.0, 11.5, 0.5, b"\x01", bytes(32), None)
PLACE = Place("host", "node", 4711, 12.5, "run/7")
FAILED = Execution(4, 11.5, 12.0, 0.25, None, None, make_failure("exception", "ValueError: no"))


def test_a_report_arrives_as_it_was_sent() -> None:
    """With the end of a chunk in it."""
    sent = Report(7, 2, 5, [COMPLETED, FAILED], 6, PLACE, True, 1, Spoiled([5], "umask"), waited_s=0.5)
    run_id, arrived = unpack_report(pack_report("run", sent))

    assert run_id == "run"
    assert arrived._replace(executed=sent.executed) == sent
    assert (type(arrived.place), type(arrived.spoiled)) == (Place, Spoiled)
    ended = unpack_executions(arrived.executed)
    assert ended.completions.rows() == [COMPLETED[:6]]
    assert [failure[:6] for failure in ended.failures] == [[4, 11.5, 12.0, 0.25, "exception", "ValueError: no"]]


@pytest.mark.parametrize(
    "sent", [b"no report", b"", b"\xc1", b"\x90", "text", None, 5, [1, 2], msgpack.packb(list(range(40)))], ids=repr
)
def test_what_is_no_report_is_refused(sent: Any) -> None:
    """Nine bytes would else pass for the first nine fields of a report of another lease."""
    with pytest.raises(TypeError, match="a worker sent no report"):
        unpack_report(sent)


@pytest.mark.parametrize(
    "order",
    [
        pytest.param(Order(2, Message.CHUNK, 1, 9, pack_works([3], [(0, b"x")], None), 0.2, True), id="chunk"),
        pytest.param(Order(3, Message.WAIT, 4), id="wait"),
        pytest.param(Order(4, Message.END), id="end"),
    ],
)
def test_an_order_arrives_as_it_was_sent(order: Order) -> None:
    """Its message is one of the protocol's again."""
    arrived = unpack_order(pack_order(order))

    assert arrived == order
    assert arrived.message is order.message


def test_an_order_that_names_a_relay_arrives_as_it_was_sent() -> None:
    """Handles of actors are Ray's to pack."""
    order = Order(3, Message.NOTED, relay=object())
    assert unpack_order(pack_order(order)) == order


def test_events_arrive_as_they_were_sent() -> None:
    """Failures among them have their state, and texts may have any letters."""
    completions = [Completions.of([COMPLETED])]
    events = TaskEvents([0, 1, 1, 1, 0], [5], completions, ["here"], [], [6], [4, 4], stored=[])
    failed = FailedTask(4, "exception", "ValueError: \ud800", None, b"pickled", 1.0, 2.0, "here")

    assert TaskEvents.unpack(events.pack()) == events
    assert TaskEvents.unpack(events._replace(failures=[failed]).pack()).failures == [failed]
    assert TaskEvents.unpack(events._replace(stored=[(7, None)]).pack()).stored == [(7, None)]


def test_a_block_of_tasks_arrives_as_it_was_sent() -> None:
    """With a new kind, and its domain."""
    tasks = TaskColumns.of(["a", "b"], [0, 0], [(1, b"x"), (2, b"y")], ["", "the second"])
    kinds, domains = [SubmittedKind("d", "k", "{}", "{}")], [ShippedDomain("d", b"domain", "[]", version=2)]
    block = Submission(
        3, 1, [(3, "calls", 0, 12.5)], domains, kinds, files={"hash": b"content"}, calls=[1], tasks=tasks
    )

    arrived = Submission.unpack(block.pack())

    assert arrived == block
