"""A batch that was submitted: its tasks as they end, and its results in the end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shutil
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from dfz_ray.driver.run_session import RunSession
from dfz_ray.errors import InfrastructureLost
from dfz_ray.journal.folder import RunFolder
from dfz_ray.journal.record import Record, TaskError, read_result
from dfz_ray.results import Results, read_results
from dfz_ray.specs.batch import Batch
from dfz_ray.specs.settings import MaxWorkers, Settings

if TYPE_CHECKING:
    from dfz_ray.protocol.columns import Completions
    from dfz_ray.protocol.submission import ShippedDomain
    from dfz_ray.protocol.task_events import FailedTask, TaskEvents

logger = logging.getLogger("dfz_ray")

INTERRUPT_GRACE_S = 2.0
"""After an interrupt, how long running chunks may take to end before their workers are killed."""

Tell = Callable[[dict[str, int]], None]


class BatchHandle:
    """A batch that was submitted; its work goes on by itself.

    Args:
        batch: the checked tasks; None goes on with the run of the folder as it is.
        settings: how tasks are handed out and written down.
        folder: of the run.
        is_temporary: whether the folder is ours to remove, once everything has completed.
        domains: those that the batch names, ready to travel; None: they are found when the run is opened.
        slots: how many tasks may execute at once; None: as many as the cluster holds; `auto`.
        address: which Ray.
        use_threads: whether tasks share processes, on threads.
        retry_failed: make the failed tasks of a run that goes on due again.
        tells: whether `as_completed` will be asked for.
        tell: is told the counts as they change.
        on_end: is called in the end.
    """

    def __init__(
        self,
        batch: Batch | None,
        settings: Settings,
        folder: Path,
        *,
        is_temporary: bool,
        domains: Mapping[str, ShippedDomain] | None = None,
        slots: MaxWorkers = None,
        address: str | None = None,
        use_threads: bool = False,
        retry_failed: bool = False,
        tells: bool = True,
        tell: Tell | None = None,
        on_end: Callable[[], None] = lambda: None,
    ) -> None:
        self._batch = batch
        self._folder = folder
        self._is_temporary = is_temporary
        self._tell = tell
        self._tell_end = on_end
        self._changed = threading.Condition()
        self._listeners: set[Callable[[], None]] = set()
        self._ended: list[Record] = []
        self._seen: set[int] = set()
        self._unsuccessful: Counter[int] = Counter()
        self._names: list[tuple[str, str, str]] = []
        """Of every task, by number: id, domain, kind."""
        self._results: Results | None = None
        self._failure: BaseException | None = None
        self._is_over = False
        self._run = RunSession(
            batch.name if batch else "",
            settings,
            folder,
            slots=slots,
            address=address,
            use_threads=use_threads,
            seed=batch.seed if batch else 0,
            retry_failed=retry_failed,
            is_endless=False,
            watch=self._on_news if tells else None,
            on_counts=self._on_counts,
            on_end=self._on_end,
        )
        if batch is None:
            self._run.go_on()
        else:
            self._run.submit(batch, domains)

    @property
    def counts(self) -> dict[str, int]:
        """Tasks per state, as last heard: at most half a second old."""
        return self._run.counts if self._results is None else self._results.counts

    @property
    def run_dir(self) -> str:
        """The run folder, while the run goes on, and afterwards where it is kept."""
        return str(self._folder)

    @property
    def done(self) -> bool:
        """Whether the run has ended."""
        return self._is_over

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until all tasks are in a final state, or for so many seconds; returns whether they are.

        Raises:
            DfzError: what made it impossible to go on.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._is_over, timeout)
            if self._failure is not None:
                raise self._failure
            if self._is_over and self._results is None:
                raise InfrastructureLost(
                    f"the run was closed before its end; it goes on with: dfz resume {self._folder}"
                )
            return self._is_over

    def results(self, timeout: float | None = None) -> Results:
        """Wait for the end, and return what came of the tasks.

        Args:
            timeout: for so many seconds; None: as long as it takes.

        Raises:
            TimeoutError: it takes longer; the run goes on.
            DfzError: what made it impossible to go on.
        """
        if not self.wait(timeout) or self._results is None:
            raise TimeoutError(f"the run has not ended within {timeout:g} s: {self!r}")
        return self._results

    def as_completed(self, timeout: float | None = None) -> Completing:
        """The records of the tasks as they end, also failed and cancelled ones: for `for` and for `async for`.

        Args:
            timeout: after so many seconds from now iterating raises TimeoutError; None: never.
        """
        return Completing(self, timeout)

    def cancel(self, ids: Iterable[str] | None = None) -> None:
        """Cancel tasks that have not ended, by id, or all of them; those that run are let go of."""
        if ids is None:
            self._run.cancel(None, "run")
            return
        wanted = {ids} if isinstance(ids, str) else set(ids)

        def find() -> list[int]:
            return [number for number, (task_id, *_) in enumerate(self._all_names()) if task_id in wanted]

        self._run.cancel(find, f"{len(wanted)} tasks")

    def interrupt(self) -> None:
        """End the run before its end: what has ended is on disk, and the folder can be gone on with."""
        self._run.close(INTERRUPT_GRACE_S, at_once=True)

    def __repr__(self) -> str:
        if self._results is not None:
            return f"<BatchHandle: {self._results!r}>"
        told = ", ".join(f"{count} {state}" for state, count in self.counts.items() if count)
        return f"<BatchHandle: {told or 'starting'}; {self._folder}>"

    # --- what the run tells -----------------------------------------------------------------------------------------

    def _on_counts(self, counts: dict[str, int]) -> None:
        if self._tell is not None:
            self._tell(counts)

    def _on_end(self, failure: BaseException | None) -> None:
        results = None
        if failure is None and self._run.is_done:
            try:
                results = read_results(self._folder, self._run.slots, self._is_temporary)
            except Exception as error:
                failure = error
        if self._is_temporary and not RunFolder(self._folder).holds_run():
            shutil.rmtree(self._folder, ignore_errors=True)
        with self._changed:
            self._results, self._failure, self._is_over = results, failure, True
            self._tell_end()
            self._changed.notify_all()
        self._wake()

    def _on_news(self, news: TaskEvents) -> None:
        names = self._all_names()
        if news.is_whole:
            self._unsuccessful.clear()
        self._unsuccessful.update(news.unsuccessful)
        ended: list[Record] = []
        for completions, node in zip(news.completions, news.nodes, strict=True):
            ended.extend(self._make_completed(completions, node, names))
        ended.extend(self._make_failed(failed, names) for failed in news.failures if self._is_new(failed.number))
        ended.extend(self._make_cancelled(number, names) for number in news.cancelled if self._is_new(number))
        if logger.isEnabledFor(logging.DEBUG):
            for record in ended:
                logger.debug("%s", describe_life(record))
        with self._changed:
            self._ended.extend(ended)
            self._changed.notify_all()
        self._wake()

    def _wake(self) -> None:
        with self._changed:
            listeners = list(self._listeners)
        for listener in listeners:
            with contextlib.suppress(RuntimeError):  # the loop of an iterator was closed
                listener()

    def _all_names(self) -> list[tuple[str, str, str]]:
        """Id, domain and kind of every task; the run's own ones come first, then what is new in the batch."""
        known = self._run.known
        if len(self._names) < len(known):
            self._names = list(known)
        if self._batch is not None and len(self._names) == len(known):
            ids = {task_id for task_id, *_ in known}
            self._names += [(task.id, task.domain, task.kind) for task in self._batch.tasks if task.id not in ids]
        return self._names

    def _is_new(self, number: int) -> bool:
        if number in self._seen:
            return False
        self._seen.add(number)
        return True

    def _make_completed(
        self, completions: Completions, node: str | None, names: list[tuple[str, str, str]]
    ) -> Iterator[Record]:
        results = RunFolder(self._folder).results
        for number, began, ended, _, stored, _ in completions.rows():
            if self._is_new(number):
                content = results / stored if isinstance(stored, str) else stored
                if isinstance(content, Path) and self._is_temporary:  # it may be gone when someone looks
                    content = read_result(content)
                attempts = self._unsuccessful[number] + 1
                yield Record(*names[number], "completed", content, None, attempts, began, ended, node)

    def _make_failed(self, failed: FailedTask, names: list[tuple[str, str, str]]) -> Record:
        error = TaskError(failed.reason, failed.message, failed.traceback)
        attempts, times = self._unsuccessful[failed.number], (failed.began_at, failed.ended_at)
        return Record(*names[failed.number], "failed", None, error, attempts, *times, failed.node)

    def _make_cancelled(self, number: int, names: list[tuple[str, str, str]]) -> Record:
        error = TaskError("cancelled", "it was cancelled")
        return Record(*names[number], "cancelled", None, error, self._unsuccessful[number], None, None, None)


