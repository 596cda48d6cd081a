"""Checks a batch given as a file, a dict or a list, and reports all its problems at once."""

from __future__ import annotations

import contextlib
import random
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, get_args

from pydantic import BaseModel, ValidationError

from dfz_ray.errors import InvalidInput, MissingExtra, Unserializable
from dfz_ray.garbage import collector_paused
from dfz_ray.specs.batch import Batch
from dfz_ray.specs.data_file import read_data
from dfz_ray.specs.encoding import SCALARS, encode
from dfz_ray.specs.field_checks import ID_LIMIT, FieldChecks, is_clean, path_of
from dfz_ray.specs.generated_tasks import GeneratedTasks, JoinedTasks
from dfz_ray.specs.input_file import FileShelf, InputFile
from dfz_ray.specs.parameter_checks import KnownDomain, ParameterChecks
from dfz_ray.specs.policy import Policy
from dfz_ray.specs.policy_checks import PolicyChecks
from dfz_ray.specs.problems import describe_names, find_problems, nearest, show, show_name
from dfz_ray.specs.resources import Resources
from dfz_ray.specs.task import SEED_LIMIT, SeedSource, Task, derive_seed

COUNT_LIMIT = 10_000_000
KEPT_TASKS = 200_000
"""So many tasks of `generate` are kept in a batch. Those of further blocks are made again when they are needed."""
IMPORT_HINT = "name the module that defines it with --import"
BATCH_KEYS = ("name", "seed", "defaults", "tasks", "generate")
DEFAULTS_KEYS = ("resources", "policy")
TASK_KEYS = ("id", "domain", "description", "parameters", "seed", "resources", "policy")
SIMPLE_KEYS = frozenset({"id", "domain", "description", "parameters", "seed"})
_NOTHING: dict[str, Any] = {}
GENERATE_KEYS = ("domain", "count", "description", "parameters", "resources", "policy")


class KnownDomains(Protocol):
    """The domains that a batch may name."""

    def find(self, name: str) -> KnownDomain | None:
        """The domain of that name, or None."""

    def names(self) -> list[str]:
        """The names of all domains."""


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


@dataclass(frozen=True)
class _Common:
    """Values that the tasks of a batch share."""

    seed: int
    seeds: SeedSource
    resources: Mapping[str, Any]
    policies: PolicyChecks
    policy: Policy
    """The policy of a task that gives none itself."""


