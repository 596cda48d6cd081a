"""The DFZ concurrency interface, with real work behind it: change the import line, keep the script."""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import Container, Iterable, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from dfz_ray.client import check_max_workers, run_checked
from dfz_ray.domains.execution import Work, execute_chunk, thread_budget
from dfz_ray.domains.registry import REGISTRY
from dfz_ray.errors import InvalidInput, Problem
from dfz_ray.journal.measures import measure
from dfz_ray.journal.record import Record
from dfz_ray.specs.batch import Batch
from dfz_ray.specs.checking import read_batch
from dfz_ray.specs.encoding import plain
from dfz_ray.specs.input_file import FileShelf
from dfz_ray.specs.problems import show
from dfz_ray.specs.settings import Settings, read_settings
from dfz_ray.specs.task import Task, derive_seed

logger = logging.getLogger("dfz_ray")

Answer = dict[str, Any]


class ConcurrentDFZAdapter:
    """Runs DFZ tasks, one at a time in the foreground or a batch of them at once on Ray.

    Args:
        dfz_path: where a DFZ installation lies; nothing of it is needed to run tasks.
        config: `{"config_path": "configs/default.yaml"}`, or the settings themselves.
        max_workers: how many tasks may execute at once.
        use_processes: True and None run tasks in worker processes.

    Raises:
        InvalidInput: a configuration that can't be, or threads, which this version does not offer.
    """

    def __init__(
        self,
        dfz_path: str | None = None,
        config: Mapping[str, Any] | None = None,
        max_workers: int = 4,
        use_processes: bool | None = None,
    ) -> None:
        if use_processes is False:
            raise InvalidInput([Problem("use_processes", "False", "True or None: tasks run in processes")], "adapter")
        self.dfz_path = dfz_path
        self.max_workers = check_max_workers(plain(max_workers)) or 1
        self.settings = _read_config(config)
        self._turn = asyncio.Lock()  # max_workers caps all batches together
        self._spans: list[tuple[float, float]] = []
        self._counts = dict.fromkeys(("completed", "failed"), 0)

    async def initialize(self) -> bool:
        """Connect to Ray, or start an embedded one; True where that worked."""
        from dfz_ray.runtime.connection import connect

        await asyncio.to_thread(connect, self.settings.address)
        return True

    async def shutdown(self) -> None:
        """End: nothing is held between calls."""

    async def execute_task(self, task: Mapping[str, Any], context: Mapping[str, Any] | None = None) -> Answer:
        """Run one task in the foreground, in this process.

        Returns:
            `{"task_id", "status": "success" or "error", "result" or "error", "start_time", "end_time", "duration"}`;
            a task that fails raises nothing.
        """
        return await asyncio.to_thread(self._execute_here, task)

    async def execute_tasks_batch(
        self,
        tasks: Sequence[Mapping[str, Any]],
        context: Mapping[str, Any] | None = None,
        wait: bool = True,
        timeout: float | None = None,
    ) -> Answer:
        """Run tasks concurrently, and wait for them.

        A task that can't be (an unknown domain, a value out of range) fails with a clear text; the others run.

        Args:
            tasks: each `{"id", "domain", "description", "parameters"}`; ids are made where they are missing.
            context: handed through; the built-in domains need none.
            wait: True; a batch that goes on in the background is not offered by this version.
            timeout: None; the same.

        Returns:
            `{"futures": {id: Future}, "results": {id: record}, "metrics": {...}}`.

        Raises:
            InvalidInput: `wait=False` or a timeout.
        """
        if not wait or timeout is not None:
            raise InvalidInput(
                [Problem("wait, timeout", f"{wait}, {timeout}", "wait=True without a timeout")], "adapter"
            )
        async with self._turn:
            records = await asyncio.to_thread(self._execute_batch, list(tasks))
        futures: dict[str, Future[Answer]] = {}
        for task_id, record in records.items():
            futures[task_id] = Future()
            futures[task_id].set_result(record)
        return {"futures": futures, "results": records, "metrics": self._measure(list(records.values()))}

    def get_performance_metrics(self) -> Answer:
        """The metrics of all batches so far, under `concurrent`."""
        counts = dict.fromkeys(("pending", "running", "cancelled"), 0) | self._counts
        return {"concurrent": measure(self._spans, counts, self.max_workers)}

    def _execute_here(self, task: Mapping[str, Any]) -> Answer:
        begun = time.time()
        name = _name_of(task)
        unknown: dict[str, set[str]] = {}
        try:
            checked, files = _check(task, name, self.settings, unknown)
        except InvalidInput as error:
            return _answer(name, begun, time.time(), error=str(error))
        finally:
            _warn_of(unknown)
        work = Work(0, checked.seed, checked.parameters)
        shelf = FileShelf(contents=dict(files))
        domain, threads = REGISTRY.get(checked.domain), checked.resources.threads
        domain.load()  # as on a worker: importing is nobody's task
        with thread_budget(threads):
            (done,) = execute_chunk(domain, [work], threads, shelf)
        record = Record(name, checked.domain, checked.kind, "", done.result, None, 1, None, None, None)
        text = done.failure.message if done.failure else None
        return _answer(name, done.began_at, done.ended_at, result=record.result, error=text)

    def _execute_batch(self, tasks: Sequence[Any]) -> dict[str, Answer]:
        """Records by id, in the order of the tasks."""
        checked: dict[str, Task] = {}
        files: dict[str, bytes] = {}
        refused: dict[str, Answer] = {}
        order: dict[str, None] = {}
        unknown: dict[str, set[str]] = {}
        for task in tasks:
            given = _name_of(task)
            name = _unique(given, order)
            order[name] = None
            try:
                seeded = {"seed": derive_seed(0, given), **task} if isinstance(task, Mapping) else task
                checked[name], own_files = _check(seeded, name, self.settings, unknown)
                files.update(own_files)
            except InvalidInput as error:
                refused[name] = _record(name, time.time(), time.time(), error=str(error))
        _warn_of(unknown)
        done: dict[str, Answer] = {}
        if checked:
            batch = Batch("dfz batch", 0, tuple(checked.values()), files)
            results = run_checked(batch, self.settings, slots=self.max_workers, progress=False)
            done = {record.task_id: _record_of(record) for record in results}
        records = {name: done.get(name) or refused[name] for name in order}
        self._count(records)
        return records

    def _count(self, records: Mapping[str, Answer]) -> None:
        for record in records.values():
            self._counts[record["status"]] += 1
        self._spans.extend(_spans_of(records.values()))

    def _measure(self, records: Sequence[Answer]) -> Answer:
        counts = dict.fromkeys(("pending", "running", "completed", "failed", "cancelled"), 0)
        for record in records:
            counts[record["status"]] += 1
        return measure(_spans_of(records), counts, self.max_workers)


