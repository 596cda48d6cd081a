"""The policy of one task: how often it is tried, for how long, and which tasks go before others.

A field here is a key of batch files, with its check, its default and its entry in `configs/default.yaml`. The engine
gets the same object and reads the field where it decides.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

RetryReason = Literal["exception", "timeout", "out_of_memory", "worker_crashed", "node_lost", "unserializable"]
"""Reasons after which another attempt may succeed; a task that can never run is never tried again."""
RETRY_REASONS: tuple[RetryReason, ...] = get_args(RetryReason)
"""In the order in which a policy keeps them."""
TIMEOUT_LIMIT_S = 30 * 86_400


def merge(weaker: Mapping[str, Any], stronger: Mapping[str, Any]) -> dict[str, Any]:
    """Merge two sources of a policy key by key, also within `backoff`; the stronger one may be unchecked."""
    merged = {**weaker, **_without_nulls(Policy, stronger)}
    below, above = weaker.get("backoff"), merged.get("backoff")
    if isinstance(below, Mapping) and isinstance(above, Mapping):
        merged["backoff"] = {**below, **_without_nulls(Backoff, above)}
    return merged


def without_speculation(policy: Policy) -> Policy:
    """The policy without `speculate`, for work that is not known to be safe to repeat."""
    return policy.model_copy(update={"speculate": False}) if policy.speculate else policy


def _without_nulls(model: type[BaseModel], given: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out nulls that mean the default. Unknown keys stay, so that they are refused later."""
    fields = model.model_fields
    return {
        key: value
        for key, value in given.items()
        if value is not None or key not in fields or type(None) in get_args(fields[key].annotation)
    }


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    @model_validator(mode="before")
    @classmethod
    def _leave_out_nulls(cls, given: Any) -> Any:
        return _without_nulls(cls, given) if isinstance(given, Mapping) else given


class Backoff(_Part):
    """The wait before a task is tried again: exponential backoff with jitter.

    The delay after the k-th attempt, before attempt k+1, is min(most_s, first_s * factor**(k-1)) * (1 - jitter * u),
    with u from [0, 1) drawn from the run's seed.
    """

    first_s: float = Field(
        0.1, ge=0, le=86_400, allow_inf_nan=False, description="The delay after the first attempt, in seconds."
    )
    factor: float = Field(
        2.0, ge=1, le=100, allow_inf_nan=False, description="How many times longer each further delay is."
    )
    most_s: float = Field(60.0, ge=0, le=86_400, allow_inf_nan=False, description="No delay is longer, in seconds.")
    jitter: float = Field(
        0.5,
        ge=0,
        le=1,
        allow_inf_nan=False,
        description="The share of a delay that is drawn at random, from the run's seed: 0 draws none of it.",
    )


def _as_tuple(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return tuple(value)
    raise ValueError(f"a list, such as [timeout], of any of {', '.join(RETRY_REASONS)}")


def _in_order(reasons: tuple[RetryReason, ...]) -> tuple[RetryReason, ...]:
    """Each reason once, in one order, so that policies which mean the same are equal."""
    return tuple(reason for reason in RETRY_REASONS if reason in reasons)


class Policy(_Part):
    """The rules by which one task is tried. Equal policies are equal values, and may be keys of a dict."""

    max_attempts: int = Field(
        3, ge=1, le=1000, description="How often a task is tried at most; 1 means that it is never tried again."
    )
    backoff: Backoff = Field(Backoff(), description="How long it waits before it is tried again.")
    retry_on: Annotated[tuple[RetryReason, ...], BeforeValidator(_as_tuple), AfterValidator(_in_order)] = Field(
        ("out_of_memory", "worker_crashed", "node_lost"),
        description=f"How an attempt may end for the task to be tried again: any of {', '.join(RETRY_REASONS)}.",
    )
    timeout_s: float | None = Field(
        None,
        gt=0,
        le=TIMEOUT_LIMIT_S,
        allow_inf_nan=False,
        description="How long one attempt may take, in seconds; null means as long as it likes.",
    )
    priority: int = Field(
        0, ge=-1_000_000, le=1_000_000, description="Of the tasks that wait, those of a higher priority go first."
    )
    preemptible: bool = Field(
        True, description="Whether a task of a higher priority may take its slot; it then runs again, uncharged."
    )
    speculate: bool = Field(
        False,
        description="Whether a task that runs for longer than 95 % of its kind gets a second attempt beside the first, "
        "once slots are free; the one that completes first counts.",
    )
