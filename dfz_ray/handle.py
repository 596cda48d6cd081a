"""A batch that was submitted: its tasks as they end, and its results in the end."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import functools
import logging
import shlex
import shutil
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dfz_ray.driver.condition import Condition
from dfz_ray.driver.listener import Completed, CountsListener, RunListener
from dfz_ray.driver.run_session import RunSession
from dfz_ray.driver.unread_error import UnreadError
from dfz_ray.errors import InfrastructureLost, InvalidInput, Problem
from dfz_ray.journal.folder import RunFolder
from dfz_ray.journal.record import Record, TaskError
from dfz_ray.results import Results, read_results
from dfz_ray.specs.batch import Batch
from dfz_ray.specs.problems import nearest, show
from dfz_ray.specs.run_config import RunConfig
from dfz_ray.specs.states import count_final

if TYPE_CHECKING:
    from dfz_ray.protocol.submission import ShippedDomain
    from dfz_ray.protocol.task_events import FailedTask

logger = logging.getLogger("dfz_ray")

HINT_TASKS = 1_000
"""The most ids that a hint is chosen from."""
INTERRUPT_GRACE_S = 2.0
"""Seconds that running chunks have to end after an interrupt, before their workers are killed."""


class BatchHandle:
    """A batch that was submitted; its work goes on in the background. `submit` makes it.

    Args:
        batch: the checked tasks; None goes on with the run of the folder as it is.
        config: the run's configuration.
        domains: the domains that the batch names, ready to travel; None: they are found when the run is opened.
        has_listener: True if `as_completed` will be called.
        on_counts: is called with the counts as they change.
        on_end: is called once, at the end.
    """

    def __init__(
        self,
        batch: Batch | None,
        config: RunConfig,
        *,
        domains: Mapping[str, ShippedDomain] | None = None,
        has_listener: bool = True,
        on_counts: CountsListener = lambda counts: None,
        on_end: Callable[[], None] = lambda: None,
    ) -> None:
        if batch is not None:
            config = dataclasses.replace(config, name=batch.name, seed=batch.seed)
        self._is_temporary = config.run_dir is None
        self._on_end = on_end
        self._results: Results | None = None
        self._failure: BaseException | None = None
        self._unread: UnreadError | None = None
        """The failure, unless somebody has read it."""
        self._was_interrupted = False
        self._ended = _EndedTasks(batch, self._is_temporary, on_counts, self._end)
        is_new = config.run_dir is None or not RunFolder(config.run_dir).holds_run()
        self._new = batch if is_new else None
        """The batch, if it has all tasks of the run."""
        self._session = RunSession(config, self._ended, has_listener=has_listener, is_endless=False)
        self._folder = self._session.folder
        if batch is None:
            self._session.go_on()
        else:
            self._session.submit(batch, domains)
        self._session.start()

    @property
    def counts(self) -> dict[str, int]:
        """Tasks per state, as last heard: at most half a second old."""
        return self._session.counts if self._results is None else self._results.counts

    @property
    def run_dir(self) -> str:
        """The run folder: while the run goes on, and afterwards if it is kept."""
        return str(self._folder)

    @property
    def done(self) -> bool:
        """True if the run has ended."""
        return self._ended.is_over

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until all tasks are in a final state, or until the timeout, in seconds; returns True if they are.

        Raises:
            DfzError: the run could not go on; this is the reason.
        """
        is_over = self._ended.wait(lambda: self._ended.is_over, timeout)
        if self._failure is not None:
            self._mark_read()
            raise self._failure
        return is_over

    def results(self, timeout: float | None = None) -> Results:
        """Wait for the end, and return the results.

        Args:
            timeout: seconds to wait; None: as long as it takes.

        Raises:
            TimeoutError: it takes longer; the run goes on.
            DfzError: the run could not go on; this is the reason.
        """
        if not self.wait(timeout) or self._results is None:
            raise TimeoutError(f"the run has not ended within {timeout:g} s: {self!r}")
        return self._results

    def as_completed(self, timeout: float | None = None) -> Completing:
        """The records of the tasks as they end, also failed and cancelled ones: for `for` and for `async for`.

        Args:
            timeout: seconds from now after which iterating raises TimeoutError; None: never.
        """
        return Completing(self, self._ended, timeout)

    def cancel(self, ids: Iterable[str] | None = None) -> None:
        """Cancel tasks that have not ended, by id, or all of them; running tasks are ended.

        Where the batch went on with a run folder, whose tasks are known only when it is opened, a warning in the log
        tells of an id that the run does not have.

        Raises:
            InvalidInput: the run is a new one, and its batch has no task of such an id. Nothing is cancelled.
        """
        if ids is None:
            self._session.cancel(None, "run")
            return
        wanted = {ids} if isinstance(ids, str) else set(ids)
        if self._new is not None and (unknown := _find_unknown(wanted, [task.id for task in self._new.tasks])):
            raise InvalidInput(unknown, "cancel")

        def find() -> list[int]:
            names = [task_id for task_id, *_ in self._ended.names]
            if unknown := _find_unknown(wanted, names):
                logger.warning("%s", InvalidInput(unknown, "cancel"))
            return [number for number, task_id in enumerate(names) if task_id in wanted]

        self._session.cancel(find, f"{len(wanted)} tasks")

    def interrupt(self) -> None:
        """Close the run before its end: tasks that have ended are on disk, and the run can be resumed."""
        self._was_interrupted = True  # a second Ctrl-C may end the wait below
        self._session.close(INTERRUPT_GRACE_S)
        self._session.join()
        self._mark_read()

    def __repr__(self) -> str:
        if self._results is not None:
            return f"<BatchHandle: {self._results!r}>"
        shown = ", ".join(f"{count} {state}" for state, count in self.counts.items() if count)
        failure = "" if self._failure is None else f"; failed: {type(self._failure).__name__}: {self._failure}"
        return f"<BatchHandle: {shown or 'starting'}{failure}; {self._folder}>"

    def _mark_read(self) -> None:
        if self._unread is not None:
            self._unread.forget()

    def _end(self, failure: BaseException | None) -> None:
        if failure is None and not self._session.is_done:
            failure = InfrastructureLost(f"the run was closed before its end, {self._describe_rest()}")
        elif failure is None:
            try:
                self._results = read_results(self._folder, self._is_temporary)
            except Exception as error:
                failure = error if RunFolder(self._folder).holds_run() else self._lost_folder()
        if failure is not None:
            self._failure = failure
            self._unread = None if self._was_interrupted else UnreadError("run", failure)
        if self._is_temporary and not RunFolder(self._folder).holds_run():
            shutil.rmtree(self._folder, ignore_errors=True)
        try:
            self._on_end()
        except BaseException as error:  # such as a progress bar whose terminal is gone
            logger.error("what was to be done at the end of a run raised", exc_info=error)

    def _lost_folder(self) -> InfrastructureLost:
        return InfrastructureLost(
            f"all tasks have ended, but {self._folder} is no run folder any more: it was moved or removed while the "
            "run went on; if it was moved, `dfz results` with its new name shows them"
        )

    def _describe_rest(self) -> str:
        counts = list(self._session.counts.values())
        rest = f"when {count_final(counts)} of {sum(counts)} tasks had ended"
        if not RunFolder(self._folder).holds_run():
            return rest
        return f"{rest}; it goes on with: dfz resume {shlex.quote(str(self._folder))}"