class _Checker(FieldChecks):
    """Goes through a batch once and collects all its problems."""

    def __init__(
        self, domains: KnownDomains, shelf: FileShelf, resources: Resources | None, policy: Policy | None
    ) -> None:
        super().__init__()
        self._domains = domains
        self._shelf = shelf
        self._floor = _given(resources) if resources else {}
        self._policy_floor = policy or Policy()
        self._shapes: dict[str | None, Resources] = {}
        self._missing: set[str] = set()
        self._unknown: dict[str, tuple[int, int]] = {}
        """By unknown domain, as shown: the place of its problem, and the number of tasks that name it."""
        self._checks: dict[str, ParameterChecks] = {}
        """By domain, for tasks that give no resources."""
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
        valid = self._shape(shared, "defaults.resources") is not None  # else every task would repeat the problem
        given = self.mapping(defaults.get("policy"), "defaults.policy")
        policies = PolicyChecks(self._policy_floor, given, self.problems)
        common = _Common(seed or 0, SeedSource(seed or 0), shared if valid else {}, policies, policies.default)
        listed = [
            self._check_simple_task(task, position, f"task-{position}", common)
            or self._check_any_task(task, position, f"task-{position}", common)
            for position, task in enumerate(self.list_of(data.get("tasks"), "tasks"))
        ]
        parts: list[Sequence[Task]] = [list(filter(None, listed))]
        for number, block in enumerate(self.list_of(data.get("generate"), "generate")):
            parts.append(self._generate(block, f"generate[{number}]", f"gen-{number}", common))
        tasks: Sequence[Task] = JoinedTasks(parts)
        if not any(isinstance(part, GeneratedTasks) for part in parts):
            tasks = tuple(tasks)
        for shown, (place, count) in self._unknown.items():
            if count > 1:
                self.problems[place] = replace(self.problems[place], found=f"{shown}, in {count:,} tasks")
        if not tasks and not self.problems:
            self.refuse("batch", "no tasks", "at least one under `tasks` or `generate`")
        # The driver has read them as bytes; so none is copied.
        files = {sha256: bytes(content) for sha256, content in self._shelf.contents.items()}
        return Batch(name, common.seed, tasks, files)

    def _check_simple_task(self, data: Any, place: str | int, missing_id: str, common: _Common) -> Task | None:
        """The quick way for plain tasks, as most are in a large batch; for others None, without noting a problem."""
        if type(data) is not dict or not SIMPLE_KEYS.issuperset(data):
            return None
        name, task_id, given = data.get("domain"), data.get("id"), data.get("parameters")
        seed, description = data.get("seed"), data.get("description", "")
        if task_id is None:
            task_id = missing_id
        elif not (type(task_id) is str and 0 < len(task_id) <= ID_LIMIT and is_clean(task_id)):
            return None
        if not (
            task_id not in self.ids
            and type(name) is str
            and (seed is None or (type(seed) is int and 0 <= seed < SEED_LIMIT))
            and type(description) is str
            and (not description or is_clean(description))
            and (given is None or type(given) is dict)
        ):
            return None
        checks = self._checks.get(name) or self._make_checks(name, common)
        if checks is None:
            return None
        try:
            encoded, kind = checks.check(given or {})
        except Exception:  # the other way finds the problem
            return None
        self.ids[task_id] = place
        if seed is None:
            seed = common.seeds.derive(task_id)
        # As Task(...), without the Python function in a NamedTuple's constructor, which takes 0.1 of 2 microseconds.
        return tuple.__new__(Task, (task_id, name, kind, seed, checks.shape, encoded, description, common.policy))

    def _make_checks(self, name: str, common: _Common) -> ParameterChecks | None:
        """The checks for tasks of a domain that give no resources; None if they can't be checked."""
        domain, shape = self._domains.find(name), self._find_shape(name, {}, common)
        if domain is None or shape is None or (common.policy.speculate and not domain.repeatable):
            return None
        self._checks[name] = checks = ParameterChecks(domain, shape, self._shelf)
        return checks

    def _find_shape(self, name: str, own: Mapping[str, Any], common: _Common) -> Resources | None:
        """The shape of tasks of a domain that give these resources; None, without noting a problem, if there is one."""
        if name in self._missing:
            return None
        before = len(self.problems)
        domain = self._domain(name, "") if self._domains.find(name) else None
        shape = None
        if domain is not None:
            shape = self._shape({**self._floor, **_given(domain.resources), **common.resources, **own}, "")
        del self.problems[before:]  # these are reported for each task
        self._missing.discard(name)
        return shape

    def _check_any_task(self, data: Any, place: str | int, missing_id: str, common: _Common) -> Task | None:
        where = path_of(place)
        if not isinstance(data, Mapping):
            self.refuse(where, show(data), "a mapping with `domain` and `parameters`")
            return None
        before = len(self.problems)
        self.check_keys(data, TASK_KEYS, where)
        task_id = self.id(data.get("id"), missing_id, place)
        description = self.text(data.get("description", ""), f"{where}.description")
        parameters = self.mapping(data.get("parameters"), f"{where}.parameters")
        readable = not any(problem.where == f"{where}.parameters" for problem in self.problems[before:])
        domain = self._domain(data.get("domain"), f"{where}.domain")
        own = self.mapping(data.get("resources"), f"{where}.resources")
        seed = data.get("seed")
        if seed is not None:
            seed = self.integer(seed, f"{where}.seed", 0, SEED_LIMIT - 1)
        policy_keys = None if data.get("policy") is None else self.mapping(data["policy"], f"{where}.policy")
        if domain is None:
            self._shape(own, f"{where}.resources")
            common.policies.check(policy_keys, f"{where}.policy")
            return None
        shape = self._shape(
            {**self._floor, **_given(domain.resources), **common.resources, **own}, f"{where}.resources"
        )
        policy = common.policies.find(policy_keys, domain, f"{where}.policy")
        checked = self._parameters(domain, parameters, f"{where}.parameters") if readable else None
        if checked is None or shape is None or policy is None or len(self.problems) > before:
            return None
        try:
            domain.check(checked, shape)
        except ValueError as error:
            self.refuse(f"{where}.parameters", show(parameters), str(error))
            return None
        encoded = self._encode(checked, f"{where}.parameters")
        kind = self._kind(domain, checked, f"{where}.parameters")
        if encoded is None or kind is None:
            return None
        if seed is None:
            seed = common.seeds.derive(task_id)
        return Task(task_id, domain.name, kind, seed, shape, encoded, description or "", policy)

    def _generate(self, data: Any, where: str, prefix: str, common: _Common) -> Sequence[Task]:
        """Draw the parameters of tasks from the batch's seed and the tasks' ids: a larger count only adds tasks."""
        if not isinstance(data, Mapping):
            self.refuse(where, show(data), "a mapping with `domain` and `count`")
            return []
        self.check_keys(data, GENERATE_KEYS, where)
        count = self.integer(data.get("count"), f"{where}.count", 1, COUNT_LIMIT)
        shared = {key: data[key] for key in ("domain", "description", "resources", "policy") if key in data}
        before = len(self.problems)
        given = self.mapping(data.get("parameters"), f"{where}.parameters")
        domain = self._domains.find(data["domain"]) if isinstance(data.get("domain"), str) else None
        if domain is None:
            self._check_any_task(shared, where, f"{prefix}-0", common)
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
            checked = self._check_simple_task(task, where, task_id, common) or self._check_any_task(
                task, where, task_id, common
            )
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
        common: _Common,
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
        self, domain: KnownDomain, shared: Mapping[str, Any], common: _Common
    ) -> tuple[Policy, ParameterChecks] | None:
        """The policy and the checks of the tasks of a block; None, without noting a problem, if there is one."""
        before = len(self.problems)
        keys = None if shared.get("policy") is None else self.mapping(shared["policy"], "")
        policy = common.policies.find(keys, domain, "")
        shape = self._find_shape(domain.name, self.mapping(shared.get("resources"), ""), common)
        if policy is None or shape is None or len(self.problems) > before:
            del self.problems[before:]
            return None
        key = domain.name, shape.model_dump_json()
        if key not in self._block_checks:
            self._block_checks[key] = ParameterChecks(domain, shape, self._shelf)
        return policy, self._block_checks[key]

    def _read_files(self, domain: KnownDomain, given: dict[str, Any]) -> dict[str, Any]:
        """Replace paths by the files that they name, for `draw` does not know what paths are relative to."""
        read = dict(given)
        for name, value in given.items():
            field = domain.parameters.model_fields.get(name)
            if isinstance(value, str) and field and InputFile in (field.annotation, *get_args(field.annotation)):
                with contextlib.suppress(ValueError):  # checking the parameter finds the problem
                    read[name] = self._shelf.read(value)
        return read

    def _domain(self, name: Any, where: str) -> KnownDomain | None:
        names = self._domains.names()
        found = self._domains.find(name) if isinstance(name, str) else None
        if found is None:
            shown = "nothing" if name is None else show(name)
            place, count = self._unknown.get(shown, (len(self.problems), 0))
            self._unknown[shown] = place, count + 1
            if not count:
                hint = " ".join(filter(None, [nearest(name, names), IMPORT_HINT if name else ""]))
                self.refuse(where, shown, f"the name of a domain, {describe_names(names)}", hint)
            return None
        try:
            if found.name not in self._missing:
                found.require_libraries()
        except MissingExtra as error:
            self._missing.add(found.name)
            self.refuse(where, show(name), f"a domain whose libraries are installed: {error}")
        return found if found.name not in self._missing else None

    def _parameters(self, domain: KnownDomain, given: dict[str, Any], where: str) -> BaseModel | None:
        try:
            return domain.parameters.model_validate(given, context=self._shelf)
        except ValidationError as error:
            self.problems.extend(find_problems(error, domain.parameters, where))
            return None

    def _shape(self, given: Mapping[str, Any], where: str) -> Resources | None:
        key = repr(given) if all(type(value) in SCALARS for value in given.values()) else None
        if key in self._shapes:
            return self._shapes[key]
        try:
            shape = Resources.model_validate(given)
        except ValidationError as error:
            self.problems.extend(find_problems(error, Resources, where))
            return None
        if key:
            self._shapes[key] = shape
        return shape

    def _encode(self, parameters: BaseModel, where: str) -> bytes | None:
        values = parameters.model_dump()
        try:
            return encode(values)
        except Unserializable:
            for name, value in values.items():
                try:
                    encode(value)
                except Unserializable as error:
                    self.refuse(f"{where}.{show_name(name)}", show(value), f"plain data; {error}")
        return None

    def _kind(self, domain: KnownDomain, parameters: BaseModel, where: str) -> str | None:
        try:
            return show_name(domain.kind(parameters))
        except Exception as error:  # a user's function may do anything
            expected = f"what the kind function of {domain.name!r} takes; it raises {show(error)}"
            self.refuse(where, show(parameters.model_dump()), expected)
            return None


def _given(resources: Resources) -> dict[str, Any]:
    """Only the fields that were given, for a default must not win over a weaker source that gives a value."""
    return resources.model_dump(exclude_unset=True)
