"""What became of one task, attempt by attempt, and whether that explains itself; schema.sql says what holds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from dfz_ray.journal.writer import ATTEMPT_FAILED, ATTEMPT_LOST, ATTEMPT_SUPERSEDED
from dfz_ray.specs.policy import Policy
from dfz_ray.specs.states import STATES

FAILED = STATES.index("failed")
_WORDS = {ATTEMPT_FAILED: "failed", ATTEMPT_LOST: "lost", ATTEMPT_SUPERSEDED: "superseded"}


class Attempt(NamedTuple):
    """One attempt that ended, and by which its task did not complete."""

    chunk: int
    outcome: int
    charged: int
    reason: str | None
    commit: int

    def __str__(self) -> str:
        return f"the attempt in chunk {self.chunk}"


class History(NamedTuple):
    """All that the journal says of one task's way to its state, besides that it completed."""

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
    current = [attempt for attempt in history.attempts if attempt.commit > history.reopened]
    charged = sum(attempt.charged for attempt in current)
    if charged > policy.max_attempts:
        yield f"{charged} attempts are charged to it, of at most {policy.max_attempts}"
    own = [attempt for attempt in current if attempt.outcome != ATTEMPT_SUPERSEDED]
    if history.state == FAILED:
        del own[-1:]  # by it the task has failed
    for attempt in own:
        if not _is_followed_for_a_reason(attempt, policy):
            yield f"{attempt} was the last one, by its reason and by the policy, and is not"


def _find_impossible(attempt: Attempt) -> Iterator[str]:
    if attempt.outcome not in _WORDS or attempt.charged not in (0, 1):
        yield f"{attempt} has outcome {attempt.outcome!r} and charge {attempt.charged!r}, which do not exist"
        return
    word = _WORDS[attempt.outcome]
    if attempt.charged and attempt.outcome == ATTEMPT_SUPERSEDED:
        yield f"{attempt} is charged, but {word}"
    if attempt.outcome != ATTEMPT_SUPERSEDED and not attempt.reason:
        yield f"{attempt} is {word} without a reason"


def _is_followed_for_a_reason(attempt: Attempt, policy: Policy) -> bool:
    if attempt.charged:
        return attempt.reason in policy.retry_on
    return attempt.outcome == ATTEMPT_LOST
