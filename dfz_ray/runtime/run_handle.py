"""A run as its driver sees it: open, submit, watch, close."""

from __future__ import annotations

import json
import os
import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Any

import ray
from ray import cloudpickle
from ray.exceptions import RayActorError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from dfz_ray.domains.domain import Domain
from dfz_ray.errors import ClusterUnusable, DfzError, InfrastructureLost
from dfz_ray.runtime.nodes import capacity, live_nodes, request_of
from dfz_ray.runtime.submission import RunOptions, ShippedDomain, Submission
from dfz_ray.runtime.task_manager import TaskManager
from dfz_ray.specs.batch import Batch
from dfz_ray.specs.resources import Resources
from dfz_ray.specs.settings import Settings
from dfz_ray.specs.task import Task

BLOCK_TASKS = 5_000
"""The driver sends so many at once, and no more before the manager has them on disk."""
_SLOTS_LIMIT = 1_000_000

_manager: Any = None
_manager_session: str | None = None


def get_manager() -> Any:
    """The handle of this process's manager actor, which is started when first asked for.

    It runs on the node of this process, which holds the run folders, and dies with it.
    """
    global _manager, _manager_session  # noqa: PLW0603 - one manager per process, as there is one Ray per process
    context = ray.get_runtime_context()
    session = context.get_node_id() + context.get_job_id()  # another one after ray.shutdown() and a new start
    if _manager is None or _manager_session != session:
        here = NodeAffinitySchedulingStrategy(context.get_node_id(), soft=False)
        actor = ray.remote(num_cpus=0, max_restarts=0, max_concurrency=10_000)(TaskManager)
        _manager = actor.options(
            name=f"dfz_ray task manager {os.getpid()}",
            scheduling_strategy=here,
            enable_task_events=False,  # its calls would hide the leases in the dashboard
        ).remote()
        _manager_session = session
    return _manager


class RunHandle:
    """One run of this process's manager.

    Args:
        folder: where the run is to be; it must be new.
        name: of the run, for its journal.
        slots: how many tasks may execute at once.
        settings: how tasks are handed out and written down.
    """

    def __init__(self, folder: Path, name: str, slots: int, settings: Settings) -> None:
        self.folder = folder.absolute()
        self.slots = slots
        self.id = uuid.uuid4().hex
        self._manager = get_manager()
        self._kinds: dict[tuple[str, str, tuple[Any, ...]], int] = {}
        self._lanes: dict[tuple[str, tuple[Any, ...]], int] = {}
        self._domains: set[str] = set()
        self._batches = 0
        options = RunOptions(
            slots, settings.chunking.target_s, settings.chunking.lease_s, settings.journal.inline_result_bytes
        )
        meta = {
            "run_id": self.id,
            "name": name,
            "created_at": repr(time.time()),
            "dfz_ray": version("dfz_ray"),
            "slots": str(slots),
        }
        _get(self._manager.open_run.remote(self.id, str(self.folder), options, meta))

    def submit(self, batch: Batch, domains: Mapping[str, Domain]) -> None:
        """Send a batch's tasks; returns when all of them are on disk.

        Args:
            batch: the checked tasks.
            domains: those that it names.
        """
        number, self._batches = self._batches, self._batches + 1
        batches: tuple[Any, ...] = ((number, batch.name, batch.seed, time.time()),)
        files = batch.files
        on_its_way = None
        tasks = iter(batch.tasks)
        while block := list(islice(tasks, BLOCK_TASKS)):
            submission = self._submission(block, number, batches, files, domains)
            batches, files = (), {}
            # One block at a time: messages overtake each other, and numbers follow the order of submission.
            if on_its_way is not None:
                _get(on_its_way)
            on_its_way = self._manager.submit.remote(self.id, submission)
        _get(on_its_way)

    def progress(self, timeout_s: float) -> list[int]:
        """Tasks per state, in the order of the lifecycle's states: after a while, or as soon as all are final.

        Raises:
            InfrastructureLost: the run can't go on.
        """
        counts: list[int] = _get(self._manager.progress.remote(self.id, timeout_s))
        return counts

    def close(self, grace_s: float = 1.0) -> None:
        """End the run's work; what still runs has a grace, in seconds, and is then killed."""
        _get(self._manager.close_run.remote(self.id, grace_s))

    def _submission(
        self,
        tasks: Iterable[Task],
        batch: int,
        batches: tuple[Any, ...],
        files: Mapping[str, bytes],
        domains: Mapping[str, Domain],
    ) -> Submission:
        first_kind = len(self._kinds)
        new_domains: list[ShippedDomain] = []
        lanes: list[tuple[str, Resources]] = []
        kinds: list[tuple[str, int]] = []
        rows: list[tuple[str, int, int, bytes, str]] = []
        keys: dict[int, tuple[Any, ...]] = {}
        for task in tasks:
            shape = keys.get(id(task.resources)) or keys.setdefault(id(task.resources), task.resources.key())
            kind = self._kinds.get((task.domain, task.kind, shape))
            if kind is None:
                if task.domain not in self._domains:
                    self._domains.add(task.domain)
                    new_domains.append(ship(domains[task.domain]))
                lane = self._lanes.get((task.domain, shape))
                if lane is None:
                    lane = self._lanes[task.domain, shape] = len(self._lanes)
                    lanes.append((task.domain, task.resources))
                kind = self._kinds[task.domain, task.kind, shape] = len(self._kinds)
                kinds.append((task.kind, lane))
            rows.append((task.id, kind, task.seed, task.parameters, task.description))
        return Submission(batch, first_kind, batches, new_domains, lanes, kinds, files, rows)


def ship(domain: Domain) -> ShippedDomain:
    """A domain as it travels to the workers: by reference where it is installed, by value where it is the user's.

    Raises:
        DfzError: it holds something that can't travel.
    """
    try:
        pickled = cloudpickle.dumps(domain)
    except Exception as error:
        raise DfzError(
            f"domain {domain.name!r} can't be sent to the workers: {type(error).__name__}: {error}"
        ) from None
    return ShippedDomain(domain.name, pickled, json.dumps(sorted(domain.volatile)))


def count_slots(tasks: Sequence[Task]) -> int:
    """The slots of a run that names no number: as many of its smallest shape as the cluster holds, at least 1."""
    shapes = {task.resources.key(): task.resources for task in tasks}.values()
    nodes = live_nodes()
    most = max((capacity(request_of(shape), nodes) for shape in shapes), default=1)
    return int(max(1, min(most, _SLOTS_LIMIT, len(tasks))))


def _get(reference: Any) -> Any:
    """`ray.get`, with errors that say what they mean for the run."""
    try:
        return ray.get(reference)
    except RayTaskError as error:
        cause = error.cause
        if isinstance(cause, DfzError):
            raise cause from None
        raise InfrastructureLost(f"the manager failed, which is a defect of dfz_ray: {error}") from None
    except RayActorError as error:
        raise InfrastructureLost(f"the manager of the run is gone: {str(error).splitlines()[0]}") from None
    except ray.exceptions.RaySystemError as error:
        raise ClusterUnusable(f"Ray does not work: {error}") from None