class _EndedTasks(RunListener):
    """The records of a run's tasks, in the order in which the tasks have ended.

    Large results stay in their files, unless the run is temporary: its folder may be gone when a record is read.
    `end` is called before the threads that wait hear of the end.
    """

    def __init__(
        self,
        batch: Batch | None,
        is_temporary: bool,
        on_counts: CountsListener,
        end: Callable[[BaseException | None], None],
    ) -> None:
        self.records: list[Record] = []
        self.is_over = False
        self.wants_files = not is_temporary
        self._batch = batch
        self._report_counts, self._end = on_counts, end
        self._known: Sequence[tuple[str, str, str]] = ()
        self._unsuccessful: Counter[int] = Counter()
        self._changed = Condition()
        self._wakers: set[Callable[[], None]] = set()

    @functools.cached_property
    def names(self) -> Sequence[tuple[str, str, str]]:
        """Id, domain and kind of each task: first the tasks that the run had already, then those new in the batch."""
        if self._batch is None:
            return self._known
        ids = {task_id for task_id, *_ in self._known}
        new = ((task.id, task.domain, task.kind) for task in self._batch.tasks if task.id not in ids)
        return [*self._known, *new]

    def wait(self, condition: Callable[[], bool], timeout_s: float | None) -> bool:
        """Wait for a condition on what has ended, or until the timeout; returns True if it holds."""
        with self._changed:
            return self._changed.wait_for(condition, timeout_s)

    @contextlib.contextmanager
    def waking(self, wake: Callable[[], None]) -> Iterator[None]:
        """Call a function in another thread whenever something has ended."""
        with self._changed:
            self._wakers.add(wake)
        try:
            yield
        finally:
            with self._changed:
                self._wakers.discard(wake)

    # --- the methods of the session ---------------------------------------------------------------------------------

    def on_known(self, names: Sequence[tuple[str, str, str]]) -> None:
        self._known = names

    def on_unsuccessful(self, numbers: Iterable[int], is_whole: bool) -> None:
        if is_whole:
            self._unsuccessful.clear()
        self._unsuccessful.update(numbers)

    def on_completed(self, completed: Iterable[Completed], node: str | None) -> None:
        self._add(
            [
                self._make_record(number, "completed", result, None, began_at, ended_at, node)
                for number, result, began_at, ended_at in completed
            ]
        )

    def on_failed(self, failures: Sequence[FailedTask]) -> None:
        records = []
        for one in failures:
            error = TaskError(one.reason, one.message, one.traceback)
            records.append(
                self._make_record(one.number, one.state.label, None, error, one.began_at, one.ended_at, one.node)
            )
        self._add(records)

    def on_cancelled(self, numbers: Sequence[int]) -> None:
        error = TaskError("cancelled", "it was cancelled")
        self._add([self._make_record(number, "cancelled", None, error) for number in numbers])

    def on_counts(self, counts: dict[str, int]) -> None:
        self._report_counts(counts)

    def on_end(self, failure: BaseException | None) -> None:
        try:
            self._end(failure)
        finally:
            with self._changed:
                self.is_over = True
                self._changed.notify_all()
            self._wake()

    def _make_record(
        self,
        number: int,
        status: str,
        result: bytes | Path | None,
        error: TaskError | None,
        began_at: float | None = None,
        ended_at: float | None = None,
        node: str | None = None,
    ) -> Record:
        attempts = self._unsuccessful[number] + (status == "completed")
        return Record(*self.names[number], status, result, error, attempts, began_at, ended_at, node)

    def _add(self, records: Sequence[Record]) -> None:
        if logger.isEnabledFor(logging.DEBUG):
            for record in records:
                logger.debug("%s", describe_life(record))
        with self._changed:
            self.records.extend(records)
            self._changed.notify_all()
        self._wake()

    def _wake(self) -> None:
        with self._changed:
            wakers = list(self._wakers)
        for wake in wakers:
            with contextlib.suppress(RuntimeError):  # the iterator's event loop was closed
                wake()


