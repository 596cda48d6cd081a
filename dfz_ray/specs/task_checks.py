"""Checks the tasks of a batch, one by one, and collects their problems."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from pydantic import BaseModel, ValidationError

from dfz_ray.errors import MissingExtra, Unserializable
from dfz_ray.specs.encoding import SCALARS, encode
from dfz_ray.specs.field_checks import ID_LIMIT, FieldChecks, is_clean, path_of
from dfz_ray.specs.input_file import FileShelf
from dfz_ray.specs.parameter_checks import KnownDomain, ParameterChecks
from dfz_ray.specs.policy import Policy
from dfz_ray.specs.policy_checks import PolicyChecks
from dfz_ray.specs.problems import describe_names, find_problems, nearest, show, show_name
from dfz_ray.specs.resources import Resources
from dfz_ray.specs.task import SEED_LIMIT, SeedSource, Task

IMPORT_HINT = "import the module that defines it: on the command line with --import"
TASK_KEYS = ("id", "domain", "description", "parameters", "seed", "resources", "policy")
SIMPLE_KEYS = frozenset({"id", "domain", "description", "parameters", "seed"})


class KnownDomains(Protocol):
    """The domains that a batch may name."""

    def find(self, name: str) -> KnownDomain | None:
        """The domain of that name, or None."""

    def names(self) -> list[str]:
        """The names of all domains."""


@dataclass(frozen=True)
class Common:
    """Values that the tasks of a batch share."""

    seed: int
    seeds: SeedSource
    resources: Mapping[str, Any]
    policies: PolicyChecks
    policy: Policy
    """The policy of a task that gives none itself."""


class TaskChecks(FieldChecks):
    """Checks tasks, and notes what a further task of the same domain need not ask again."""

    def __init__(self, domains: KnownDomains, shelf: FileShelf, resources: Resources | None) -> None:
        super().__init__()
        self.domains = domains
        self.shelf = shelf
        self._floor = given_of(resources) if resources else {}
        self._shapes: dict[str | None, Resources] = {}
        self._missing: set[str] = set()
        self.unknown: dict[str, tuple[int, int]] = {}
        """By unknown domain, as shown: the place of its problem, and the number of tasks that name it."""
        self._checks: dict[str, ParameterChecks] = {}
        """By domain, for tasks that give no resources."""

    def check_simple(self, data: Any, place: str | int, missing_id: str, common: Common) -> Task | None:
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

    def check_any(self, data: Any, place: str | int, missing_id: str, common: Common) -> Task | None:
        """Check a task field by field; returns None if it has a problem, which is noted."""
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
            self.check_shape(own, f"{where}.resources")
            common.policies.check(policy_keys, f"{where}.policy")
            return None
        shape = self.check_shape(
            {**self._floor, **given_of(domain.resources), **common.resources, **own}, f"{where}.resources"
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

    def _make_checks(self, name: str, common: Common) -> ParameterChecks | None:
        """The checks for tasks of a domain that give no resources; None if they can't be checked."""
        domain, shape = self.domains.find(name), self.find_shape(name, {}, common)
        if domain is None or shape is None or (common.policy.speculate and not domain.repeatable):
            return None
        self._checks[name] = checks = ParameterChecks(domain, shape, self.shelf)
        return checks

    def find_shape(self, name: str, own: Mapping[str, Any], common: Common) -> Resources | None:
        """The shape of tasks of a domain that give these resources; None, without noting a problem, if there is one."""
        if name in self._missing:
            return None
        before = len(self.problems)
        domain = self._domain(name, "") if self.domains.find(name) else None
        shape = None
        if domain is not None:
            shape = self.check_shape({**self._floor, **given_of(domain.resources), **common.resources, **own}, "")
        del self.problems[before:]  # these are reported for each task
        self._missing.discard(name)
        return shape

    def _domain(self, name: Any, where: str) -> KnownDomain | None:
        names = self.domains.names()
        found = self.domains.find(name) if isinstance(name, str) else None
        if found is None:
            shown = "nothing" if name is None else show(name)
            place, count = self.unknown.get(shown, (len(self.problems), 0))
            self.unknown[shown] = place, count + 1
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
            return domain.parameters.model_validate(given, context=self.shelf)
        except ValidationError as error:
            self.problems.extend(find_problems(error, domain.parameters, where))
            return None

    def check_shape(self, given: Mapping[str, Any], where: str) -> Resources | None:
        """The resources that were given; None if they have a problem, which is noted."""
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


def given_of(resources: Resources) -> dict[str, Any]:
    """Only the fields that were given, for a default must not win over a weaker source that gives a value."""
    return resources.model_dump(exclude_unset=True)
