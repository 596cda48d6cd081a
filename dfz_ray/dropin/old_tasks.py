"""Reads the tasks of scripts that were written for the old module."""

from __future__ import annotations

import dataclasses
import warnings
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from dfz_ray.domains.domain import Domain
from dfz_ray.domains.registry import REGISTRY
from dfz_ray.dropin.old_parameters import as_meant
from dfz_ray.dropin.task_list import name_of
from dfz_ray.errors import DfzError, InvalidInput, Problem
from dfz_ray.specs.batch import Batch
from dfz_ray.specs.batch_checks import read_batch
from dfz_ray.specs.problems import show
from dfz_ray.specs.settings import Settings
from dfz_ray.specs.task import Task, derive_seed

TASK_KEYS = ("domain", "description", "parameters", "seed", "resources", "policy")
"""The keys of a task that are read beside its id; other keys are the script's own."""


class OldTask(NamedTuple):
    """A task of a script, checked."""

    label: str
    """Its id, unique in its batch."""
    content: Any
    checked: Task | None
    """None if it is invalid."""
    error: DfzError | None = None
    """The reason why it is invalid."""
    files: Mapping[str, bytes] = {}
    """The files that its parameters name; tasks that came together share one mapping."""

    @property
    def problem(self) -> str:
        """The reason why it is invalid, as a text; empty if it is valid."""
        return "" if self.error is None else str(self.error)


class OldTasks(NamedTuple):
    """Tasks that were given together."""

    tasks: Sequence[OldTask]
    left_out: Mapping[str, set[str]]
    """The parameters that a domain does not know, by domain."""

    def warn(self, stacklevel: int = 1) -> None:
        """Name the parameters that were left out in one warning; the stack level counts from the caller."""
        if self.left_out:
            names = "; ".join(f"{domain}: {', '.join(sorted(names))}" for domain, names in self.left_out.items())
            text = f"left out parameters that their domain does not know: {names}"
            warnings.warn(text, stacklevel=stacklevel + 1)


def read_old_tasks(tasks: Iterable[Any], settings: Settings) -> OldTasks:
    """Check tasks: mappings with `domain` and `parameters`. An invalid one is kept with its problem; the others run.

    A task without a seed gets one derived from the id in the script, so that it has the same result alone and in any
    batch. The settings have the resources and the policy of tasks that do not name their own.
    """
    left_out: dict[str, set[str]] = {}
    labels: dict[str, Any] = {}
    repeats: Counter[str] = Counter()
    readable: dict[str, dict[str, Any]] = {}
    problems: dict[str, DfzError] = {}
    for task in tasks:
        given = label = name_of(task)
        while label in labels:
            repeats[given] += 1
            label = f"{given}#{repeats[given] + 1}"
        labels[label] = task
        if isinstance(task, Mapping):
            readable[label] = {**_adapt(task, given, left_out), "id": label}
        else:
            wrong = Problem("task", show(task), "a mapping with `domain` and `parameters`")
            problems[label] = InvalidInput([wrong], label)
    checked, files = _check_all(readable, settings, problems)
    return OldTasks(
        [
            OldTask(label, task, checked.get(label), problems.get(label), files.get(label, {}))
            for label, task in labels.items()
        ],
        left_out,
    )


def _check_all(
    readable: Mapping[str, dict[str, Any]], settings: Settings, problems: dict[str, DfzError]
) -> tuple[dict[str, Task], dict[str, Mapping[str, bytes]]]:
    """Check all tasks at once; if one is invalid, each alone."""
    if not readable:
        return {}, {}
    try:
        batch = _read(list(readable.values()), settings)
        return {task.id: task for task in batch.tasks}, dict.fromkeys(readable, batch.files)
    except DfzError:  # also of an installed domain that can't be imported
        pass
    checked: dict[str, Task] = {}
    files: dict[str, Mapping[str, bytes]] = {}
    for label, task in readable.items():
        try:
            batch = _read([task], settings)
            checked[label], files[label] = batch.tasks[0], batch.files
        except InvalidInput as error:
            own = [dataclasses.replace(one, where=one.where.removeprefix("tasks[0].")) for one in error.problems]
            problems[label] = InvalidInput(own, f"task {label}")
        except DfzError as error:
            problems[label] = DfzError(f"task {label}: {error}")
    return checked, files


def _read(tasks: list[dict[str, Any]], settings: Settings) -> Batch:
    return read_batch(tasks, REGISTRY, settings.resources, settings.policy)


def find_usable(name: Any) -> Domain | None:
    """The domain of that name; None if there is none, or it is installed, but can't be imported."""
    try:
        return REGISTRY.find(name) if isinstance(name, str) else None
    except DfzError:
        return None


def _adapt(task: Mapping[str, Any], given_id: str, left_out: dict[str, set[str]]) -> dict[str, Any]:
    """A task without the parameters that its domain does not know, and with its seed."""
    known = {key: task[key] for key in TASK_KEYS if task.get(key) is not None}
    parameters = known.get("parameters")
    seed = known.pop("seed", None)
    if isinstance(parameters, Mapping):
        own = {key: value for key, value in parameters.items() if key != "seed"}
        domain = find_usable(known.get("domain"))
        if domain is not None:
            names = domain.parameters.model_fields
            if "seed" in names:
                own = dict(parameters)
            if domain.parameters.model_config.get("extra") != "allow":
                foreign = [key for key in own if key not in names]
                if foreign:
                    left_out.setdefault(domain.name, set()).update(map(str, foreign))
                own = {key: value for key, value in own.items() if key in names}
        known["parameters"] = own if domain is None else as_meant(domain.name, own)
        if parameters.get("seed") is not None and "seed" not in own:
            seed = parameters["seed"]
    return {**known, "seed": derive_seed(0, given_id) if seed is None else seed}
