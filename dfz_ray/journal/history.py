"""What became of one task, attempt by attempt, and whether that explains itself; schema.sql says what holds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from dfz_ray.journal.record import STATES
from dfz_ray.journal.writer import ATTEMPT_COMPLETED, ATTEMPT_FAILED, ATTEMPT_LOST, ATTEMPT_SUPERSEDED
from dfz_ray.specs.policy import Policy

COMPLETED, FAILED = STATES.index("completed"), STATES.index("failed")
_WORDS = ("completed", "failed", "lost", "superseded")
"""The outcomes of attempts, in the order of their numbers."""


class Attempt(NamedTuple):
    """One attempt that ended."""

    chunk: int
    outcome: int
    charged: int
    reason: str | None
    commit: int

    def __str__(self) -> str:
        return f"the attempt in chunk {self.chunk}"


class History(NamedTuple):
    """All that the journal says of one task's way to its state."""

    state: int | None
    """None while it is open."""
    reopened: int
    """The commit that reopened it last; -1 where none did."""
    attempts: Sequence[Attempt]
    """In the order of their chunks."""


def find_unexplained(history: History, policy: Policy) -> Iterator[str]:
    """What in the history can't have come about as it should.

    Args:
        history: of a task.
        policy: of its kind.
    """
    for attempt in history.attempts:
        yield from _find_impossible(attempt)
    completed = [attempt for attempt in history.attempts if attempt.outcome == ATTEMPT_COMPLETED]
    expected = 1 if history.state == COMPLETED else 0
    if len(completed) != expected:
        state = "open" if history.state is None else STATES[history.state]
        yield f"it is {state}, and has {len(completed)} completed attempts, not {expected}"
    if any(attempt.commit <= history.reopened for attempt in completed):
        yield "it was reopened after it had completed"
    current = [attempt for attempt in history.attempts if attempt.commit > history.reopened]
    charged = sum(attempt.charged for attempt in current)
    if charged > policy.max_attempts:
        yield f"{charged} attempts are charged to it, of at most {policy.max_attempts}"
    last = _find_last(history.state, current)
    for attempt in current:
        if attempt is not last and not _is_followed_for_a_reason(attempt, policy):
            yield f"{attempt} was the last one, by its reason and by the policy, and is not"


def _find_impossible(attempt: Attempt) -> Iterator[str]:
    if attempt.outcome not in range(len(_WORDS)) or attempt.charged not in (0, 1):
        yield f"{attempt} has outcome {attempt.outcome!r} and charge {attempt.charged!r}, which do not exist"
        return
    word = _WORDS[attempt.outcome]
    if attempt.charged and attempt.outcome not in (ATTEMPT_FAILED, ATTEMPT_LOST):
        yield f"{attempt} is charged, but {word}"
    if attempt.outcome == ATTEMPT_COMPLETED and attempt.reason is not None:
        yield f"{attempt} is completed, but for the reason {attempt.reason!r}"
    if attempt.outcome in (ATTEMPT_FAILED, ATTEMPT_LOST) and not attempt.reason:
        yield f"{attempt} is {word} without a reason"


def _find_last(state: int | None, attempts: Sequence[Attempt]) -> Attempt | None:
    """The attempt that brought the task to its state, where one did."""
    if state == COMPLETED:
        return next((attempt for attempt in attempts if attempt.outcome == ATTEMPT_COMPLETED), None)
    if state == FAILED:
        return next((attempt for attempt in reversed(attempts) if attempt.outcome != ATTEMPT_SUPERSEDED), None)
    return None


def _is_followed_for_a_reason(attempt: Attempt, policy: Policy) -> bool:
    if attempt.outcome in (ATTEMPT_COMPLETED, ATTEMPT_SUPERSEDED):
        return attempt.outcome == ATTEMPT_SUPERSEDED
    if attempt.charged:
        return attempt.reason in policy.retry_on
    return attempt.outcome == ATTEMPT_LOST
