"""ConcurrentTaskManager: the pool of the old module, on Ray."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import functools
import inspect
import threading
import weakref
from collections.abc import Callable, Coroutine, Iterator, Mapping
from concurrent.futures import Future
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self

from dfz_ray.domains.registry import CALLS
from dfz_ray.driver.exit import refuse_at_exit
from dfz_ray.dropin.old_tasks import OldTasks
from dfz_ray.dropin.records import Answer
from dfz_ray.dropin.submitted_batch import SubmittedBatch
from dfz_ray.dropin.submitted_task import Sending, SubmittedCall, SubmittedTask
from dfz_ray.dropin.task_list import TaskList, name_of
from dfz_ray.dropin.task_run import TaskRun
from dfz_ray.errors import DfzError, InfrastructureLost
from dfz_ray.specs.policy import without_speculation
from dfz_ray.specs.run_config import RunConfig
from dfz_ray.specs.settings import AUTO, MaxWorkers, Settings
from dfz_ray.specs.task import Task

if TYPE_CHECKING:
    from dfz_ray.executor.call_packing import CallPacker

TaskFunction = Callable[[Any, Any], Any]

SHUT = "cannot schedule new futures after shutdown"
"""The message of the standard library's pools."""


class ConcurrentTaskManager:
    """Runs up to `max_workers` tasks at once, in a temporary run on Ray that belongs to this manager.

    It starts nothing before its first task. It keeps the records of its tasks, with their results, as long as it
    exists. A process that exits waits for the tasks of its managers, as for those of the standard library's pools.

    Args:
        max_workers: how many tasks may execute at once; it overrides the settings. `auto`: as many as pay; None: the
            number in the settings, or else as many as there are cores.
        use_processes: None and True run each task in a process, False on threads that share processes, for work that
            waits.
        settings: how tasks are handed out, and the resources and the policy of tasks that do not name their own.

    Raises:
        InvalidInput: `max_workers` is wrong.
    """

    def __init__(
        self, max_workers: MaxWorkers = 4, use_processes: bool | None = None, *, settings: Settings | None = None
    ) -> None:
        self.use_processes = use_processes is None or bool(use_processes)
        config = RunConfig.of(settings, max_workers=max_workers, use_threads=not self.use_processes)
        self.settings = config.settings
        self.max_workers: int | Literal["auto"] = config.max_workers or _count_cores()
        self._config = dataclasses.replace(config, max_workers=self.max_workers)
        self._tasks = TaskList()
        self._collected = 0
        self._turn = threading.Lock()
        self._packing = threading.Lock()
        self._run: TaskRun | None = None
        self._packer: CallPacker | None = None
        self._is_shut = False

    @property
    def _slots(self) -> int | None:
        """The number of tasks that may execute at once; None if it changes."""
        return None if self.max_workers == AUTO else self.max_workers

    # --- submitting -------------------------------------------------------------------------------------------------

    def submit_task(self, task_func: TaskFunction, task: Any, context: Any = None) -> Future[Any]:
        """Call `task_func(task, context)` in a worker.

        It may be any function: also a lambda, a closure, a method, a function of the script or a coroutine function. It
        travels to the workers by value, with the present state of everything that it refers to. Changes that it makes
        there do not come back; only its result does.

        Args:
            task_func: the function; a dictionary that it returns gets the keys start_time, end_time and duration,
                unless it has them.
            task: usually a dictionary; its `id` is the task's id, and a task without one gets an id.
            context: the second argument of the function.

        Returns:
            A future, with the attribute `task_id`, of the function's result or exception. If something can't travel,
            the future has that exception.

        Raises:
            RuntimeError: the manager was shut down.
        """
        self._check_open()
        made: list[SubmittedTask] = []
        with _failing_if_interrupted(made):
            submitted = self._tasks.make(SubmittedCall, name_of(task), task, made)
            try:
                submitted.sending = self._pack(submitted, task_func, task, context)
            except Exception as error:  # pickling may do anything
                submitted.refuse(error)
            else:
                self._send([submitted])
        return submitted.future

    def submit_read(self, read: OldTasks) -> SubmittedBatch:
        """Submit tasks of domains that were read; invalid ones fail at once.

        Raises:
            RuntimeError: the manager was shut down.
        """
        self._check_open()
        submitted: list[SubmittedTask] = []
        with _failing_if_interrupted(submitted):
            for one in read.tasks:
                task = self._tasks.make(SubmittedTask, one.label, one.content, submitted)
                if one.checked is None:
                    task.fail(DfzError(one.problem))
                else:
                    task.sending = Sending(one.checked._replace(id=task.stored_id), one.files)
            batch = SubmittedBatch(submitted, self._slots)
            self._send([task for task in submitted if task.sending is not None])
        return batch

    def _check_open(self) -> None:
        if self._is_shut:
            raise RuntimeError(SHUT)
        refuse_at_exit()

    def _pack(self, submitted: SubmittedTask, task_func: TaskFunction, task: Any, context: Any) -> Sending:
        from dfz_ray.executor.call_packing import CallPacker

        if inspect.iscoroutinefunction(task_func):
            task_func = functools.partial(_run_coroutine, task_func)
        with self._packing:
            self._packer = self._packer or CallPacker()
            call = self._packer.pack(task_func, (task, context), {})
        files = {call.function.sha256: call.function.content} if call.function else {}
        resources, policy = self.settings.resources, without_speculation(self.settings.policy)
        checked = Task(submitted.stored_id, CALLS, call.kind, 0, resources, call.parameters, "", policy)
        return Sending(checked, files)

    def _send(self, tasks: list[SubmittedTask]) -> None:
        """Send tasks; a run that is over is replaced."""
        if not tasks:
            return
        with self._turn:
            is_new = not self._is_shut and (self._run is None or self._run.is_over)
            if is_new:
                self._run = TaskRun(self._config)
                # A manager that is deleted lets its run end; at exit the run waits for its tasks by itself.
                weakref.finalize(self, self._run.finish).atexit = False
            run = None if self._is_shut else self._run
        if run is None:  # it was shut down meanwhile
            for task in tasks:
                task.fail(RuntimeError(SHUT))
            return
        for task in tasks:
            task.run, task.is_wanted = run, not task.future.cancelled()
        try:
            run.send(tasks)
        except InfrastructureLost as error:
            if not is_new:
                self._send([task for task in tasks if not task.is_wanted])
                return
            for task in tasks:
                if not task.is_wanted:  # the run ends those that it has taken
                    task.fail(error)

    # --- asking -----------------------------------------------------------------------------------------------------

    def get_task_status(self, task_id: str) -> Answer:
        """The record of the latest task of that id; its status is `unknown` if there is none.

        A task is `running` as soon as a worker has taken it, perhaps with others, and executes it or is about to.
        """
        return self._tasks.status(task_id)

    def get_task(self, task_id: str) -> Answer | None:
        """The latest task of that id as the caller gave it, with the keys of its record; None if there is none."""
        task = self._tasks.find(task_id)
        if task is None:
            return None
        return {**(task.content if isinstance(task.content, Mapping) else {"task": task.content}), **task.record()}

    def collect_completed_tasks(self) -> dict[str, Answer]:
        """The records, by id, of the tasks that have ended since the last call.

        If two of them have one id, the later one has the id under which it is stored: `id#n`.
        """
        with self._turn:
            records, self._collected = self._tasks.ended_since(self._collected)
        return records

    def ended_since(self, position: int) -> tuple[dict[str, Answer], int]:
        """The same since a position that the caller keeps, at first 0; returns the records and the next position."""
        return self._tasks.ended_since(position)

    def wait_all(self, timeout: float | None = None) -> dict[str, Answer]:
        """Wait until all tasks have ended, or until the timeout; returns the records, by id, of those that have."""
        return self._tasks.wait_all(timeout)

    def get_metrics(self) -> Answer:
        """The metrics of all tasks, see `dfz_ray.journal.metrics.compute_metrics`; a metric without measurements is 0.

        With `auto` there is no utilization, for the number of workers changes.
        """
        return self._tasks.metrics(self._slots)

    # --- ending -----------------------------------------------------------------------------------------------------

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more tasks; those that were submitted go on to their end, and the records stay.

        Args:
            wait: wait for their end.
            cancel_futures: cancel the tasks that no worker has taken.
        """
        with self._turn:
            self._is_shut = True
            run = self._run
        if cancel_futures:
            self._tasks.cancel_pending()
        if run is not None:
            run.finish()
            if wait:
                run.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.shutdown()

    def __reduce__(self) -> tuple[Any, ...]:
        """On a worker this becomes another manager, which starts nothing before its first task."""
        again = functools.partial(ConcurrentTaskManager, settings=self.settings)
        return again, (self.max_workers, self.use_processes)


@contextlib.contextmanager
def _failing_if_interrupted(tasks: list[SubmittedTask]) -> Iterator[None]:
    """If the caller is interrupted, e.g. by Ctrl-C, its tasks end: else `wait_all` would wait for what was not sent."""
    try:
        yield
    except BaseException as error:
        for task in tasks:
            task.is_wanted = False
            task.fail(error)
        raise


def _run_coroutine(function: Callable[[Any, Any], Coroutine[Any, Any, Any]], task: Any, context: Any) -> Any:
    return asyncio.run(function(task, context))


def _count_cores() -> int:
    from dfz_ray.driver.cores import usable_cores

    return usable_cores()
