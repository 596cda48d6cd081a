"""The future of one task, like those of the standard library's pools."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from dfz_ray.driver.condition import Condition
from dfz_ray.executor.reported_future import ReportedFuture


class TaskFuture(ReportedFuture):
    """A future of concurrent.futures with its task's id; `on_cancel` is called once when it is cancelled."""

    def __init__(self, task_id: str, on_cancel: Callable[[], None]) -> None:
        super().__init__()
        self._condition = Condition()
        self.task_id = task_id
        self._on_cancel = on_cancel
        self._turn = threading.Lock()
        self._claimant: object = None
        self._is_reported = False

    def begin(self) -> bool:
        """A worker begins the task, or it ends; returns False if the future was cancelled."""
        with self._turn:
            if self._state in ("PENDING", "CANCELLED"):
                return self.set_running_or_notify_cancel()
            return not self.cancelled()

    def claim_end(self, claimant: object) -> bool:
        """Claim the right to end the task. Returns False if another has it: a task ends once."""
        with self._turn:
            if self._claimant is None:
                self._claimant = claimant
            return self._claimant is claimant

    def return_claim(self, claimant: object) -> bool:
        """The claimant has not ended the task: another may. Returns False if it did not have the right."""
        with self._turn:
            if self._claimant is not claimant:
                return False
            self._claimant = None
            return True

    def cancel(self) -> bool:
        """Cancel the task; one that a worker has begun goes on, and False is returned."""
        if not super().cancel():
            return False
        self.begin()  # this wakes those who wait
        with self._turn:
            is_first, self._is_reported = not self._is_reported, True
        if is_first:
            self._on_cancel()
        return True


def awaitable(future: Future[Any]) -> asyncio.Future[Any]:
    """A future of the running event loop that ends when this one does; cancelling it cancels this one.

    Unlike `asyncio.wrap_future` it does not complain if the loop is closed earlier.
    """
    loop = asyncio.get_running_loop()
    waiting: asyncio.Future[Any] = loop.create_future()

    def copy() -> None:
        if waiting.done():
            return
        if future.cancelled():
            waiting.cancel()
        elif (error := future.exception()) is not None:
            waiting.set_exception(error)
        else:
            waiting.set_result(future.result())

    def schedule_copy(_: Future[Any]) -> None:
        with contextlib.suppress(RuntimeError):  # the loop was closed
            loop.call_soon_threadsafe(copy)

    def pass_on(ended: asyncio.Future[Any]) -> None:
        if ended.cancelled():
            future.cancel()

    waiting.add_done_callback(pass_on)
    future.add_done_callback(schedule_copy)
    return waiting
