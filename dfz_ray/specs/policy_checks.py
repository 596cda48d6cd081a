"""The policies of a batch's tasks: merged from the configuration, the batch and the task, and checked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from dfz_ray.errors import Problem, Unserializable
from dfz_ray.specs.encoding import encode
from dfz_ray.specs.parameter_checks import KnownDomain
from dfz_ray.specs.policy import Policy, merge, without_speculation
from dfz_ray.specs.problems import find_problems


class PolicyChecks:
    """Finds the policy of each task; tasks with equal policies share one object.

    Args:
        floor: the policy of the configuration.
        given: the defaults of the batch.
        problems: gets what is wrong.
    """

    def __init__(self, floor: Policy, given: Mapping[str, Any], problems: list[Problem]) -> None:
        self._problems = problems
        self._merged: dict[bytes | None, Policy] = {}
        self._equal: dict[Policy, Policy] = {}
        self._speculates = bool(given.get("speculate"))
        """True if the batch, and not only the configuration, asks for second attempts."""
        keys = floor.model_dump()
        merged = merge(keys, given)
        policy = self._check(merged, "defaults.policy")
        if policy is not None:  # else the problem is told once, not for every task
            keys, floor = merged, policy
        self._keys = keys
        """The policy of batch and configuration together, as data."""
        self.default = floor
        """The policy of a task that gives none itself."""

    def find(self, own: Mapping[str, Any] | None, domain: KnownDomain, where: str) -> Policy | None:
        """The policy of a task of a domain, which gives some keys itself, or none; None if there is a problem."""
        policy = self.check(own, where)
        if policy is None or not policy.speculate or domain.repeatable:
            return policy
        said = None if own is None else own.get("speculate")
        if not (self._speculates if said is None else said):
            return self._share(without_speculation(policy))  # the configuration asks for it, where it is possible
        expected = f"false, for the domain {domain.name!r} does not say that two attempts at a task may execute at once"
        expected += " (`repeatable=True` of @domain or Domain)"
        self._problems.append(Problem(f"{where}.speculate", "true", expected))
        return policy

    def check(self, own: Mapping[str, Any] | None, where: str) -> Policy | None:
        """The policy of a task of an unknown domain; None if there is a problem."""
        return self.default if own is None else self._check(merge(self._keys, own), where)

    def _check(self, merged: Mapping[str, Any], where: str) -> Policy | None:
        """The policy that all sources give together, checked once for all tasks with equal sources."""
        try:
            key = encode(merged)
        except Unserializable:
            key = None  # the policy is refused below
        if key in self._merged:
            return self._merged[key]
        try:
            policy = self._share(Policy.model_validate(merged))
        except ValidationError as error:
            self._problems.extend(find_problems(error, Policy, where))
            return None
        if key:
            self._merged[key] = policy
        return policy

    def _share(self, policy: Policy) -> Policy:
        """Equal policies are one object."""
        return self._equal.setdefault(policy, policy)
