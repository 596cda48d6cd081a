"""A condition variable that Ctrl-C does not leave locked."""

from __future__ import annotations

import operator
import threading


class Condition(threading.Condition):
    """A condition variable of `threading`, for those that the main thread enters.

    The `__exit__` of its class is a function of Python: an interrupt that comes as that begins leaves the lock held,
    and every other thread waits for it for ever. So `with` calls the methods of the lock itself, which end first.
    """

    def with_same_lock(self) -> Condition:
        """Another condition variable, for other waiters, that this one's lock guards, too."""
        return Condition(self._lock)  # type: ignore[attr-defined]

    __enter__ = property(operator.attrgetter("_lock.__enter__"))
    __exit__ = property(operator.attrgetter("_lock.__exit__"))
