"""A task that a task manager was given, and what is known of it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from concurrent.futures import CancelledError
from typing import Any, NamedTuple, Protocol

from dfz_ray.dropin.records import Answer, answer
from dfz_ray.dropin.task_future import TaskFuture
from dfz_ray.errors import CallFailed
from dfz_ray.executor.call_packing import read_error
from dfz_ray.executor.function_domain import read_result
from dfz_ray.specs.encoding import decode

logger = logging.getLogger("dfz_ray")


class TaskFailure(NamedTuple):
    """Why a task failed."""

    reason: str
    message: str
    traceback: str | None = None
    payload: bytes | None = None
    """Its exception, where it could travel."""
    error: BaseException | None = None
    """Its exception, where it was raised here."""

    def __str__(self) -> str:
        return str(CallFailed(self.reason, self.message))


class Outcome(NamedTuple):
    """What came of a task."""

    status: str
    began: float
    ended: float
    result: Any
    error: str | None = None
    has_run: bool = True
    """Whether the times are those of an execution."""


class Run(Protocol):
    """Where a task is sent to."""

    def cancel(self, task: SubmittedTask) -> None:
        """Let a task go whose future was cancelled."""


class SubmittedTask:
    """A task of a domain.

    Args:
        label: its id, as its batch has it.
        stored_id: its id, as the manager's run has it.
        content: what it was given as.
        on_end: is called when it has ended, before its future says so; or right afterwards, where that was cancelled.
    """

    def __init__(self, label: str, stored_id: str, content: Any, on_end: Callable[[SubmittedTask], None]) -> None:
        self.label = label
        self.stored_id = stored_id
        self.content = content
        self.future = TaskFuture(label, self._cancelled)
        self.run: Run | None = None
        """The run that has it, once there is one."""
        self.number: int | None = None
        """There, once it was sent."""
        self.was_returned = False
        """Whether the batch that it came with has returned its record."""
        self.outcome: Outcome | None = None
        self._begun_at: float | None = None
        self._on_end = on_end

    @property
    def status(self) -> str:
        """pending, running, completed, failed or cancelled."""
        if self.outcome is not None:
            return self.outcome.status
        if self.future.cancelled():
            return "cancelled"
        return "pending" if self._begun_at is None else "running"

    def record(self) -> Answer:
        """What is known of it, as a dictionary of the caller's own."""
        outcome = self.outcome
        told: Answer = {
            "task_id": self.label,
            "status": self.status,
            "start_time": self._begun_at,
            "end_time": None,
            "duration": None,
            "result": None,
        }
        if outcome is not None:
            took = outcome.ended - outcome.began
            told |= {"start_time": outcome.began, "end_time": outcome.ended, "duration": took, "result": outcome.result}
            told |= {} if outcome.error is None else {"error": outcome.error}
        elif told["status"] == "running" and self._begun_at is not None:
            told["elapsed"] = max(0.0, time.time() - self._begun_at)
        return told

    def begin(self) -> None:
        """A worker begins it."""
        if self.future.begin() and self._begun_at is None:
            self._begun_at = time.time()

    def complete(self, stored: bytes, began: float, ended: float) -> None:
        """It has completed, with a result as the run stores it."""
        if not self.future.begin():
            return
        try:
            result = self._read(stored, began, ended)
        except Exception as error:  # what is unpickled may do anything
            self.fail(
                TaskFailure("exception", f"the result can't be read: {type(error).__name__}: {error}"), began, ended
            )
            return
        self._end(Outcome("completed", began, ended, result))
        self.future.set_result(result)

    def fail(self, trouble: TaskFailure, began: float | None = None, ended: float | None = None) -> None:
        """It has failed for good; without times where it never ran, or its worker died with them."""
        if not self.future.begin():
            return
        has_run = began is not None and ended is not None
        if began is None or ended is None:
            began = ended = time.time()
        text = str(trouble)
        result = answer(self.label, began, ended, error=text)
        self._end(Outcome("failed", began, ended, result, text, has_run))
        self._tell_failure(trouble, result)

    def drop(self) -> None:
        """Its run has cancelled it, without being asked by its future."""
        if self.future.cancel() or not self.future.begin() or self.outcome is not None:
            return
        self._end(self._cancellation())
        self.future.set_exception(CancelledError())

    def _cancelled(self) -> None:
        self._end(self._cancellation())
        if self.run is not None:
            self.run.cancel(self)

    def _cancellation(self) -> Outcome:
        now, text = time.time(), "it was cancelled"
        return Outcome("cancelled", now, now, answer(self.label, now, now, error=text), text, has_run=False)

    def _end(self, outcome: Outcome) -> None:
        self.outcome = outcome
        self._on_end(self)
        if logger.isEnabledFor(logging.DEBUG):
            took = f" after {outcome.ended - outcome.began:.4g} s" if outcome.has_run else ""
            why = f": {outcome.error}" if outcome.error else ""
            logger.debug("task %s: %s%s%s", self.stored_id, outcome.status, took, why)

    # --- what differs between domains and functions -----------------------------------------------------------------

    def _read(self, stored: bytes, began: float, ended: float) -> Any:
        return answer(self.label, began, ended, decode(stored))

    def _tell_failure(self, trouble: TaskFailure, result: Answer) -> None:
        self.future.set_result(result)


class SubmittedCall(SubmittedTask):
    """A task that is a call of a function; its future raises what the function raised."""

    def _read(self, stored: bytes, began: float, ended: float) -> Any:
        value = read_result(stored)
        if isinstance(value, dict):
            for key, time_s in (("start_time", began), ("end_time", ended), ("duration", ended - began)):
                value.setdefault(key, time_s)
        return value

    def _tell_failure(self, trouble: TaskFailure, result: Answer) -> None:
        self.future.set_exception(trouble.error or read_error(*trouble[:4]))
