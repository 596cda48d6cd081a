"""The answer to a call of an actor, without `ray.get`: Ray takes a worker that waits in it for blocked."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any


class AnswerLost(RuntimeError):
    """The answer can't be read in this process."""


class Answer:
    """An answer that is on its way.

    Ray unpacks it in a thread of its own. If that fails, as in a process that a task has spoiled, Ray writes a line to
    its log, and whoever waits would wait for ever. But it drops the only reference to the future that it should set.

    Args:
        reference: the reference that the call has returned.
        notify: called once the answer is here, or lost.
    """

    def __init__(self, reference: Any, notify: Callable[[], None] = lambda: None) -> None:
        self._found: SimpleQueue[Future[Any] | None] = SimpleQueue()
        found, future = self._found, reference.future()

        def on_arrived(future: Future[Any]) -> None:
            found.put(future)
            notify()

        def on_gone(_: Any) -> None:
            found.put(None)
            notify()

        self._gone = weakref.ref(future, on_gone)
        future.add_done_callback(on_arrived)

    @property
    def is_here(self) -> bool:
        """True if `read` need not wait."""
        return not self._found.empty()

    def read(self) -> Any:
        """Wait for the answer, and return it; for one call only.

        Raises:
            AnswerLost: this process can't read it.
        """
        future = self._found.get()
        if future is None:
            raise AnswerLost("an answer of the manager could not be read: a task had spoiled the worker process")
        return future.result()
