"""From a file, a dict or a list to a checked batch; all problems at once."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from dfz_ray.errors import InvalidInput, MissingExtra, Problem, Unserializable
from dfz_ray.specs.batch import Batch, KnownDomain, KnownDomains
from dfz_ray.specs.encoding import SCALARS, encode, plain
from dfz_ray.specs.input_file import FileShelf, InputFile
from dfz_ray.specs.policy import Policy, merge
from dfz_ray.specs.problems import describe_names, find_problems, nearest, show, show_name
from dfz_ray.specs.reading import read_data
from dfz_ray.specs.resources import Resources
from dfz_ray.specs.task import SEED_LIMIT, Task, derive_seed

ID_LIMIT = 1000
COUNT_LIMIT = 10_000_000
BATCH_KEYS = ("name", "seed", "defaults", "tasks", "generate")
DEFAULTS_KEYS = ("resources", "policy")
TASK_KEYS = ("id", "domain", "description", "parameters", "seed", "resources", "policy")
GENERATE_KEYS = ("domain", "count", "description", "parameters", "resources", "policy")


def read_batch(
    source: str | Path | Mapping[str, Any] | Iterable[Any],
    domains: KnownDomains,
    default_resources: Resources | None = None,
    default_policy: Policy | None = None,
) -> Batch:
    """Check a batch: the path of a YAML or JSON file, the same as a dict, or a list of tasks.

    Args:
        source: where the batch is. Paths in it are relative to the file, or to the working directory.
        domains: the domains that it may name.
        default_resources: what a task needs where neither it, nor the batch, nor its domain says so.
        default_policy: how a task is treated where neither it nor the batch says so.

    Raises:
        InvalidInput: with every problem of the batch.
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
    batch = checker.check_batch(data, name)
    if checker.problems or batch is None:
        raise InvalidInput(checker.problems, label)
    return batch


@dataclass(frozen=True)
class _Common:
    """What the tasks of a batch share."""

    seed: int
    resources: Mapping[str, Any]
    said: Mapping[str, Any]
    """What the batch and the configuration say of the policy."""
    policy: Policy
    """That of a task which says nothing itself."""