class Completing(Iterator[Record], AsyncIterator[Record]):
    """Records of a batch's tasks in the order in which they end."""

    def __init__(self, handle: BatchHandle, timeout_s: float | None) -> None:
        self._handle = handle
        self._next = 0
        self._timeout_s = timeout_s
        self._until = None if timeout_s is None else time.monotonic() + timeout_s

    def __next__(self) -> Record:
        handle = self._handle
        with handle._changed:
            handle._changed.wait_for(self._has_next, self._left_s())
        return self._take(StopIteration())

    async def __anext__(self) -> Record:
        if not self._has_next():
            loop, woken = asyncio.get_running_loop(), asyncio.Event()

            def wake() -> None:
                loop.call_soon_threadsafe(woken.set)

            self._handle._listeners.add(wake)
            try:
                async with asyncio.timeout(self._left_s()):
                    while not self._has_next():
                        await woken.wait()
                        woken.clear()
            except TimeoutError:
                pass
            finally:
                self._handle._listeners.discard(wake)
        return self._take(StopAsyncIteration())

    def _has_next(self) -> bool:
        return self._next < len(self._handle._ended) or self._handle.done

    def _left_s(self) -> float | None:
        return None if self._until is None else max(0.0, self._until - time.monotonic())

    def _take(self, at_the_end: Exception) -> Record:
        ended = self._handle._ended
        if self._next < len(ended):
            self._next += 1
            return ended[self._next - 1]
        if not self._handle.done:
            raise TimeoutError(f"{self._timeout_s:g} s are over: {self._handle!r}")
        self._handle.wait()  # raises what made it impossible to go on
        raise at_the_end


def describe_life(record: Record) -> str:
    """The life of a task in a line."""
    kind = record.kind if record.kind.startswith(record.domain) else f"{record.domain}: {record.kind}"
    took = "" if record.duration is None else f" after {record.duration:.4g} s"
    where = f" on {record.node}" if record.node else ""
    tries = "" if record.attempts == 1 else f", {record.attempts} attempts"
    why = f": {record.error}" if record.error else ""
    return f"task {record.task_id} ({kind}): {record.status}{took}{where}{tries}{why}"
