"""ConcurrentCTMAbsoluteZeroPlugin: tasks one at a time or concurrently, and the hooks of a DFZ manager."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Iterable, Mapping
from concurrent import futures
from concurrent.futures import Future
from importlib import metadata
from pathlib import Path
from typing import Any

from dfz_ray.dropin.concurrent_task_manager import ConcurrentTaskManager
from dfz_ray.dropin.configuration import read_configuration
from dfz_ray.dropin.foreground import execute_here
from dfz_ray.dropin.intents import find_intents
from dfz_ray.dropin.old_tasks import OldTasks, read_old_tasks
from dfz_ray.dropin.records import Answer
from dfz_ray.dropin.task_generation import draw_tasks
from dfz_ray.errors import InvalidInput, Problem
from dfz_ray.specs.settings import MaxWorkers, Settings

HOOKS = ("pre_message_process", "post_message_process", "task_generation", "intent_detection")
GENERATED = ("quantum", "maze", "image_classification")
"""The hook task_generation makes a task of each of these domains, if its context names no domain."""

Context = Mapping[str, Any] | None


class ConcurrentCTMAbsoluteZeroPlugin:
    """Runs tasks of the domains, and offers them to a DFZ manager.

    Its methods for tasks are those of `ConcurrentDFZAdapter`, which documents them; here they are plain calls, not
    coroutines, and its futures are those of concurrent.futures.

    Args:
        config_path: a configuration file, or the settings themselves.
        standalone: True if it is used without a DFZ manager: then it registers no hooks.
        max_workers: how many tasks may execute at once; `auto`: as many as pay.
        use_processes: None and True run each task in a process, False on threads that share processes, for work that
            waits.

    Raises:
        InvalidInput: the configuration, or the number of workers, is wrong.
    """

    name = "ctm_az"
    version = metadata.version("dfz_ray")
    description = "Runs quantum, maze, image classification and other tasks concurrently on Ray."

    def __init__(
        self,
        config_path: str | Path | Mapping[str, Any] | Settings | None = None,
        standalone: bool = False,
        max_workers: MaxWorkers = 4,
        use_processes: bool | None = None,
    ) -> None:
        self.settings = read_configuration(config_path, stacklevel=2)
        self.standalone = standalone
        self.manager: Any = None
        """The DFZ manager, if there is one."""
        self.task_manager = ConcurrentTaskManager(max_workers, use_processes, settings=self.settings)
        self._reported = 0

    async def initialize(self, manager: Any = None) -> bool:
        """Connect to Ray, or start an embedded one; returns True. With a DFZ manager, register the hooks there."""
        from dfz_ray.driver.connection import connect

        await asyncio.to_thread(connect, self.settings.address)
        if manager is not None:
            self.manager = manager
            self.register_hooks(manager)
        return True

    async def shutdown(self) -> None:
        """Take no more tasks, and wait for those that were submitted; the event loop goes on meanwhile."""
        await asyncio.to_thread(self.task_manager.shutdown)

    # --- tasks ------------------------------------------------------------------------------------------------------

    def execute_task(self, task: Mapping[str, Any], context: Context = None) -> Answer:
        """Run one task in the foreground, in this process."""
        read = self.read([task])
        read.warn(stacklevel=2)
        return execute_here(read.tasks[0])

    def execute_task_concurrent(self, task: Mapping[str, Any], context: Context = None) -> Future[Answer]:
        """Submit one task; the future's result is what `execute_task` returns, also for a task that fails."""
        read = self.read([task])
        read.warn(stacklevel=2)
        return self.task_manager.submit_read(read).tasks[0].future

    def execute_tasks_batch(
        self,
        tasks: Iterable[Mapping[str, Any]],
        context: Context = None,
        wait: bool = True,
        timeout: float | None = None,
    ) -> Answer:
        """Submit tasks, and wait for them."""
        read = self.read(tasks)
        read.warn(stacklevel=2)
        batch = self.task_manager.submit_read(read)
        if wait:
            futures.wait([batch.done], timeout)
        return batch.answer(with_results=wait)

    def read(self, tasks: Iterable[Any]) -> OldTasks:
        """Check tasks before they are executed or submitted."""
        return read_old_tasks(tasks, self.settings)

    def get_task(self, task_id: str) -> Answer | None:
        """The latest submitted task of that id as the caller gave it, with its record's keys; None if there is none."""
        return self.task_manager.get_task(task_id)

    def get_task_status(self, task_id: str) -> Answer:
        """The record of the latest submitted task of that id; its status is `unknown` if there is none."""
        return self.task_manager.get_task_status(task_id)

    def collect_completed_tasks(self) -> dict[str, Answer]:
        """The records, by id, of the submitted tasks that have ended since the last call."""
        return self.task_manager.collect_completed_tasks()

    def get_performance_metrics(self) -> Answer:
        """The metrics of all submitted tasks so far, under `concurrent`."""
        return {"concurrent": self.task_manager.get_metrics()}

    def generate_tasks(
        self,
        domain: str,
        count: int = 1,
        parameters: Mapping[str, Any] | None = None,
        *,
        seed: int | None = None,
        **fixed: Any,
    ) -> list[dict[str, Any]]:
        """Make valid tasks of a domain."""
        tasks, read = draw_tasks(domain, count, {**(parameters or {}), **fixed}, seed, self.settings)
        read.warn(stacklevel=2)
        return tasks

    # --- hooks ------------------------------------------------------------------------------------------------------

    def register_hooks(self, manager: Any) -> None:
        """Register the four hooks with a DFZ manager, by `manager.register_hook(name, coroutine function)`.

        Raises:
            InvalidInput: the manager has no such method.
        """
        if self.standalone:
            return
        if not callable(getattr(manager, "register_hook", None)):
            found = type(manager).__name__
            raise InvalidInput([Problem("manager", found, "one with register_hook(name, function)")], self.name)
        for hook in HOOKS:
            manager.register_hook(hook, getattr(self, hook))

    async def pre_message_process(self, message: Any, context: Context = None) -> Any:
        """Hook: a message on its way to DFZ is not changed."""
        return message

    async def post_message_process(self, response: Any, context: Context = None) -> Any:
        """Hook: a response that is a dictionary gets the records of tasks that have ended since the last response.

        Returns:
            The response; if tasks have ended, a copy with `{"ctm_az": {"completed_tasks": {id: record}}}`.
        """
        if not isinstance(response, dict):
            return response
        records, self._reported = self.task_manager.ended_since(self._reported)
        return {**response, self.name: {"completed_tasks": records}} if records else response

    async def task_generation(self, context: Context = None) -> list[dict[str, Any]]:
        """Hook: make tasks.

        Args:
            context: may have `domain`, `count`, `parameters` and `seed`, as for `generate_tasks`; without a domain
                there is one task of each of three domains.
        """
        asked = dict(context or {})
        domains = [asked["domain"]] if asked.get("domain") is not None else list(GENERATED)
        options = {key: asked[key] for key in ("count", "parameters", "seed") if asked.get(key) is not None}
        make = functools.partial(self.generate_tasks, **options)
        return [task for domain in domains for task in await asyncio.to_thread(make, domain)]

    async def intent_detection(self, message: Any, context: Context = None) -> dict[str, Any]:
        """Hook: the domains that a message is about, as `{"intents": [{"name", "confidence"}]}`; see `find_intents`."""
        return {"intents": find_intents(message)}

    def __reduce__(self) -> tuple[Any, ...]:
        """On a worker this becomes another plugin, without a DFZ manager, so that its methods may be task functions."""
        workers = self.task_manager.max_workers, self.task_manager.use_processes
        return type(self), (self.settings, True, *workers)


def create_concurrent_dfz_plugin(
    config_path: str | Path | Mapping[str, Any] | Settings | None = None,
    max_workers: MaxWorkers = 4,
    use_processes: bool | None = None,
) -> ConcurrentCTMAbsoluteZeroPlugin:
    """A plugin for a DFZ manager; the arguments are those of `ConcurrentCTMAbsoluteZeroPlugin`."""
    settings = read_configuration(config_path, stacklevel=2)
    return ConcurrentCTMAbsoluteZeroPlugin(settings, max_workers=max_workers, use_processes=use_processes)
