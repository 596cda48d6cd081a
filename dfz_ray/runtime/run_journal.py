"""What happens in a run as rows of its journal; schema.sql explains them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from dfz_ray.engine.lifecycle import State
from dfz_ray.engine.messages import CommitCancellations, CommitEnds, CommitLosses, GiveChunk, NoteAttemptsLost
from dfz_ray.journal.writer import (
    ATTEMPT_COMPLETED,
    ATTEMPT_FAILED,
    ATTEMPT_LOST,
    ATTEMPT_SUPERSEDED,
    JournalWriter,
)
from dfz_ray.runtime.group_commit import GroupCommit
from dfz_ray.runtime.submission import Submission
from dfz_ray.runtime.worker import Place
from dfz_ray.specs.encoding import encode

CHUNK_ROW_DELAY_S = 0.05
"""How long the row of a chunk that was handed out may wait for a commit."""


class RunJournal:
    """Writes down what happens; `commits` brings it to the disk, in groups.

    Args:
        writer: the journal, open for work.
        commits: its commits.
        next_cancel: number of the first cancellation.
    """

    def __init__(self, writer: JournalWriter, commits: GroupCommit, next_cancel: int) -> None:
        self.commits = commits
        self.epoch = writer.epoch
        self._next_cancel = next_cancel

    def add_submission(self, submission: Submission, first: int) -> None:
        """New tasks, numbered from `first` on, and what is new with them."""
        rows = self.commits.pending.rows
        rows.batches.extend(submission.batches)
        rows.files.extend(submission.files.items())
        rows.domains.extend((domain.name, domain.volatile) for domain in submission.domains)
        rows.kinds.extend(
            (number, kind.domain, kind.name, kind.resources, kind.policy)
            for number, kind in enumerate(submission.kinds, submission.first_kind)
        )
        batch = submission.batch
        rows.tasks.extend(
            (number, task_id, batch, kind, seed, parameters, description)
            for number, (task_id, kind, seed, parameters, description) in enumerate(submission.tasks, first)
        )

    def add_lease(self, lease: int, place: Place) -> None:
        """A lease runs."""
        row = (self.epoch, lease, place.host, place.process, time.time())
        self.commits.pending.rows.leases.append(row)

    def add_chunk(self, command: GiveChunk) -> None:
        """A chunk is handed out."""
        chunk = command.chunk
        row = (chunk.id, self.epoch, command.lease, time.time(), encode(list(chunk.numbers)))
        self.commits.pending.rows.chunks.append(row)
        # What is handed out may be written with what ends soon; a result may not wait.
        self.commits.soon(CHUNK_ROW_DELAY_S)

    def add_ends(self, command: CommitEnds, executions: Iterable[Sequence[Any]]) -> None:
        """A chunk has ended; an execution has the fields of `domains.execution.Execution`."""
        superseded, retried = set(command.superseded), set(command.retried)
        rows, epoch, chunk = self.commits.pending.rows, self.epoch, command.chunk
        attempts, outcomes = rows.attempts, rows.outcomes
        for number, began, ended, cpu, result, digest, failure in executions:
            times = (began or None, ended or None, cpu)
            reason, text = failure[:2] if failure else (None, None)
            if number in superseded:
                attempts.append((number, chunk, ATTEMPT_SUPERSEDED, 0, *times, reason, None))
            elif failure is None:
                attempts.append((number, chunk, ATTEMPT_COMPLETED, 0, *times, None, None))
                outcomes.append((number, State.COMPLETED, epoch, result, None, digest, None, None, None))
            elif number in retried:
                attempts.append((number, chunk, ATTEMPT_FAILED, 1, *times, reason, text))
            else:
                attempts.append((number, chunk, ATTEMPT_FAILED, 1, *times, reason, None))
                outcomes.append((number, State.FAILED, epoch, None, None, None, *failure))
        self.commits.pending.completed.extend(command.completed)
        self.commits.pending.failed.extend(command.failed)
        self.commits.soon()

    def add_losses(self, command: CommitLosses, find_traceback: Callable[[int], str | None]) -> None:
        """Tasks have failed without a worker saying so."""
        rows, reason = self.commits.pending.rows, command.reason
        for number, message in command.messages.items():
            if command.chunk is not None:
                rows.attempts.append((number, command.chunk, ATTEMPT_FAILED, 1, None, None, None, reason, None))
            told = (reason, message, find_traceback(number))
            rows.outcomes.append((number, State.FAILED, self.epoch, None, None, None, *told))
        self.commits.pending.failed.extend(command.messages)
        self.commits.soon()

    def add_lost_attempts(self, command: NoteAttemptsLost) -> None:
        """Attempts were lost, and others are due."""
        outcome, charged = (ATTEMPT_FAILED, 1) if command.charged else (ATTEMPT_LOST, 0)
        told = (outcome, charged, None, None, None, command.reason, command.message)
        self.commits.pending.rows.attempts.extend((number, command.chunk, *told) for number in command.numbers)
        self.commits.soon()

    def add_cancellations(self, command: CommitCancellations, scope: str) -> None:
        """Tasks were cancelled."""
        rows, numbers = self.commits.pending.rows, command.numbers
        rows.cancels.append((self._next_cancel, self.epoch, time.time(), scope, len(numbers)))
        self._next_cancel += 1
        told = ("cancelled", f"it was cancelled (cancellation of: {scope})", None)
        rows.outcomes.extend((number, State.CANCELLED, self.epoch, None, None, None, *told) for number in numbers)
        self.commits.pending.cancelled.extend(numbers)
        self.commits.soon()
