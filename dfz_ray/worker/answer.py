"""The answer to a call of an actor, without `ray.get`: Ray takes a worker that waits in it for blocked."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable
from queue import Empty, SimpleQueue
from time import monotonic
from typing import Any

from ray._private.worker import global_worker

LOOK_S = 1.0
"""Seconds between two looks for an answer that is on its way."""
LOST_S = 3.0
"""An answer that Ray has had for so long, and that is not here, is lost."""


class AnswerLost(RuntimeError):
    """The answer can't be read in this process."""


class AnswerLate(AnswerLost):
    """The answer did not come within the time that its caller has for it."""


def check_connection() -> None:
    """Make sure that a call goes to the Ray of this worker: once a task has left it, Ray would start another one here.

    Raises:
        AnswerLost: this worker is not connected to Ray any more.
    """
    if not global_worker.connected:
        raise AnswerLost("a task has disconnected its worker from Ray")


class Answer:
    """An answer that is on its way.

    Ray unpacks it in a thread of its own. If that fails, as in a process that a task has spoiled, nobody is told: then
    Ray has it, and it never gets here.

    Args:
        reference: the reference that the call has returned.
        notify: called once the answer is here.
    """

    def __init__(self, reference: Any, notify: Callable[[], None] = lambda: None) -> None:
        self._reference = reference
        self._found: SimpleQueue[Any] = SimpleQueue()
        self._looked_at = monotonic()
        self._waited_s = 0.0
        """For so long Ray has had it; time in which a task kept the GIL counts as one look."""

        def on_arrived(future: Any) -> None:
            self._found.put(future)
            notify()

        reference.future().add_done_callback(on_arrived)

    @property
    def is_here(self) -> bool:
        """True if `read` need not wait."""
        return not self._found.empty()

    def look(self) -> None:
        """Look whether it is lost, if the last look was long ago.

        Raises:
            AnswerLost: this process can't read it.
        """
        passed_s = monotonic() - self._looked_at
        if passed_s < LOOK_S:
            return
        self._looked_at += passed_s
        check_connection()
        # On this node, not anywhere in the cluster; and unlike ray.wait it does not report this worker as blocked.
        if global_worker.core_worker.object_exists(self._reference):
            self._waited_s += LOOK_S
        if self._waited_s >= LOST_S and not self.is_here:
            raise AnswerLost("an answer of the manager could not be read: a task had spoiled the worker process")

    def read(self, most_s: float = math.inf) -> Any:
        """Wait for the answer, and return it; for one call only.

        Raises:
            AnswerLate: it does not come within so many seconds.
            AnswerLost: this process can't read it.
        """
        end = monotonic() + most_s
        while monotonic() < end:
            with contextlib.suppress(Empty):
                return self._found.get(timeout=max(0.0, min(LOOK_S, end - monotonic()))).result()
            self.look()
        raise AnswerLate(f"the manager did not answer within {most_s:g} s")
