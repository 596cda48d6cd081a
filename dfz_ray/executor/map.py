"""`map`: calls are sent in groups, sized by how long the calls take; results come in order.

A group aims at 20 ms of work and at most 4 MiB. At first there is a group for each slot, as large as its share, for a
round trip costs more than short calls; until the slots of the cluster are counted, calls go one by one. A group that
turns out long ends after 0.1 s, a first one after 0.05 s, and one in which a call changes its process for good ends
there: its rest is sent anew. Of a group that kills its worker each call is made alone. So groups change neither the
order nor the exceptions.
"""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Iterator
from concurrent.futures import CancelledError
from typing import TYPE_CHECKING, Any

from dfz_ray.driver.condition import Condition
from dfz_ray.driver.unread_error import UnreadError
from dfz_ray.errors import InfrastructureLost
from dfz_ray.executor.call_packing import PackedCall, read_error
from dfz_ray.executor.call_run import CallRun, ExecutorBroken, Treatment
from dfz_ray.executor.function_domain import GroupResult, PackedFunction, read_group
from dfz_ray.executor.process_setup import InitializerFailed

if TYPE_CHECKING:
    from dfz_ray.protocol.task_events import FailedTask

GROUP_S = 0.02
"""Seconds of work in a group whose size is chosen here; the run makes chunks of groups."""
BUDGET_S = 0.1
"""Seconds after which a group ends if its calls take longer than expected; its remaining calls are sent anew."""
GROUP_BYTES = 2**22
"""The largest size of a group's arguments and of its results, estimated from the groups before it."""
GROUP_LIMIT = 10_000
LAST_GROUPS = 4
"""The remaining calls make at least so many groups for each slot, so that all slots end at about the same time."""
FIRST_CALLS, FIRST_BUDGET_S = 128, 0.05
"""The most calls of a group, and its seconds, before it is known how long calls take.

While nobody knows how many slots there are, so many calls go one by one.
"""
AHEAD = 16
"""Groups for each slot that are sent after that, and again when half of them have ended."""
AHEAD_LEAST, AHEAD_BYTES = 2, 2**28
"""Fewer groups if the arguments of all of them are larger than that, estimated; but never fewer for each slot."""

_LAST = (CancelledError, ExecutorBroken, InitializerFailed)
"""Errors after which no more calls are made."""
_NOTHING = object()
Items = list[tuple[Any, ...]]


