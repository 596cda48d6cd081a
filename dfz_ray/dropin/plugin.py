"""ConcurrentCTMAbsoluteZeroPlugin: tasks one at a time or concurrently, and the hooks of a DFZ manager."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Iterable, Mapping
from concurrent.futures import Future, wait
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
"""Of these domains the hook task_generation makes a task each, where its context names none."""

Context = Mapping[str, Any] | None


class ConcurrentCTMAbsoluteZeroPlugin:
    """Runs tasks of the domains, and offers them to a DFZ manager.

    Args:
        config_path: a configuration file, or the settings themselves.
        standalone: whether it is used without a DFZ manager: then it registers no hooks.
        max_workers: how many tasks may execute at once; `auto`: by what pays.
        use_processes: None and True run each task in a process, False on threads that share processes, for work that
            waits.

    Raises:
        InvalidInput: a configuration, or a number of workers, that can't be.
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
        """The DFZ manager, where there is one."""
        self.task_manager = ConcurrentTaskManager(max_workers, use_processes, settings=self.settings)
        self._told = 0

    async def initialize(self, manager: Any = None) -> bool:
        """Connect to Ray, or start an embedded one; True where that worked.

        Args:
            manager: a DFZ manager, whose hooks are registered.

        Raises:
            ClusterUnusable: there is no Ray at the address that the configuration or RAY_ADDRESS names.
        """
        await asyncio.to_thread(_connect, self.settings.address)
        if manager is not None:
            self.manager = manager
            self.register_hooks(manager)
        return True

    async def shutdown(self) -> None:
        """Take no more tasks, and wait for those that were submitted; the event loop goes on meanwhile."""
        await asyncio.to_thread(self.task_manager.shutdown)

    # --- tasks ------------------------------------------------------------------------------------------------------

    def execute_task(self, task: Mapping[str, Any], context: Context = None) -> Answer:
        """Run one task in the foreground, in this process.

        Args:
            task: `{"id", "domain", "description", "parameters"}`; its policy does not count here, so no deadline does.
            context: the built-in domains need none.

        Returns:
            `{"task_id", "status": "success" or "error", "result" or "error", "start_time", "end_time", "duration"}`;
            a task that fails raises nothing.
        """
        read = self.read([task])
        read.warn(stacklevel=2)
        return execute_here(read.tasks[0])

    def execute_task_concurrent(self, task: Mapping[str, Any], context: Context = None) -> Future[Answer]:
        """Submit one task.

        Returns:
            A future of what `execute_task` returns; like that it raises nothing where the task fails.

        Raises:
            RuntimeError: the plugin was shut down.
        """
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
        """Submit tasks, and wait for them.

        A task that can't be (an unknown domain, a value out of range) fails with a clear text; the others run.

        Args:
            tasks: each `{"id", "domain", "description", "parameters"}`; of two with one id the second is `id#2`.
            context: the built-in domains need none.
            wait: False returns at once.
            timeout: after so many seconds this returns what has ended; the rest goes on.

        Returns:
            `{"futures": {id: Future}, "results": {id: record}, "metrics": {...}}`, without `results` where it did not
            wait. The futures give what `execute_task` returns; the metrics are those of these tasks.

        Raises:
            RuntimeError: the plugin was shut down.
        """
        read = self.read(tasks)
        read.warn(stacklevel=2)
        batch = self.task_manager.submit_read(read)
        if wait:
            _wait(batch.done, timeout)
        return batch.answer(with_results=wait)

    def read(self, tasks: Iterable[Any]) -> OldTasks:
        """Check tasks before they are executed or submitted."""
        return read_old_tasks(tasks, self.settings)

    def get_task(self, task_id: str) -> Answer | None:
        """The latest submitted task of that id as it was given, with its record's keys; None where there is none."""
        return self.task_manager.get_task(task_id)

    def get_task_status(self, task_id: str) -> Answer:
        """The record of the latest submitted task of that id; its status is `unknown` where there was none."""
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
        """Make valid tasks of a domain.

        Args:
            domain: of which.
            count: how many.
            parameters: those that are fixed, also as arguments of their own; the others are drawn.
            seed: equal seeds draw equal parameters; None draws others each time.

        Raises:
            InvalidInput: the domain is not known, or a parameter can't be.
        """
        tasks, read = draw_tasks(domain, count, {**(parameters or {}), **fixed}, seed, self.settings)
        read.warn(stacklevel=2)
        return tasks

    # --- hooks ------------------------------------------------------------------------------------------------------

    def register_hooks(self, manager: Any) -> None:
        """Register the four hooks with a DFZ manager, by `manager.register_hook(name, coroutine function)`.

        Raises:
            InvalidInput: it has no such method.
        """
        if self.standalone:
            return
        if not callable(getattr(manager, "register_hook", None)):
            found = type(manager).__name__
            raise InvalidInput([Problem("manager", found, "one with register_hook(name, function)")], self.name)
        for hook in HOOKS:
            manager.register_hook(hook, getattr(self, hook))

    async def pre_message_process(self, message: Any, context: Context = None) -> Any:
        """A message on its way to DFZ: it goes on as it is."""
        return message

    async def post_message_process(self, response: Any, context: Context = None) -> Any:
        """A response on its way back: one that is a dictionary is told of tasks that have ended since the last one.

        Returns:
            The response; where there is something to tell, a copy with `{"ctm_az": {"completed_tasks": {id: record}}}`.
        """
        if not isinstance(response, dict):
            return response
        records, self._told = self.task_manager.ended_since(self._told)
        return {**response, self.name: {"completed_tasks": records}} if records else response

    async def task_generation(self, context: Context = None) -> list[dict[str, Any]]:
        """Make tasks.

        Args:
            context: may have `domain`, `count`, `parameters` and `seed`, as for `generate_tasks`; without a domain
                there is a task of each of three.
        """
        asked = dict(context or {})
        domains = [asked["domain"]] if asked.get("domain") is not None else list(GENERATED)
        options = {key: asked[key] for key in ("count", "parameters", "seed") if asked.get(key) is not None}
        make = functools.partial(self.generate_tasks, **options)
        return [task for domain in domains for task in await asyncio.to_thread(make, domain)]

    async def intent_detection(self, message: Any, context: Context = None) -> dict[str, Any]:
        """Which domains a message is about: `{"intents": [{"name", "confidence"}]}`; see `find_intents`."""
        return {"intents": find_intents(message)}

    def __reduce__(self) -> tuple[Any, ...]:
        """On a worker it is another plugin, without a DFZ manager, so that its methods may be task functions."""
        workers = self.task_manager.max_workers, self.task_manager.use_processes
        return type(self), (self.settings, True, *workers)


def create_concurrent_dfz_plugin(
    config_path: str | Path | Mapping[str, Any] | Settings | None = None,
    max_workers: MaxWorkers = 4,
    use_processes: bool | None = None,
) -> ConcurrentCTMAbsoluteZeroPlugin:
    """A plugin for a DFZ manager.

    Args:
        config_path: a configuration file, or the settings themselves.
        max_workers: how many tasks may execute at once; `auto`: by what pays.
        use_processes: None and True run each task in a process, False on threads that share processes.
    """
    settings = read_configuration(config_path, stacklevel=2)
    return ConcurrentCTMAbsoluteZeroPlugin(settings, max_workers=max_workers, use_processes=use_processes)


def _connect(address: str | None) -> None:
    from dfz_ray.driver.connection import connect

    connect(address)


def _wait(done: Future[None], timeout: float | None) -> None:
    wait([done], timeout)
