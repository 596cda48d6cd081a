"""What is done when a task fails, takes too long, or competes with others."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

Reason = Literal["exception", "timeout", "out_of_memory", "worker_crashed", "node_lost", "unserializable"]
"""Why an attempt can fail so that another one may help; the other reasons are final by their nature."""


class Backoff(BaseModel):
    """How long the next attempt waits: first_s, times factor for every further one, at most most_s."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    first_s: Annotated[float, Field(ge=0, le=86_400, allow_inf_nan=False)] = Field(
        0.1, description="Before the second attempt, in seconds."
    )
    factor: Annotated[float, Field(ge=1, le=100, allow_inf_nan=False)] = Field(
        2.0, description="Each further wait is so many times as long."
    )
    most_s: Annotated[float, Field(ge=0, le=86_400, allow_inf_nan=False)] = Field(
        60.0, description="No wait is longer than this, in seconds."
    )
    jitter: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] = Field(
        0.5, description="Up to this share of each wait is taken off at random, from the task's seed."
    )


class Policy(BaseModel):
    """What is done when a task fails, takes too long, or competes with others."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    max_attempts: Annotated[int, Field(ge=1, le=1000)] = Field(
        3, description="How often a task is tried at most, where the reason of its failure is in retry_on."
    )
    backoff: Backoff = Field(Backoff(), description="How long the next attempt waits.")
    retry_on: Annotated[
        tuple[Reason, ...], BeforeValidator(lambda value: tuple(value) if isinstance(value, list) else value)
    ] = Field(
        ("worker_crashed", "node_lost", "out_of_memory"), description="The reasons for which a task is tried again."
    )
    timeout_s: Annotated[float, Field(gt=0, le=31_536_000, allow_inf_nan=False)] | None = Field(
        None, description="How long one attempt may execute, in seconds; null means as long as it takes."
    )
    priority: Annotated[int, Field(ge=-1_000_000, le=1_000_000)] = Field(
        0, description="Tasks of a higher priority go first."
    )
    preemptible: bool = Field(
        True, description="Whether a task of a higher priority that has waited long may take this one's slot."
    )