class CallMap:
    """The results of the calls of one `map`, which is nothing to its run before it is started.

    Args:
        size: the number of calls in a group; None: it follows from how long they take.
        ends_at: the time, by time.monotonic, after which waiting for a result raises TimeoutError; None: never.
    """

    def __init__(
        self,
        run: CallRun,
        function: PackedFunction,
        treatment: Treatment,
        size: int | None,
        ends_at: float | None,
    ) -> None:
        self._run, self._function, self._treatment = run, function, treatment
        self._size = size
        self._ends_at = ends_at
        self._values: list[Any] = []
        """The results in order: _NOTHING if it is not known yet, a _Raised if the call has failed."""
        self._changed = Condition()
        self._groups: dict[_Group, None] = {}
        """The groups that were sent and have not ended."""
        self._left: Iterator[tuple[Any, ...]] = iter(())
        """The items from `_sent` on, which were not sent yet."""
        self._sent = 0
        self._is_cancelled = False
        self._unread: list[UnreadError] | None = []
        """The errors of calls; None once the results are not wanted any more."""
        self._each_s: float | None = None
        """The shortest time of a call, averaged over a group; the budget cuts longer ones off."""
        self._each_bytes = 1.0
        """The largest size of a call's arguments or result, averaged over a group."""

    # --- called by the user of `map` --------------------------------------------------------------------------------

    def start(self, items: Items) -> None:
        """Make the calls. Whoever is interrupted from here on, or later, gives the map up, or its run waits for it."""
        self._values, self._left = [_NOTHING] * len(items), iter(items)
        self._run.hold(self)
        if self._size is None:
            self._send_next(*self._choose_first(items))
        else:
            self._send_next(self._size, len(items))

    def give_up(self) -> None:
        """Nobody gets the results."""
        self.cancel()
        self._forget_errors()

    def results(self) -> Iterator[Any]:
        """The results in order. The exception of a call ends this, and cancels the groups that have not begun."""
        try:
            for position in range(len(self._values)):
                self._wait_for(position)
                yield self._take(position)
        finally:
            self.give_up()

    def _end_all(self) -> None:
        """End all groups, also those that have begun: nobody waits for their results any more."""
        self.end(CancelledError())
        with self._changed:
            groups = list(self._groups)
        self._run.cancel(groups)

    def cancel(self) -> None:
        """Cancel the calls that have not begun, except for those of a group that has."""
        self._is_cancelled = True
        self.end(CancelledError())
        with self._changed:
            groups = list(self._groups)
        self._run.release(self)
        for group in groups:
            group.cancel()

    def end(self, error: BaseException) -> None:
        """Nothing can be sent any more: the calls that were not sent have failed."""
        with self._changed:
            self._left = iter(())
            unsent = len(self._values) - self._sent
            self._put_error(error, self._sent, unsent)
            self._sent += unsent

    def _wait_for(self, position: int) -> None:
        if self._values[position] is not _NOTHING:
            return
        timeout_s = None if self._ends_at is None else self._ends_at - time.monotonic()
        with self._changed:
            timed_out = not self._changed.wait_for(lambda: self._values[position] is not _NOTHING, timeout_s)
        if timed_out:
            self._end_all()
            raise TimeoutError

    def _take(self, position: int) -> Any:
        """A result, to which no reference is kept here."""
        value = self._values[position]
        self._values[position] = _NOTHING
        if type(value) is _Raised:
            try:
                raise value.error
            finally:
                del value
        return value

    # --- called by the groups ---------------------------------------------------------------------------------------

    def on_complete(self, group: _Group, result: GroupResult, took_s: float, size_bytes: int) -> None:
        """Calls of a group have ended: all of them, or the first ones."""
        values, failures = result
        ended = len(values)
        self._each_bytes = max(self._each_bytes, size_bytes / ended)
        errors = {place: read_error(*failure) for place, failure in failures.items()}
        with self._changed:
            if self._groups.pop(group, self) is self:
                return  # it was cancelled
            self._values[group.first : group.first + ended] = values
            values.clear()  # another holder of this list must not keep the results alive
            for place, error in errors.items():
                self._put_error(error, group.first + place)
            self._changed.notify_all()
        self._each_s = min(took_s / ended, self._each_s or took_s)
        size = self._size or self._choose_size(len(group.items) - ended)
        self._send_again(group.items[ended:], group.first + ended, size)
        self._go_on()

    def on_fail(self, group: _Group, error: BaseException) -> None:
        """A group has failed as a whole, or was cancelled."""
        if isinstance(error, InitializerFailed):
            self._run.broken = error
        if self._run.has_ended or isinstance(error, InitializerFailed):
            self.end(error)
        is_last = self._run.has_ended or isinstance(error, _LAST)
        is_shared = self._size is None and len(group.items) > 1 and not is_last
        if not self._end_group(group, None if is_shared else error):
            return
        if is_shared:  # one call may have killed their worker: the others have not failed
            self._send_again(group.items, group.first, 1)
        self._go_on()

    def _end_group(self, group: _Group, error: BaseException | None) -> bool:
        """A group has ended, and its calls have failed if there is an error; returns False if it had ended before."""
        with self._changed:
            if self._groups.pop(group, self) is self:
                return False
            if error is not None:
                self._put_error(error, group.first, len(group.items))
            return True

    def _put_error(self, error: BaseException, first: int, count: int = 1) -> None:
        """Calls have failed, from a position on; called under `_changed`."""
        self._values[first : first + count] = [_Raised(error)] * count
        if count and self._unread is not None and not isinstance(error, CancelledError):
            self._unread.append(UnreadError("call", error, count))
        self._changed.notify_all()

    def _forget_errors(self) -> None:
        with self._changed:
            unread, self._unread = self._unread or (), None
        for error in unread:
            error.forget()

    def forget(self, group: _Group) -> None:
        """Cancel a group that has not begun."""
        self._run.cancel([group])

    def _go_on(self) -> None:
        """Send more groups when half of those that were sent ahead have ended."""
        if self._sent == len(self._values):
            self._release_if_ended()
            return
        size, slots = self._size or self._choose_size(len(self._values) - self._sent), self._run.slots
        fitting = int(AHEAD_BYTES / (size * self._each_bytes * slots))
        ahead = slots * max(AHEAD_LEAST, min(AHEAD, fitting))
        missing = ahead - len(self._groups)
        if 2 * missing >= ahead:
            self._send_next(size, missing * size)

    def _send_again(self, items: Items, first: int, size: int) -> None:
        """Send the calls that a group has left, unless nobody wants them any more."""
        if not self._is_cancelled:
            self._send_groups(items, first, size)
            return
        with self._changed:
            self._put_error(CancelledError(), first, len(items))

    def _choose_first(self, items: Items) -> tuple[int, int]:
        """The size of the first groups, and the number of their calls; the first item tells how large they become."""
        slots = self._run.known_slots
        size, groups = (1, FIRST_CALLS) if slots is None else (min(FIRST_CALLS, -(-len(items) // slots)), slots)
        with contextlib.suppress(Exception):  # it can't travel, and is told of that where its group is made
            first_bytes = len(self._run.packer.pack_group(self._function, items[:1], FIRST_BUDGET_S))
            size = min(size, GROUP_BYTES // first_bytes)
            if slots is None:
                groups = max(AHEAD_LEAST, min(groups, AHEAD_BYTES // first_bytes))
        size = max(1, size)
        return size, size * groups

    def _choose_size(self, left: int) -> int:
        if self._each_s is None:  # none has completed
            return 1
        shared = left // (LAST_GROUPS * self._run.slots)
        fitting = min(int(GROUP_S / max(self._each_s, 1e-9)), int(GROUP_BYTES / self._each_bytes))
        return max(1, min(GROUP_LIMIT, shared, fitting))

    def _send_next(self, size: int, count: int) -> None:
        is_all = was_sent = False
        while not (is_all or was_sent):  # if nothing was sent, no end will be heard that makes this go on
            with self._changed:
                items = list(itertools.islice(self._left, count))
                first, self._sent = self._sent, self._sent + len(items)
                is_all = self._sent == len(self._values)
            was_sent = self._send_groups(items, first, size)
        if is_all:
            self._release_if_ended()

    def _release_if_ended(self) -> None:
        """Let the run close, once all groups have ended: those that hand calls back may be cancelled until then."""
        if not self._groups:
            self._run.release(self)

    def _send_groups(self, items: Items, first: int, size: int) -> bool:
        """Send items; returns True if any of them can travel."""
        groups: list[_Group] = []
        try:
            for at in range(0, len(items), size):
                self._add_group(groups, items[at : at + size], first + at)
        except BaseException as error:  # pickling may do anything, also in the thread that hears of ends
            with self._changed:
                self._put_error(error, first, len(items))
            self.end(error)
            self._release_if_ended()
            raise
        if not groups:
            return False
        with self._changed:
            self._groups.update(dict.fromkeys(groups))
        try:
            self._run.send(groups)
        except InfrastructureLost:
            why = self._run.closed()
            self.end(why)
            for group in groups:
                self._end_group(group, why)
        return True

    def _add_group(self, groups: list[_Group], items: Items, first: int) -> None:
        """Add a group of items. If one of them can't travel, that call has failed, and each other item goes alone."""
        function = self._function
        budget_s = FIRST_BUDGET_S if self._each_s is None else BUDGET_S
        if self._size is not None:
            budget_s = float("inf")
        try:
            parameters = self._run.packer.pack_group(function, items, budget_s)
        except Exception as error:
            if len(items) > 1:
                for place, item in enumerate(items, first):
                    self._add_group(groups, [item], place)
                return
            with self._changed:
                self._put_error(error, first)
            return
        self._each_bytes = max(self._each_bytes, len(parameters) / len(items))
        call = PackedCall(f"{function.kind} (map)", parameters, function)
        groups.append(_Group(self, self._treatment, call, first, items))


class _Raised:
    """Takes the place of the result of a call that has failed."""

    __slots__ = ("error",)

    def __init__(self, error: BaseException) -> None:
        self.error = error


class _Group:
    """The calls of a map that are sent as one task."""

    def __init__(self, owner: CallMap, treatment: Treatment, call: PackedCall, first: int, items: Items) -> None:
        self.treatment = treatment
        self.call: PackedCall | None = call
        self.number: int | None = None
        self.is_wanted = True
        self.first = first
        """The position of its first call."""
        self.items = items
        self.has_begun = False
        self._map = owner

    def begin(self) -> None:
        """A worker begins the group."""
        self.has_begun = True

    def complete(self, result: bytes, began_at: float, ended_at: float) -> None:
        """The calls of the group have ended: all of them, or the first ones."""
        self.has_begun = True
        try:
            group = read_group(result)
        except BaseException as error:  # unpickling may do anything
            self.fail(error)
            return
        self._map.on_complete(self, group, ended_at - began_at, len(result))

    def on_failed(self, failed: FailedTask) -> None:
        """The group has failed as a whole."""
        self.fail(read_error(failed.reason, failed.message, failed.traceback, failed.payload))

    def fail(self, error: BaseException) -> None:
        """The group has failed as a whole, for this reason."""
        self.has_begun = True
        self._map.on_fail(self, error)

    def on_cancelled(self) -> None:
        """The run cancels the group, or has cancelled it."""
        self.fail(CancelledError())

    def cancel(self) -> bool:
        """Cancel the group if it has not begun; returns True if it is cancelled."""
        if self.has_begun:
            return False
        self._map.forget(self)
        return True
