"""A task that was submitted to a task manager: its future and its record."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from concurrent.futures import CancelledError
from typing import TYPE_CHECKING, Any, NamedTuple

from dfz_ray.dropin.records import Answer, answer, times, with_old_keys
from dfz_ray.dropin.task_future import TaskFuture
from dfz_ray.errors import CallFailed
from dfz_ray.executor.call_packing import read_error
from dfz_ray.executor.function_domain import read_result
from dfz_ray.specs.encoding import decode
from dfz_ray.specs.task import Task

if TYPE_CHECKING:
    from dfz_ray.dropin.task_run import TaskRun
    from dfz_ray.protocol.task_events import FailedTask

logger = logging.getLogger("dfz_ray")


class Sending(NamedTuple):
    """A checked task, ready to be sent to the run."""

    checked: Task
    files: Mapping[str, bytes]
    """The files that its parameters name, by SHA-256."""


class Outcome(NamedTuple):
    """The end of a task."""

    status: str
    began: float
    ended: float
    result: Any
    error: str | None = None
    has_run: bool = True
    """True if the times are those of an execution."""


class SubmittedTask:
    """A task of a domain; the run notifies it when it begins and ends.

    Args:
        label: its id in its batch.
        stored_id: its id in the run.
        content: the task as the caller gave it.
        on_end: called when the task ends: before its future is done, or right after its future was cancelled.
    """

    def __init__(self, label: str, stored_id: str, content: Any, on_end: Callable[[SubmittedTask], None]) -> None:
        self.label = label
        self.stored_id = stored_id
        self.content = content
        self.future = TaskFuture(label, self._on_future_cancelled)
        self.sending: Sending | None = None
        """The checked task, until it is sent."""
        self.run: TaskRun | None = None
        self.number: int | None = None
        self.is_wanted = True
        self.was_returned = False
        """True if the batch that it came with has returned its record."""
        self.outcome: Outcome | None = None
        self._begun_at: float | None = None
        self._on_end = on_end
        self._is_told = False
        """True once `on_end` has returned."""

    @property
    def status(self) -> str:
        """pending, running, completed, failed or cancelled."""
        if self.outcome is not None:
            return self.outcome.status
        if self.future.cancelled():
            return "cancelled"
        return "pending" if self._begun_at is None else "running"

    @property
    def has_ended(self) -> bool:
        """True once the end is told, and the future is done."""
        return self._is_told and self.future.done()

    def record(self) -> Answer:
        """The task's record: a dictionary that the caller may change."""
        record: Answer = {"task_id": self.label, "status": self.status}
        if (outcome := self.outcome) is not None:
            self.future.mark_read()
            record |= {"status": outcome.status, **times(outcome.began, outcome.ended), "result": outcome.result}
            return record if outcome.error is None else {**record, "error": outcome.error}
        record |= {"start_time": self._begun_at, "end_time": None, "duration": None, "result": None}
        if record["status"] == "running" and self._begun_at is not None:
            record["elapsed"] = max(0.0, time.time() - self._begun_at)
        return record

    def begin(self) -> None:
        """A worker begins the task."""
        if self.future.begin() and self._begun_at is None:
            self._begun_at = time.time()

    def complete(self, result: bytes, began_at: float, ended_at: float) -> None:
        """The task has completed; the result is the stored one."""
        if not self.future.begin():
            self._end_cancelled()
            return
        try:
            value = self._read(result, began_at, ended_at)
        except Exception as error:  # unpickling may do anything
            message = f"the result can't be read: {type(error).__name__}: {error}"
            self._fail("exception", message, CallFailed("exception", message), began_at, ended_at)
            return
        self._end(Outcome("completed", began_at, ended_at, value), lambda: self.future.set_result(value))

    def on_failed(self, failed: FailedTask) -> None:
        """The task has failed for good."""
        error = read_error(failed.reason, failed.message, failed.traceback, failed.payload)
        self._fail(failed.reason, failed.message, error, failed.began_at, failed.ended_at)

    def fail(self, error: BaseException) -> None:
        """The task has failed without being executed."""
        self._fail("exception", str(error), error)

    def refuse(self, error: BaseException) -> None:
        """The task can't be sent to the workers."""
        self._fail("unserializable", f"it can't be sent to the workers: {type(error).__name__}: {error}", error)

    def on_cancelled(self) -> None:
        """The run cancels the task, or has cancelled it; its future may not know this yet."""
        if self.future.cancel() or not self.future.begin():
            return
        self._end(self._cancellation(), lambda: self.future.set_exception(CancelledError()))

    def _on_future_cancelled(self) -> None:
        self.is_wanted = False
        self._end_cancelled()
        if self.run is not None:
            self.run.cancel([self])

    def _end_cancelled(self) -> None:
        """The task ends as its future was cancelled; an interrupted `cancel` has not told."""
        self._end(self._cancellation(), lambda: None)

    def _fail(
        self,
        reason: str,
        message: str,
        error: BaseException,
        began_at: float | None = None,
        ended_at: float | None = None,
    ) -> None:
        """The task has failed; without times if it was never executed, or if they were lost with its worker."""
        if not self.future.begin():
            self._end_cancelled()
            return
        has_run = began_at is not None and ended_at is not None
        if began_at is None or ended_at is None:
            began_at = ended_at = time.time()
        text = str(CallFailed(reason, message))
        result = answer(self.label, began_at, ended_at, error=text)
        outcome = Outcome("failed", began_at, ended_at, result, text, has_run)
        self._end(outcome, lambda: self._end_future(error, result), error)

    def _cancellation(self) -> Outcome:
        now, text = time.time(), "it was cancelled"
        return Outcome("cancelled", now, now, answer(self.label, now, now, error=text), text, has_run=False)

    def _end(self, outcome: Outcome, end_future: Callable[[], None], error: BaseException | None = None) -> None:
        """End the task, unless it has ended. After an interruption, e.g. by Ctrl-C, somebody else may end it."""
        claimant = object()
        try:
            if not self.future.claim_end(claimant):
                return
            if error is not None:
                self.future.note_error("task", error)
            if not self._is_told:
                self.outcome = outcome
                self._on_end(self)
                self._is_told = True
                self._log(outcome)
            end_future()
        except BaseException:
            if not self.has_ended and self.future.return_claim(claimant):  # else it was raised by a callback
                self.future.mark_read()
            raise

    def _log(self, outcome: Outcome) -> None:
        if logger.isEnabledFor(logging.DEBUG):
            took = f" after {outcome.ended - outcome.began:.4g} s" if outcome.has_run else ""
            why = f": {outcome.error}" if outcome.error else ""
            logger.debug("task %s: %s%s%s", self.stored_id, outcome.status, took, why)

    # --- the differences between domains and functions --------------------------------------------------------------

    def _read(self, stored: bytes, began: float, ended: float) -> Any:
        return answer(self.label, began, ended, with_old_keys(decode(stored), self.content.get("domain", "")))

    def _end_future(self, error: BaseException, result: Answer) -> None:
        self.future.set_result(result)


class SubmittedCall(SubmittedTask):
    """A task that is a call of a function; its future raises what the function raised."""

    def _read(self, stored: bytes, began: float, ended: float) -> Any:
        value = read_result(stored)
        if isinstance(value, dict):
            for key, time_s in times(began, ended).items():
                value.setdefault(key, time_s)
        return value

    def _end_future(self, error: BaseException, result: Answer) -> None:
        self.future.set_exception(error)
