"""The results of a `map`, in order: its calls are sent in groups, whose sizes follow from how long the calls take."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator
from concurrent.futures import CancelledError
from typing import Any

from dfz_ray.errors import InfrastructureLost
from dfz_ray.executor.call_packing import PackedCall, read_error
from dfz_ray.executor.call_run import CallRun, ExecutorBroken, Treatment
from dfz_ray.executor.function_domain import GroupResult, PackedFunction, read_group

GROUP_S = 0.02
"""A group whose size is chosen here aims at this much work; the run makes chunks of groups."""
BUDGET_S = 0.1
"""Where its calls take longer than was expected, it ends after this time, and its others are sent anew."""
GROUP_BYTES = 2**22
"""And its arguments and its results have no more bytes than this, as far as those before it tell."""
GROUP_LIMIT = 10_000
LAST_GROUPS = 4
"""There are at least so many groups for each slot of what is left, that all slots end at about the same time."""
PROBES = 2
"""So many calls for each slot are sent alone before it is known how long they take."""
AHEAD = 16
"""And then so many groups for each slot, again and again, when half of these have ended."""

_LAST = (CancelledError, ExecutorBroken)
"""Errors after which no call is made any more."""
_NOTHING = object()
Items = list[tuple[Any, ...]]


class CallMap:
    """The results of the calls of one `map`.

    Args:
        run: where they are made.
        function: what is called, as it was when `map` was called.
        treatment: how.
        items: the positional arguments of each call.
        size: how many calls go together; None: that is chosen here, such that nobody need wait for it.
        ends_at: when results are no more waited for, by time.monotonic; None: never.
    """

    def __init__(
        self,
        run: CallRun,
        function: PackedFunction,
        treatment: Treatment,
        items: Items,
        size: int | None,
        ends_at: float | None,
    ) -> None:
        self._run, self._function, self._treatment = run, function, treatment
        self._size = size
        self._ends_at = ends_at
        self._values: list[Any] = [_NOTHING] * len(items)
        """In their order; _NOTHING is not known yet, and a _Raised is to be raised."""
        self._changed = threading.Condition()
        self._groups: dict[_Group, None] = {}
        """Those that were sent and have not ended."""
        self._left = iter(items)
        """Those from `_sent` on, which were not sent yet."""
        self._sent = 0
        self._each_s: float | None = None
        """The least that a call has taken, on average in a group; what takes longer is cut off by the budget."""
        self._each_bytes = 1.0
        """The most that arguments or results of a call had, on average in a group."""
        run.hold(self)
        if size is None:
            self._send_next(1, PROBES * run.slots)
        else:
            self._send_next(size, len(items))

    # --- what its caller asks ---------------------------------------------------------------------------------------

    def results(self) -> Iterator[Any]:
        """The results in order; an exception of a call ends it, and what has not begun is cancelled."""
        try:
            for position in range(len(self._values)):
                self._wait_for(position)
                yield self._take(position)
        finally:
            self.cancel()

    def cancel(self) -> None:
        """Cancel what has not begun."""
        self.end(CancelledError())
        with self._changed:
            groups = list(self._groups)
        self._run.release(self)
        for group in groups:
            group.cancel()

    def end(self, error: BaseException) -> None:
        """Nothing can be sent any more: what was not sent has failed."""
        with self._changed:
            self._left = iter(())
            unsent = len(self._values) - self._sent
            self._values[self._sent :] = [_Raised(error)] * unsent
            self._sent += unsent
            self._changed.notify_all()

    def _wait_for(self, position: int) -> None:
        if self._values[position] is not _NOTHING:
            return
        timeout_s = None if self._ends_at is None else self._ends_at - time.monotonic()
        with self._changed:
            if not self._changed.wait_for(lambda: self._values[position] is not _NOTHING, timeout_s):
                raise TimeoutError

    def _take(self, position: int) -> Any:
        """A result; no reference to it is kept."""
        value = self._values[position]
        self._values[position] = _NOTHING
        if type(value) is _Raised:
            try:
                raise value.error
            finally:
                del value
        return value

    # --- what its groups tell ---------------------------------------------------------------------------------------

    def on_complete(self, group: _Group, result: GroupResult, took_s: float, size_bytes: int) -> None:
        """Calls of a group have ended: all of them, or the first ones."""
        values, failures = result
        ended = len(values)
        self._each_bytes = max(self._each_bytes, size_bytes / ended)
        for place, failure in failures.items():
            values[place] = _Raised(read_error(*failure))
        with self._changed:
            if self._groups.pop(group, self) is self:
                return  # it was cancelled
            self._values[group.first : group.first + ended] = values
            values.clear()  # who else has this list holds no result any more
            self._changed.notify_all()
        self._each_s = min(took_s / ended, self._each_s or took_s)
        self._send_groups(group.items[ended:], group.first + ended, self._choose_size(len(group.items) - ended))
        self._go_on()

    def on_fail(self, group: _Group, error: BaseException) -> None:
        """A group has failed as a whole, or was cancelled."""
        if self._run.has_ended:
            self.end(error)
        is_last = self._run.has_ended or isinstance(error, _LAST)
        is_shared = self._size is None and len(group.items) > 1 and not is_last
        if not self._end_group(group, None if is_shared else error):
            return
        if is_shared:  # one of them has killed their worker, say: the others have not failed
            self._send_groups(group.items, group.first, 1)
        self._go_on()

    def _end_group(self, group: _Group, error: BaseException | None) -> bool:
        """A group is not under way any more, and its calls have failed, if there is an error; False: that was known."""
        with self._changed:
            if self._groups.pop(group, self) is self:
                return False
            if error is not None:
                self._values[group.first : group.first + len(group.items)] = [_Raised(error)] * len(group.items)
                self._changed.notify_all()
            return True

    def forget(self, group: _Group) -> None:
        """A group is not to be executed."""
        self._run.cancel([group])

    def _go_on(self) -> None:
        """Send more, when half of what was sent ahead has ended."""
        missing = AHEAD * self._run.slots - len(self._groups)
        if 2 * missing >= AHEAD * self._run.slots and self._sent < len(self._values):
            size = self._size or self._choose_size(len(self._values) - self._sent)
            self._send_next(size, missing * size)

    def _choose_size(self, left: int) -> int:
        if self._each_s is None:  # none has completed
            return 1
        shared = left // (LAST_GROUPS * self._run.slots)
        fitting = min(int(GROUP_S / max(self._each_s, 1e-9)), int(GROUP_BYTES / self._each_bytes))
        return max(1, min(GROUP_LIMIT, shared, fitting))

    def _send_next(self, size: int, count: int) -> None:
        is_all = was_sent = False
        while not (is_all or was_sent):  # of what was not sent nothing is heard that would make this go on
            with self._changed:
                items = list(itertools.islice(self._left, count))
                first, self._sent = self._sent, self._sent + len(items)
                is_all = self._sent == len(self._values)
            was_sent = self._send_groups(items, first, size)
        if is_all:
            self._run.release(self)

    def _send_groups(self, items: Items, first: int, size: int) -> bool:
        """Send items; returns whether any of them could travel."""
        groups: list[_Group] = []
        for at in range(0, len(items), size):
            self._add_group(groups, items[at : at + size], first + at)
        if not groups:
            return False
        with self._changed:
            self._groups.update(dict.fromkeys(groups))
        try:
            self._run.send(groups)
        except InfrastructureLost:
            error = self._run.closed()
            self.end(error)
            for group in groups:
                self._end_group(group, error)
        return True

    def _add_group(self, groups: list[_Group], items: Items, first: int) -> None:
        """Add a group; where one of its items can't travel, that one has failed, and the others go alone."""
        function = self._function
        budget_s = BUDGET_S if self._size is None else float("inf")
        try:
            parameters = self._run.packer.pack_group(function, items, budget_s)
        except Exception as error:
            if len(items) > 1:
                for place, item in enumerate(items, first):
                    self._add_group(groups, [item], place)
                return
            with self._changed:
                self._values[first] = _Raised(error)
                self._changed.notify_all()
            return
        self._each_bytes = max(self._each_bytes, len(parameters) / len(items))
        call = PackedCall(f"{function.kind} (map)", parameters, function)
        groups.append(_Group(self, self._treatment, call, first, items))