class _Checker:
    """Goes once through a batch and collects all that is wrong with it."""

    def __init__(
        self, domains: KnownDomains, shelf: FileShelf, resources: Resources | None, policy: Policy | None
    ) -> None:
        self.problems: list[Problem] = []
        self._domains = domains
        self._shelf = shelf
        self._floor = _given(resources) if resources else {}
        self._policy_floor = policy or Policy()
        self._ids: dict[str, str] = {}
        self._shapes: dict[str | None, Resources] = {}
        self._policies: dict[bytes | None, Policy] = {}
        self._equal_policies: dict[tuple[Any, ...], Policy] = {}
        self._missing: set[str] = set()

    def check_batch(self, data: Any, name: str) -> Batch | None:
        if not isinstance(data, Mapping):
            self._refuse("batch", show(data), "a mapping with `tasks` or `generate`, or a list of tasks")
            return None
        self._check_keys(data, BATCH_KEYS, "")
        name = self._name(data.get("name"), name)
        seed = 0 if data.get("seed") is None else self._integer(data["seed"], "seed", 0, SEED_LIMIT - 1)
        defaults = self._mapping(data.get("defaults"), "defaults")
        self._check_keys(defaults, DEFAULTS_KEYS, "defaults")
        shared = self._mapping(defaults.get("resources"), "defaults.resources")
        valid = self._shape(shared, "defaults.resources") is not None  # else every task would repeat what is wrong
        said, policy = self._default_policy(self._mapping(defaults.get("policy"), "defaults.policy"))
        common = _Common(seed or 0, shared if valid else {}, said, policy)
        tasks = [
            self._check_task(task, f"tasks[{position}]", f"task-{position}", common)
            for position, task in enumerate(self._list(data.get("tasks"), "tasks"))
        ]
        for number, block in enumerate(self._list(data.get("generate"), "generate")):
            tasks.extend(self._generate(block, f"generate[{number}]", f"gen-{number}", common))
        if not tasks and not self.problems:
            self._refuse("batch", "no tasks", "at least one under `tasks` or `generate`")
        return Batch(name, common.seed, tuple(task for task in tasks if task is not None), self._shelf.contents)

    def _check_task(self, data: Any, where: str, missing_id: str, common: _Common) -> Task | None:
        if not isinstance(data, Mapping):
            self._refuse(where, show(data), "a mapping with `domain` and `parameters`")
            return None
        before = len(self.problems)
        self._check_keys(data, TASK_KEYS, where)
        task_id = self._id(data.get("id"), missing_id, where)
        description = self._text(data.get("description", ""), f"{where}.description")
        parameters = self._mapping(data.get("parameters"), f"{where}.parameters")
        readable = not any(problem.where == f"{where}.parameters" for problem in self.problems[before:])
        domain = self._domain(data.get("domain"), f"{where}.domain")
        own = self._mapping(data.get("resources"), f"{where}.resources")
        seed = data.get("seed")
        if seed is not None:
            seed = self._integer(seed, f"{where}.seed", 0, SEED_LIMIT - 1)
        if domain is None:
            self._shape(own, f"{where}.resources")
            self._policy(data.get("policy"), f"{where}.policy", common)
            return None
        shape = self._shape(
            {**self._floor, **_given(domain.resources), **common.resources, **own}, f"{where}.resources"
        )
        policy = self._policy(data.get("policy"), f"{where}.policy", common)
        checked = self._parameters(domain, parameters, f"{where}.parameters") if readable else None
        if checked is None or shape is None or policy is None or len(self.problems) > before:
            return None
        try:
            domain.check(checked, shape)
        except ValueError as error:
            self._refuse(f"{where}.parameters", show(parameters), str(error))
            return None
        encoded = self._encode(checked, f"{where}.parameters")
        kind = self._kind(domain, checked, f"{where}.parameters")
        if encoded is None or kind is None:
            return None
        if seed is None:
            seed = derive_seed(common.seed, task_id)
        return Task(task_id, domain.name, kind, seed, shape, encoded, description or "", policy)

    def _generate(self, data: Any, where: str, prefix: str, common: _Common) -> list[Task | None]:
        """Tasks whose parameters are drawn from the batch's seed, each from its own id, so that a larger count
        only adds tasks.
        """
        if not isinstance(data, Mapping):
            self._refuse(where, show(data), "a mapping with `domain` and `count`")
            return []
        self._check_keys(data, GENERATE_KEYS, where)
        count = self._integer(data.get("count"), f"{where}.count", 1, COUNT_LIMIT)
        shared = {key: data[key] for key in ("domain", "description", "resources", "policy") if key in data}
        before = len(self.problems)
        given = self._mapping(data.get("parameters"), f"{where}.parameters")
        domain = self._domains.find(data["domain"]) if isinstance(data.get("domain"), str) else None
        if domain is None:
            self._check_task(shared, where, f"{prefix}-0", common)
            return []
        readable = len(self.problems) == before
        given = self._read_files(domain, given)
        tasks: list[Task | None] = []
        for position in range(count if count and readable else 1):  # what is wrong is said once
            before = len(self.problems)
            task_id = f"{prefix}-{position}"
            rng = random.Random(derive_seed(common.seed, f"draw:{task_id}"))  # noqa: S311 - no secret is drawn
            try:
                drawn = {**domain.draw(rng, given), **given} if domain.draw else given
            except (ValueError, TypeError, KeyError):
                drawn = given  # what is given is wrong: checking it says how
            tasks.append(self._check_task({**shared, "parameters": drawn}, where, task_id, common))
            if len(self.problems) > before:
                break  # the block's other tasks would repeat it
        return tasks

    def _read_files(self, domain: KnownDomain, given: dict[str, Any]) -> dict[str, Any]:
        """The given parameters with the files that they name, for `draw` does not know what paths are relative to."""
        read = dict(given)
        for name, value in given.items():
            field = domain.parameters.model_fields.get(name)
            if isinstance(value, str) and field and InputFile in (field.annotation, *get_args(field.annotation)):
                with contextlib.suppress(ValueError):  # checking it says what is wrong
                    read[name] = self._shelf.read(value)
        return read

    def _domain(self, name: Any, where: str) -> KnownDomain | None:
        names = self._domains.names()
        found = self._domains.find(name) if isinstance(name, str) else None
        if found is None:
            shown = "nothing" if name is None else show(name)
            self._refuse(where, shown, f"the name of a domain, {describe_names(names)}", nearest(name, names))
            return None
        try:
            if found.name not in self._missing:
                found.require_libraries()
        except MissingExtra as error:
            self._missing.add(found.name)
            self._refuse(where, show(name), f"a domain whose libraries are installed: {error}")
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

    def _default_policy(self, given: Mapping[str, Any]) -> tuple[dict[str, Any], Policy]:
        """What the batch and the configuration say together, and the policy that this is."""
        floor = self._policy_floor.model_dump()
        said = merge(floor, given)
        policy = self._merged_policy(said, "defaults.policy")
        if policy is None:  # it has been told; else every task would repeat it
            said, policy = floor, self._policy_floor
        return said, policy

    def _policy(self, given: Any, where: str, common: _Common) -> Policy | None:
        if given is None:
            return common.policy
        return self._merged_policy(merge(common.said, self._mapping(given, where)), where)

    def _merged_policy(self, merged: Mapping[str, Any], where: str) -> Policy | None:
        """The policy of what all sources say, checked once for all tasks of which they say the same."""
        try:
            key = encode(merged)
        except Unserializable:
            key = None  # it is refused below
        if key in self._policies:
            return self._policies[key]
        try:
            policy = Policy.model_validate(merged)
        except ValidationError as error:
            self.problems.extend(find_problems(error, Policy, where))
            return None
        policy = self._equal_policies.setdefault(policy.key(), policy)
        if key:
            self._policies[key] = policy
        return policy

    def _encode(self, parameters: BaseModel, where: str) -> bytes | None:
        values = parameters.model_dump()
        try:
            return encode(values)
        except Unserializable:
            for name, value in values.items():
                try:
                    encode(value)
                except Unserializable as error:
                    self._refuse(f"{where}.{show_name(name)}", show(value), f"plain data; {error}")
        return None

    def _kind(self, domain: KnownDomain, parameters: BaseModel, where: str) -> str | None:
        try:
            return show_name(domain.kind(parameters))
        except Exception as error:  # a user's function may do anything
            expected = f"what the kind function of {domain.name!r} takes; it raises {show(error)}"
            self._refuse(where, show(parameters.model_dump()), expected)
            return None

    def _name(self, given: Any, missing: str) -> str:
        name = missing if given is None else _plain_scalar(given)
        if isinstance(name, str) and len(name) <= ID_LIMIT and _is_clean(name):
            return name or missing
        self._refuse("name", show(given), f"a text of at most {ID_LIMIT} printable characters", _in_quotes(given))
        return missing

    def _id(self, given: Any, missing: str, where: str) -> str:
        task_id = missing if given is None else _plain_scalar(given)
        if not isinstance(task_id, str) or not task_id or len(task_id) > ID_LIMIT or not _is_clean(task_id):
            expected = f"a text of 1 to {ID_LIMIT} printable characters"
            self._refuse(f"{where}.id", show(task_id), expected, _in_quotes(task_id))
            return missing
        if task_id in self._ids:
            self._refuse(f"{where}.id", show(task_id), f"an id of its own; {self._ids[task_id]} has this one")
        self._ids.setdefault(task_id, where)
        return task_id

    def _check_keys(self, data: Mapping[str, Any], known: tuple[str, ...], where: str) -> None:
        for key in data:
            if key not in known:
                place = f"{where}.{show_name(key)}".lstrip(".")
                self._refuse(place, "an unknown key", describe_names(known), nearest(key, known))

    def _mapping(self, value: Any, where: str) -> dict[str, Any]:
        if value is None:
            return {}
        if not isinstance(value, Mapping):
            self._refuse(where, show(value), "a mapping of names to values")
            return {}
        for key in value:
            if not isinstance(key, str) or not _encodes(key):
                self._refuse(where, f"the key {show(key)}", "keys that are texts", _in_quotes(key))
                return {}
        try:
            mapping: dict[str, Any] = plain(value)
        except Unserializable as error:
            self._refuse(where, show(value), f"plain data; {error}")
            return {}
        return mapping

    def _list(self, value: Any, where: str) -> list[Any]:
        if value is None:
            return []
        if not isinstance(value, (list, tuple)):
            self._refuse(where, show(value), "a list")
            return []
        return list(value)

    def _text(self, value: Any, where: str) -> str | None:
        if value is None or (isinstance(value, str) and _encodes(value)):
            return value
        self._refuse(where, show(value), "a text", _in_quotes(value))
        return None

    def _integer(self, value: Any, where: str, low: int, high: int) -> int | None:
        number = _plain_scalar(value)
        if isinstance(number, int) and not isinstance(number, bool) and low <= number <= high:
            return number
        self._refuse(where, "nothing" if value is None else show(value), f"a whole number from {low} to {high}")
        return None

    def _refuse(self, where: str, found: str, expected: str, hint: str = "") -> None:
        self.problems.append(Problem(where, found, expected, hint))


def _given(resources: Resources) -> dict[str, Any]:
    """Only what was said: what was left out must not win over a weaker source that says it."""
    return resources.model_dump(exclude_unset=True)


def _plain_scalar(value: Any) -> Any:
    try:
        return plain(value)
    except Unserializable:
        return value  # no scalar at all


def _in_quotes(value: Any) -> str:
    """A hint for what YAML took for a number, a truth value or a date."""
    return "put it in quotes" if isinstance(value, (int, float, date)) else ""


def _is_clean(text: str) -> bool:
    return (text.isascii() and text.isprintable()) or (text.isprintable() and _encodes(text))


def _encodes(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
