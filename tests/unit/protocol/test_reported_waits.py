"""The waits of slots for the manager, as workers report them."""

from __future__ import annotations

from dfz_ray.protocol.lease_protocol import Message
from dfz_ray.protocol.orders import Order
from dfz_ray.protocol.worker_side import WorkerSide


def test_the_wait_for_an_order_is_reported_once() -> None:
    """The next report says for how long nothing was executed until the last order was there; later ones do not."""
    side = WorkerSide(3)
    side.find_report(0.0)
    side.note_wait(0.25)
    side.on_order(Order(1, Message.CHUNK, 1, 7, ["task"], 1.0), 0.25)
    begun = side.begin_task(0.25)
    first = side.find_report(0.25)
    side.on_order(Order(2, Message.WAIT, 1), 0.3)
    assert begun is not None
    side.end_task(begun[0], ["executed"])
    second = side.find_report(0.4)

    assert first is not None
    assert second is not None
    assert (first.waited_s, second.waited_s) == (0.25, 0.0)