def _read_config(config: Mapping[str, Any] | None) -> Settings:
    given = dict(config or {})
    path = given.pop("config_path", None)
    if path is not None and given:
        found = ", ".join(sorted(given))
        raise InvalidInput(
            [Problem("config", f"config_path beside {found}", "a path, or the settings themselves")], "adapter"
        )
    return read_settings(given if path is None else Path(path))


def _check(task: Any, name: str, settings: Settings, unknown: dict[str, set[str]]) -> tuple[Task, Mapping[str, bytes]]:
    """A task of an old script as a checked one.

    Args:
        task: as the script gives it.
        name: its id.
        settings: what it needs where it does not say so.
        unknown: here go the parameters that its domain does not know; they are left out.

    Raises:
        InvalidInput: it can't be.
    """
    if not isinstance(task, Mapping):
        raise InvalidInput([Problem("task", show(task), "a mapping with `domain` and `parameters`")], name)
    known = {key: task[key] for key in ("domain", "description", "parameters", "seed") if key in task}
    domain = REGISTRY.find(known["domain"]) if isinstance(known.get("domain"), str) else None
    given = known.get("parameters")
    if domain is not None and isinstance(given, Mapping):
        own = {key: value for key, value in given.items() if key in domain.parameters.model_fields}
        if domain.parameters.model_config.get("extra") != "allow":
            left_out = {str(key) for key in given if key not in own and key != "seed"}
            if left_out:
                unknown.setdefault(domain.name, set()).update(left_out)
        else:
            own = {key: value for key, value in given.items() if key != "seed"} | own
        known["parameters"] = own
        if given.get("seed") is not None and "seed" not in own:
            known["seed"] = given["seed"]
    batch = read_batch([{**known, "id": name}], REGISTRY, settings.resources, settings.policy)
    return batch.tasks[0], batch.files


def _warn_of(unknown: Mapping[str, set[str]]) -> None:
    for domain, names in unknown.items():
        logger.warning("left out, for domain %s does not know them: %s", domain, ", ".join(sorted(names)))


def _name_of(task: Any) -> str:
    given = task.get("id") if isinstance(task, Mapping) else None
    return _make_id() if given is None or given == "" else str(given)


def _make_id() -> str:
    return f"task-{uuid.uuid4().hex[:12]}"


def _unique(name: str, taken: Container[str]) -> str:
    number, candidate = 2, name
    while candidate in taken:
        candidate, number = f"{name}#{number}", number + 1
    return candidate


def _answer(name: str, began: float, ended: float, result: Any = None, error: str | None = None) -> Answer:
    """What a foreground call returns."""
    told = {"status": "success", "result": result} if error is None else {"status": "error", "error": error}
    return {"task_id": name, **told, "start_time": began, "end_time": ended, "duration": ended - began}


def _record(name: str, began: float, ended: float, result: Any = None, error: str | None = None) -> Answer:
    """What a batch tells of a task: its `result` is what the foreground call would have returned."""
    record = {
        "task_id": name,
        "status": "completed" if error is None else "failed",
        "start_time": began,
        "end_time": ended,
        "duration": ended - began,
        "result": _answer(name, began, ended, result, error),
    }
    return record if error is None else {**record, "error": error}


def _record_of(record: Record) -> Answer:
    error = str(record.error) if record.error else None
    if record.start_time is None or record.end_time is None:  # it never ran, or its worker died with the times
        now = time.time()
        return _record(record.task_id, now, now, error=error)
    return _record(record.task_id, record.start_time, record.end_time, record.result, error)


def _spans_of(records: Iterable[Answer]) -> list[tuple[float, float]]:
    """Start and end of those that executed: what was refused, or never ran, has taken no time."""
    return [(one["start_time"], one["end_time"]) for one in records if one["end_time"] > one["start_time"]]