class Completing(Iterator[Record], AsyncIterator[Record]):
    """Records of a batch's tasks in the order in which the tasks end."""

    def __init__(self, handle: BatchHandle, ended: _EndedTasks, timeout_s: float | None) -> None:
        self._handle = handle
        self._ended = ended
        self._next = 0
        self._timeout_s = timeout_s
        self._until = None if timeout_s is None else time.monotonic() + timeout_s

    def __next__(self) -> Record:
        self._ended.wait(self._has_next, self._left_s())
        return self._take(StopIteration())

    async def __anext__(self) -> Record:
        if not self._has_next():
            loop, woken = asyncio.get_running_loop(), asyncio.Event()

            def wake() -> None:
                loop.call_soon_threadsafe(woken.set)

            with self._ended.waking(wake), contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._left_s()):
                    while not self._has_next():
                        await woken.wait()
                        woken.clear()
        return self._take(StopAsyncIteration())

    def _has_next(self) -> bool:
        return self._next < len(self._ended.records) or self._ended.is_over

    def _left_s(self) -> float | None:
        return None if self._until is None else max(0.0, self._until - time.monotonic())

    def _take(self, at_the_end: Exception) -> Record:
        is_over, records = self._handle.done, self._ended.records  # in this order: the last records come before the end
        if self._next < len(records):
            self._next += 1
            return records[self._next - 1]
        if not is_over:
            raise TimeoutError(f"{self._timeout_s:g} s are over: {self._handle!r}")
        self._handle.wait()  # raises the error that ended the run, if there is one
        raise at_the_end


def describe_life(record: Record) -> str:
    """The life of a task in a line."""
    kind = record.kind if record.kind.startswith(record.domain) else f"{record.domain}: {record.kind}"
    took = "" if record.duration is None else f" after {record.duration:.4g} s"
    where = f" on {record.node}" if record.node else ""
    tries = "" if record.attempts == 1 else f", {record.attempts} attempts"
    why = f": {record.error}" if record.error else ""
    return f"task {record.task_id} ({kind}): {record.status}{took}{where}{tries}{why}"


def _find_unknown(wanted: set[str], known: Sequence[str]) -> list[Problem]:
    """The problems of ids that a run does not have."""
    unknown = sorted(wanted.difference(known), key=repr)
    some = known[:HINT_TASKS]
    return [Problem("ids", show(one), "the id of a task of the run", nearest(one, some)) for one in unknown]
