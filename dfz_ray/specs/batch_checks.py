"""Checks a batch given as a file, a dict or a list, and reports all its problems at once."""

from __future__ import annotations

import contextlib
import random
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

from dfz_ray.errors import InvalidInput
from dfz_ray.garbage import collector_paused
from dfz_ray.specs.batch import Batch
from dfz_ray.specs.data_file import read_data
from dfz_ray.specs.field_checks import is_clean
from dfz_ray.specs.generated_tasks import GeneratedTasks, JoinedTasks
from dfz_ray.specs.input_file import FileShelf, InputFile
from dfz_ray.specs.parameter_checks import KnownDomain, ParameterChecks
from dfz_ray.specs.policy import Policy
from dfz_ray.specs.policy_checks import PolicyChecks
from dfz_ray.specs.problems import show, show_name
from dfz_ray.specs.resources import Resources
from dfz_ray.specs.task import SEED_LIMIT, SeedSource, Task, derive_seed
from dfz_ray.specs.task_checks import SIMPLE_KEYS, Common, KnownDomains, TaskChecks

COUNT_LIMIT = 10_000_000
KEPT_TASKS = 200_000
"""So many tasks of `generate` are kept in a batch. Those of further blocks are made again when they are needed."""
BATCH_KEYS = ("name", "seed", "defaults", "tasks", "generate")
DEFAULTS_KEYS = ("resources", "policy")
GENERATE_KEYS = ("domain", "count", "description", "parameters", "resources", "policy")


def read_batch(
    source: str | Path | Mapping[str, Any] | Iterable[Any],
    domains: KnownDomains,
    default_resources: Resources | None = None,
    default_policy: Policy | None = None,
) -> Batch:
    """Check a batch: the path of a YAML or JSON file, its content as a dict, or a list of tasks.

    Paths in a file are relative to the file; in a dict or a list, to the working directory. The defaults are those of
    the configuration: the batch, its tasks and their domains win. Raises InvalidInput with every problem of the batch.
    """
    data: Any = source
    name, label, shelf = "batch", "batch", FileShelf()
    if isinstance(source, (str, Path)):
        path = Path(source)
        data, shelf = read_data(path), FileShelf(path.absolute().parent)
        name, label = show_name(path.stem), show_name(str(path))
    elif isinstance(source, Iterable) and not isinstance(source, (Mapping, bytes, bytearray)):
        data = list(source)
    checker = _Checker(domains, shelf, default_resources, default_policy)
    if isinstance(data, list):
        data = {"tasks": data}
    with collector_paused():
        batch = checker.check_batch(data, name)
    if checker.problems or batch is None:
        raise InvalidInput(checker.problems, label)
    return batch