class _Raised:
    """In the place of a result."""

    __slots__ = ("error",)

    def __init__(self, error: BaseException) -> None:
        self.error = error


class _Group:
    """Calls of a map that are one task."""

    def __init__(self, owner: CallMap, treatment: Treatment, call: PackedCall, first: int, items: Items) -> None:
        self.treatment = treatment
        self.call: PackedCall | None = call
        self.number: int | None = None
        self.is_wanted = True
        self.first = first
        """Position of its first call."""
        self.items = items
        self.has_begun = False
        self._map = owner

    def begin(self) -> None:
        """A worker begins it."""
        self.has_begun = True

    def complete(self, result: bytes, took_s: float) -> None:
        """Its calls have ended: all of them, or the first ones."""
        self.has_begun = True
        try:
            group = read_group(result)
        except BaseException as error:  # what is unpickled may do anything
            self.fail(error)
            return
        self._map.on_complete(self, group, took_s, len(result))

    def fail(self, error: BaseException) -> None:
        """It has failed as a whole."""
        self.has_begun = True
        self._map.on_fail(self, error)

    def on_cancelled(self) -> None:
        """The run has cancelled it."""
        self.fail(CancelledError())

    def cancel(self) -> bool:
        """Cancel it, if it has not begun."""
        if self.has_begun:
            return False
        self._map.forget(self)
        return True
