"""The options of calls: what `executor.options(...)` takes, and what becomes of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

from pydantic import ValidationError

from dfz_ray.errors import InvalidInput, Problem
from dfz_ray.executor.call_run import Treatment
from dfz_ray.specs.encoding import plain
from dfz_ray.specs.policy import Policy, RetryReason, merge
from dfz_ray.specs.problems import describe_names, find_problems, nearest
from dfz_ray.specs.resources import Resources

NAMES = (*Resources.model_fields, *Policy.model_fields)
"""The names of all options."""
SOURCE = "options"


class CallOptions(TypedDict, total=False):
    """The options of calls, for type checkers; the fields of Resources and Policy say what each means."""

    cpus: float
    gpus: float
    memory: int | str | None
    custom: Mapping[str, float]
    max_attempts: int
    backoff: Mapping[str, float]
    retry_on: Sequence[RetryReason]
    timeout_s: float | None
    priority: int
    preemptible: bool
    speculate: bool


def treat(treatment: Treatment, options: Mapping[str, Any]) -> Treatment:
    """The treatment, changed by options.

    Raises:
        InvalidInput: an option is not known, or has an impossible value.
    """
    unknown = [
        Problem(name, "an unknown option", describe_names(NAMES), nearest(name, NAMES))
        for name in options
        if name not in NAMES
    ]
    if unknown:
        raise InvalidInput(unknown, SOURCE)
    given = plain(options)
    resources = {key: value for key, value in given.items() if key in Resources.model_fields}
    policy = {key: value for key, value in given.items() if key in Policy.model_fields}
    try:
        return Treatment(
            Resources.model_validate({**treatment.resources.model_dump(), **resources})
            if resources
            else treatment.resources,
            Policy.model_validate(merge(treatment.policy.model_dump(), policy)) if policy else treatment.policy,
        )
    except ValidationError as error:
        model = Resources if error.title == Resources.__name__ else Policy
        raise InvalidInput(find_problems(error, model, SOURCE), SOURCE) from None