class _Checker(TaskChecks):
    """Goes through a batch once and collects all its problems."""

    def __init__(
        self, domains: KnownDomains, shelf: FileShelf, resources: Resources | None, policy: Policy | None
    ) -> None:
        super().__init__(domains, shelf, resources)
        self._policy_floor = policy or Policy()
        self._block_checks: dict[tuple[str, str], ParameterChecks] = {}
        """By domain and shape."""
        self._kept = 0
        """Tasks of `generate` that are kept."""

    def check_batch(self, data: Any, name: str) -> Batch | None:
        if not isinstance(data, Mapping):
            self.refuse("batch", show(data), "a mapping with `tasks` or `generate`, or a list of tasks")
            return None
        self.check_keys(data, BATCH_KEYS, "")
        name = self.name(data.get("name"), name)
        seed = 0 if data.get("seed") is None else self.integer(data["seed"], "seed", 0, SEED_LIMIT - 1)
        defaults = self.mapping(data.get("defaults"), "defaults")
        self.check_keys(defaults, DEFAULTS_KEYS, "defaults")
        shared = self.mapping(defaults.get("resources"), "defaults.resources")
        valid = self.check_shape(shared, "defaults.resources") is not None  # else every task would repeat the problem
        given = self.mapping(defaults.get("policy"), "defaults.policy")
        policies = PolicyChecks(self._policy_floor, given, self.problems)
        common = Common(seed or 0, SeedSource(seed or 0), shared if valid else {}, policies, policies.default)
        listed = [
            self.check_simple(task, position, f"task-{position}", common)
            or self.check_any(task, position, f"task-{position}", common)
            for position, task in enumerate(self.list_of(data.get("tasks"), "tasks"))
        ]
        parts: list[Sequence[Task]] = [list(filter(None, listed))]
        for number, block in enumerate(self.list_of(data.get("generate"), "generate")):
            parts.append(self._generate(block, f"generate[{number}]", f"gen-{number}", common))
        tasks: Sequence[Task] = JoinedTasks(parts)
        if not any(isinstance(part, GeneratedTasks) for part in parts):
            tasks = tuple(tasks)
        for shown, (place, count) in self.unknown.items():
            if count > 1:
                self.problems[place] = replace(self.problems[place], found=f"{shown}, in {count:,} tasks")
        if not tasks and not self.problems:
            self.refuse("batch", "no tasks", "at least one under `tasks` or `generate`")
        # The driver has read them as bytes; so none is copied.
        files = {sha256: bytes(content) for sha256, content in self.shelf.contents.items()}
        return Batch(name, common.seed, tasks, files)

    def _generate(self, data: Any, where: str, prefix: str, common: Common) -> Sequence[Task]:
        """Draw the parameters of tasks from the batch's seed and the tasks' ids: a larger count only adds tasks."""
        if not isinstance(data, Mapping):
            self.refuse(where, show(data), "a mapping with `domain` and `count`")
            return []
        self.check_keys(data, GENERATE_KEYS, where)
        count = self.integer(data.get("count"), f"{where}.count", 1, COUNT_LIMIT)
        shared = {key: data[key] for key in ("domain", "description", "resources", "policy") if key in data}
        before = len(self.problems)
        given = self.mapping(data.get("parameters"), f"{where}.parameters")
        domain = self.domains.find(data["domain"]) if isinstance(data.get("domain"), str) else None
        if domain is None:
            self.check_any(shared, where, f"{prefix}-0", common)
            return []
        readable = len(self.problems) == before
        given = self._read_files(domain, given)
        if count and readable and (generated := self._generate_simple(domain, shared, given, prefix, count, common)):
            return generated
        tasks: list[Task] = []
        for position in range(count if count and readable else 1):  # a problem is reported once
            before = len(self.problems)
            task_id = f"{prefix}-{position}"
            rng = random.Random(derive_seed(common.seed, f"draw:{task_id}"))  # noqa: S311 - no secret is drawn
            try:
                drawn = {**domain.draw(rng, given), **given} if domain.draw else given
            except (ValueError, TypeError, KeyError):
                drawn = given  # the given parameters are wrong: checking them finds the problem
            task = {**shared, "parameters": drawn}
            checked = self.check_simple(task, where, task_id, common) or self.check_any(task, where, task_id, common)
            tasks.extend([checked] if checked else ())
            if len(self.problems) > before:
                break  # the block's other tasks would repeat it
        self._kept += len(tasks)
        return tasks

    def _generate_simple(
        self,
        domain: KnownDomain,
        shared: Mapping[str, Any],
        given: dict[str, Any],
        prefix: str,
        count: int,
        common: Common,
    ) -> Sequence[Task]:
        """The quick way for blocks of plain tasks; for others nothing, without noting a problem.

        All tasks are checked. Where many are kept already, they are then made again when they are needed.
        """
        description = shared.get("description", "")
        keys = shared.keys() - {"resources", "policy"}
        if not (keys <= SIMPLE_KEYS and type(description) is str and is_clean(description or "-")):
            return ()
        found = self._find_policy_and_checks(domain, shared, common)
        if found is None or any(task_id.startswith(f"{prefix}-") for task_id in self.ids):
            return ()
        policy, checks = found
        tasks = GeneratedTasks(
            prefix, count, domain.name, description, policy, given, domain.draw, common.seeds, checks
        )
        try:
            if self._kept + count <= KEPT_TASKS:
                made = tasks.make(range(count))
                self._kept += count
                return made
            if tasks.draw is not None:
                deque(tasks, maxlen=0)
            return tasks if tasks[0] == tasks[0] and tasks[-1] == tasks[-1] else ()
        except Exception:  # the other way finds the problem
            return ()

    def _find_policy_and_checks(
        self, domain: KnownDomain, shared: Mapping[str, Any], common: Common
    ) -> tuple[Policy, ParameterChecks] | None:
        """The policy and the checks of the tasks of a block; None, without noting a problem, if there is one."""
        before = len(self.problems)
        keys = None if shared.get("policy") is None else self.mapping(shared["policy"], "")
        policy = common.policies.find(keys, domain, "")
        shape = self.find_shape(domain.name, self.mapping(shared.get("resources"), ""), common)
        if policy is None or shape is None or len(self.problems) > before:
            del self.problems[before:]
            return None
        key = domain.name, shape.model_dump_json()
        if key not in self._block_checks:
            self._block_checks[key] = ParameterChecks(domain, shape, self.shelf)
        return policy, self._block_checks[key]

    def _read_files(self, domain: KnownDomain, given: dict[str, Any]) -> dict[str, Any]:
        """Replace paths by the files that they name, for `draw` does not know what paths are relative to."""
        read = dict(given)
        for name, value in given.items():
            field = domain.parameters.model_fields.get(name)
            if isinstance(value, str) and field and InputFile in (field.annotation, *get_args(field.annotation)):
                with contextlib.suppress(ValueError):  # checking the parameter finds the problem
                    read[name] = self.shelf.read(value)
        return read
