"""ConcurrentDFZAdapter: the plugin for asyncio. It never blocks the event loop."""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from dfz_ray.dropin.configuration import read_configuration
from dfz_ray.dropin.foreground import execute_here
from dfz_ray.dropin.plugin import ConcurrentCTMAbsoluteZeroPlugin, Context
from dfz_ray.dropin.records import Answer
from dfz_ray.dropin.task_future import awaitable
from dfz_ray.dropin.task_generation import draw_tasks
from dfz_ray.specs.settings import MaxWorkers, Settings


class ConcurrentDFZAdapter:
    """Runs DFZ tasks, one at a time in the foreground or many at once on Ray.

    It is also an async context manager: `async with ConcurrentDFZAdapter() as adapter`. A script that does not shut it
    down ends cleanly; the process then waits for the tasks that are open, as for those of a pool.

    Args:
        dfz_path: the path of a DFZ installation; nothing of it is needed to run tasks.
        config: `{"config_path": "configs/default.yaml"}`, or the settings themselves.
        max_workers: how many tasks may execute at once; it overrides the configuration. `auto`: as many as pay; None:
            the number in the configuration, or else as many as there are cores.
        use_processes: None and True run each task in a process, False on threads that share processes, for work that
            waits.

    Raises:
        InvalidInput: the configuration, or the number of workers, is wrong.
    """

    def __init__(
        self,
        dfz_path: str | Path | None = None,
        config: Mapping[str, Any] | Settings | None = None,
        max_workers: MaxWorkers = 4,
        use_processes: bool | None = None,
    ) -> None:
        self.dfz_path = dfz_path
        self.settings = read_configuration(config, stacklevel=2)
        self.plugin = ConcurrentCTMAbsoluteZeroPlugin(
            self.settings, max_workers=max_workers, use_processes=use_processes
        )
        self.max_workers = self.plugin.task_manager.max_workers
        self.use_processes = self.plugin.task_manager.use_processes
        self._conversation: list[dict[str, Any]] = []

    async def initialize(self, manager: Any = None) -> bool:
        """Connect to Ray, or start an embedded one; returns True.

        Args:
            manager: a DFZ manager, with which the hooks are registered.

        Raises:
            ClusterUnusable: there is no Ray at the address that the configuration or RAY_ADDRESS names.
        """
        return await self.plugin.initialize(manager)

    async def shutdown(self) -> None:
        """Take no more tasks, and wait for those that were submitted."""
        await self.plugin.shutdown()

    async def __aenter__(self) -> Self:
        await self.initialize()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.shutdown()

    # --- tasks ------------------------------------------------------------------------------------------------------

    async def execute_task(self, task: Mapping[str, Any], context: Context = None) -> Answer:
        """Run one task in the foreground: in a thread of this process, one task at a time.

        Args:
            task: `{"id", "domain", "description", "parameters"}`; its policy, and so its deadline, does not count here.
            context: the built-in domains need none.

        Returns:
            `{"task_id", "status": "success" or "error", "result" or "error", "start_time", "end_time", "duration"}`;
            a task that fails raises nothing.
        """
        read = await asyncio.to_thread(self.plugin.read, [task])
        read.warn(stacklevel=2)
        return await asyncio.to_thread(execute_here, read.tasks[0])

    async def execute_task_concurrent(self, task: Mapping[str, Any], context: Context = None) -> asyncio.Future[Answer]:
        """Submit one task.

        Returns:
            An awaitable future of what `execute_task` returns; cancelling it cancels the task, unless that has begun.

        Raises:
            RuntimeError: the adapter was shut down.
        """
        read = await asyncio.to_thread(self.plugin.read, [task])
        read.warn(stacklevel=2)
        batch = await asyncio.to_thread(self.plugin.task_manager.submit_read, read)
        return awaitable(batch.tasks[0].future)

    async def execute_tasks_batch(
        self,
        tasks: Iterable[Mapping[str, Any]],
        context: Context = None,
        wait: bool = True,
        timeout: float | None = None,
    ) -> Answer:
        """Submit tasks, and wait for them.

        An invalid task (an unknown domain, a value out of range) fails with a clear text; the others run.

        Args:
            tasks: each `{"id", "domain", "description", "parameters"}`; of two with one id the second is `id#2`.
            context: the built-in domains need none.
            wait: False returns as soon as they are submitted.
            timeout: seconds after which this returns with the tasks that have ended; the others go on.

        Returns:
            `{"futures": {id: Future}, "results": {id: record}, "metrics": {...}}`, without `results` if it did not
            wait. The futures are those of concurrent.futures, with the results of `execute_task`; the metrics are
            those of these tasks.

        Raises:
            RuntimeError: the adapter was shut down.
        """
        read = await asyncio.to_thread(self.plugin.read, list(tasks))
        read.warn(stacklevel=2)
        batch = await asyncio.to_thread(self.plugin.task_manager.submit_read, read)
        if wait and not batch.done.done():
            await asyncio.wait([awaitable(batch.done)], timeout=timeout)
        return await asyncio.to_thread(batch.answer, wait)

    async def generate_tasks(
        self,
        domain: str,
        count: int = 1,
        parameters: Mapping[str, Any] | None = None,
        *,
        seed: int | None = None,
        **fixed: Any,
    ) -> list[dict[str, Any]]:
        """Make valid tasks of a domain.

        Args:
            domain: the name of the domain.
            count: the number of tasks.
            parameters: fixed parameters, which may also be given as keyword arguments; the others are drawn.
            seed: equal seeds draw equal parameters; None draws others each time.

        Raises:
            InvalidInput: the domain is not known, or a parameter is wrong.
        """
        draw = functools.partial(draw_tasks, domain, count, {**(parameters or {}), **fixed}, seed, self.settings)
        tasks, read = await asyncio.to_thread(draw)
        read.warn(stacklevel=2)
        return tasks

    generate_task = generate_tasks

    def get_task_status(self, task_id: str) -> Answer:
        """The record of the latest submitted task of that id; its status is `unknown` if there is none."""
        return self.plugin.get_task_status(task_id)

    def collect_completed_tasks(self) -> dict[str, Answer]:
        """The records, by id, of the submitted tasks that have ended since the last call."""
        return self.plugin.collect_completed_tasks()

    def get_performance_metrics(self) -> Answer:
        """The metrics of all submitted tasks so far, under `concurrent`."""
        return self.plugin.get_performance_metrics()

    # --- messages ---------------------------------------------------------------------------------------------------

    async def send_message(self, message: Any, context: Context = None) -> Any:
        """Send a message through the DFZ manager, between the two hooks for messages.

        Returns:
            Its response; `{"error": "DFZ not available"}` if `initialize` was given no manager, or one without
            `send_message`.
        """
        send = getattr(self.plugin.manager, "send_message", None)
        if not callable(send):
            return {"error": "DFZ not available"}
        message = await self.plugin.pre_message_process(message, context)
        response = send(message, context)
        if inspect.isawaitable(response):
            response = await response
        response = await self.plugin.post_message_process(response, context)
        self._conversation += [{"role": "user", "content": message}, {"role": "assistant", "content": response}]
        return response

    def get_conversation_history(self) -> list[dict[str, Any]]:
        """The messages that were sent and their responses, in turn: `{"role": "user" or "assistant", "content"}`."""
        return list(self._conversation)
