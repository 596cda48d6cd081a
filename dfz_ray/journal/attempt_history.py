"""The unsuccessful attempts at one task, and the rules that they must obey; schema.sql states the rules."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from dfz_ray.journal.schema import ATTEMPT_FAILED, ATTEMPT_LOST, ATTEMPT_SUPERSEDED
from dfz_ray.specs.policy import Policy
from dfz_ray.specs.states import State

_WORDS = {ATTEMPT_FAILED: "failed", ATTEMPT_LOST: "lost", ATTEMPT_SUPERSEDED: "superseded"}


class AuditedAttempt(NamedTuple):
    """One attempt that ended without completing its task."""

    chunk: int
    outcome: int
    charged: int
    reason: str | None
    commit: int

    def __str__(self) -> str:
        return f"the attempt in chunk {self.chunk}"


def find_broken_rules(
    state: int | None, reopened: int, attempts: Sequence[AuditedAttempt], policy: Policy
) -> Iterator[str]:
    """Find everything that can't have happened in a sound run among a task's attempts, ordered by their chunks.

    The state is None while the task is open. `reopened` is the commit that reopened the task last, or -1.
    """
    for attempt in attempts:
        yield from _find_impossible(attempt)
    current = [attempt for attempt in attempts if attempt.commit > reopened]
    charged = sum(attempt.charged for attempt in current)
    if charged > policy.max_attempts:
        yield f"{charged} attempts are charged to it, of at most {policy.max_attempts}"
    own = [attempt for attempt in current if attempt.outcome != ATTEMPT_SUPERSEDED]
    if state == State.FAILED:
        del own[-1:]  # this attempt made the task fail, so none had to follow it
    for attempt in own:
        if not _may_be_followed(attempt, policy):
            yield f"{attempt} should have been the last one, by its reason and the policy, but another one followed"


def _find_impossible(attempt: AuditedAttempt) -> Iterator[str]:
    if attempt.outcome not in _WORDS or attempt.charged not in (0, 1):
        yield f"{attempt} has outcome {attempt.outcome!r} and charge {attempt.charged!r}, which do not exist"
    elif attempt.outcome == ATTEMPT_SUPERSEDED:
        if attempt.charged:
            yield f"{attempt} is charged, but superseded"
    elif not attempt.reason:
        yield f"{attempt} is {_WORDS[attempt.outcome]} without a reason"


def _may_be_followed(attempt: AuditedAttempt, policy: Policy) -> bool:
    if attempt.charged:
        return attempt.reason in policy.retry_on
    return attempt.outcome == ATTEMPT_LOST
