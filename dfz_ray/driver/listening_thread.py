"""The thread that hears of a run's news, by calls of its manager."""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, Generic, TypeVar

from dfz_ray.driver.condition import Condition

News = TypeVar("News")
SETTLE_S = 0.1
"""Seconds after which the counts are looked at once more: by then ends that were reported early are on the disk."""
MOST_CALLS = 2
"""The thread is handed no further call while so many are on their way."""


class ListeningThread(threading.Thread, Generic[News]):
    """Listens to one manager until it is stopped, or the manager fails, which notifies `changed`.

    Each call of the manager brings the next news. `is_due`, called under `changed`, returns True if news are waited
    for; `wake` makes the thread ask again. If nothing is due but `is_behind` returns True, news are taken once more
    after SETTLE_S. `ask` makes a call, `read` waits for its news, and `report` tells them.

    The thread makes a call if none is on its way. It is also handed calls, for one that submits tasks may bring the
    next news, too; with two on their way, news that come shortly after others need not wait for a further call.
    """

    def __init__(
        self,
        name: str,
        changed: Condition,
        is_due: Callable[[], bool],
        is_behind: Callable[[], bool],
        ask: Callable[[], Any],
        read: Callable[[Any], News],
        report: Callable[[News], None],
    ) -> None:
        super().__init__(name=name, daemon=True)
        self.error: BaseException | None = None
        """The error that ended the thread."""
        self._changed, self._is_due, self._is_behind = changed, is_due, is_behind
        self._woken = changed.with_same_lock()
        """Only this thread waits for it: to wake another one in vain delays each call."""
        self._ask, self._read, self._report = ask, read, report
        self._is_stopped = False
        self._is_held = False
        """True while a place is held for a call that it will be handed."""
        self._calls: deque[Any] = deque()
        """The calls on their way; the manager answers the oldest one first."""

    @contextlib.contextmanager
    def handing_over(self) -> Iterator[Callable[[Any], None] | None]:
        """Yield the function that hands a call to the thread; None if enough calls are on their way.

        The thread makes no call in place of this one until it is handed it, or the block is left.
        """
        with self._changed:
            self._is_held = self.error is None and len(self._calls) < MOST_CALLS
        try:
            yield self._hand_over if self._is_held else None
        finally:
            if self._is_held:
                with self._changed:
                    self._is_held = False
                    self.wake()

    def wake(self) -> None:
        """Look again whether news are due; called under `changed`. A call that it will be handed wakes it anyway."""
        if not self._is_held:
            self._woken.notify()

    def _hand_over(self, call: Any) -> None:
        with self._changed:
            self._calls.append(call)
            self._is_held = False
            self.wake()

    def stop(self) -> None:
        """Make no more calls. News that are on their way are still reported; `join` waits for that."""
        with self._changed:
            self._is_stopped = True
            self._woken.notify()

    def run(self) -> None:
        """Listen, in this thread."""
        try:
            while self._make_call():
                try:
                    news = self._read(self._calls[0])
                finally:
                    self._calls.popleft()
                self._report(news)
        except BaseException as error:
            with self._changed:
                self.error = error
                self._changed.notify_all()
            for call in self._calls:  # Ray would print the error of a call that nobody reads
                with contextlib.suppress(Exception):
                    self._read(call)

    def _make_call(self) -> bool:
        """Wait until a call is on its way, and make it if news are due; returns False once none will be."""
        with self._changed:
            while not self._may_listen():
                if not self._is_behind():
                    self._woken.wait()
                elif not self._woken.wait_for(self._may_listen, SETTLE_S) and not self._is_held:
                    break
            if not (self._calls or self._is_stopped):
                self._calls.append(self._ask())
            return bool(self._calls)

    def _may_listen(self) -> bool:
        return self._is_stopped or bool(self._calls) or (self._is_due() and not self._is_held)
