"""The lease protocol: which message may follow which between a lease's worker and the manager.

The worker speaks, the manager answers: each report gets one order, and only then may the next report be sent. Reports
are numbered, and an order names the report that it answers. An order may come late: a lease that lingers has asked for
work, and waits until there is some, or until its place is wanted. So a message that arrives twice, or too late, is
recognised and changes nothing. Chunks are named by their ids.

This is pure, with no Ray, no I/O and no clock. `WorkerSide` and `ManagerSide` are its two halves; their owners send
their messages, execute their chunks, and give them the time.
"""

from __future__ import annotations

from enum import IntEnum

from dfz_ray.errors import IllegalMessage


class LeaseState(IntEnum):
    """The state of a lease."""

    STARTING = 0
    """Its worker has not reported yet."""
    REPORTED = 1
    """A report is out; the order that answers it is due."""
    WORKING = 2
    """The last report has been answered."""
    ENDING = 3
    """It gets no further chunk; it executes the chunks that it holds."""
    ENDING_REPORTED = 4
    """The same, with a report out."""
    OVER = 5
    """Its worker has reported everything, and its call returns."""


class Message(IntEnum):
    """The messages: reports of the worker, orders of the manager, and the return of the call."""

    REPORT = 0
    """A chunk has ended, a chunk has begun, or the lease asks for work; or several of these at once."""
    CHUNK = 1
    """An order: the next chunk."""
    WAIT = 2
    """An order: no chunk for now, go on with those that you hold."""
    NOTED = 3
    """An order: the report is noted. It did not ask for work."""
    END = 4
    """An order: this lease gets no further chunk."""
    RETURN = 5


TRANSITIONS: dict[tuple[LeaseState, Message], LeaseState] = {
    (LeaseState.STARTING, Message.REPORT): LeaseState.REPORTED,
    (LeaseState.REPORTED, Message.CHUNK): LeaseState.WORKING,
    (LeaseState.REPORTED, Message.WAIT): LeaseState.WORKING,
    (LeaseState.REPORTED, Message.NOTED): LeaseState.WORKING,
    (LeaseState.REPORTED, Message.END): LeaseState.ENDING,
    (LeaseState.WORKING, Message.REPORT): LeaseState.REPORTED,
    (LeaseState.ENDING, Message.REPORT): LeaseState.ENDING_REPORTED,
    (LeaseState.ENDING_REPORTED, Message.NOTED): LeaseState.ENDING,
    (LeaseState.ENDING_REPORTED, Message.END): LeaseState.ENDING,
    (LeaseState.ENDING, Message.RETURN): LeaseState.OVER,
}


def find_next_state(lease: int, state: LeaseState, message: Message) -> LeaseState:
    """The state after a message.

    Raises:
        IllegalMessage: it may not follow in this state.
    """
    following = TRANSITIONS.get((state, message))
    if following is None:
        raise IllegalMessage(lease, state.name.lower(), message.name.lower())
    return following
