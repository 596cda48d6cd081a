"""Events of a run as rows of its journal; schema.sql explains them."""

from __future__ import annotations

import itertools
import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Any

from dfz_ray.engine.messages import (
    CommitCancellations,
    CommitEnds,
    CommitLosses,
    GiveChunk,
    NoteAttemptsLost,
    NotePoolChanged,
)
from dfz_ray.journal.domain_versions import FIRST, make_note
from dfz_ray.journal.schema import ATTEMPT_FAILED, ATTEMPT_LOST, ATTEMPT_SUPERSEDED
from dfz_ray.journal.writer import JournalWriter
from dfz_ray.manager.group_commit import GroupCommit
from dfz_ray.protocol.reports import Ended, Place
from dfz_ray.protocol.submission import ShippedDomain, Submission
from dfz_ray.specs.encoding import encode
from dfz_ray.specs.states import State

CHUNK_ROW_DELAY_S = 0.25
"""Seconds that the row of a chunk that was handed out may wait for a commit."""


class RunJournal:
    """Makes rows of events; `commits` brings them to the disk, in groups."""

    def __init__(
        self,
        writer: JournalWriter,
        commits: GroupCommit,
        next_cancel: int,
        next_pool_change: int,
        versions: Mapping[str, int] = MappingProxyType({}),
    ) -> None:
        self.commits = commits
        self.epoch = writer.epoch
        self._next_cancel = next_cancel
        self._next_pool_change = next_pool_change
        self._versions = dict(versions)
        """By domain the version that was noted last."""

    def add_submission(self, submission: Submission, first: int) -> None:
        """New tasks, numbered from `first` on, and the new batches, kinds, domains and files."""
        rows = self.commits.pending.rows
        if submission.meant:
            rows.meta.append((f"meant/{submission.batch}/{self.epoch}", submission.meant))
        rows.batches.extend(submission.batches)
        rows.files.extend(submission.files.items())
        self.note_versions(submission.domains)
        rows.domains.extend((domain.name, domain.volatile) for domain in submission.domains)
        rows.kinds.extend(
            (number, kind.domain, kind.name, kind.resources, kind.policy)
            for number, kind in enumerate(submission.kinds, submission.first_kind)
        )
        tasks, *columns = submission.tasks
        if tasks:
            rows.blocks.append((first, tasks, submission.batch, *columns))

    def add_notes(self, notes: Iterable[tuple[str, str]]) -> None:
        """Keys and values of the table `meta`, new ones."""
        self.commits.pending.rows.meta.extend(notes)

    def note_versions(self, domains: Iterable[ShippedDomain]) -> None:
        """Tasks of these domains are executed under these versions from now on."""
        for domain in domains:
            if domain.version != self._versions.get(domain.name, FIRST):
                self._versions[domain.name] = domain.version
                note = make_note(self.epoch, domain.name, domain.version, domain.volatile)
                self.commits.pending.rows.meta.append(note)
                self.commits.soon(CHUNK_ROW_DELAY_S)

    def add_lease(self, lease: int, place: Place) -> None:
        """A lease runs."""
        row = (self.epoch, lease, place.host, place.process, time.time())
        self.commits.pending.rows.leases.append(row)

    def add_chunk(self, command: GiveChunk) -> None:
        """A chunk is handed out."""
        chunk = command.chunk
        row = (chunk.id, self.epoch, command.lease, time.time(), encode(list(chunk.numbers)))
        self.commits.pending.rows.chunks.append(row)
        # This row may wait for the next end of a chunk; a result may not wait.
        self.commits.soon(CHUNK_ROW_DELAY_S)

    def add_ends(self, command: CommitEnds, ended: Ended) -> None:
        """A chunk has ended."""
        rows, chunk, completions = self.commits.pending.rows, command.chunk, ended.completions
        if command.superseded:
            rows.attempts.extend(_superseded(chunk, ended, set(command.superseded)))
            completions = completions.only(set(command.completed))
        if command.completed:
            rows.completions.append((chunk, *completions))
            self.commits.pending.results_bytes += len(completions.results)
        retried, failed = set(command.retried), set(command.failed)
        for number, began, until, cpu, reason, message, traceback, payload in ended.failures:
            attempt = (number, chunk, ATTEMPT_FAILED, 1, began or None, until or None, cpu, reason)
            if number in retried:
                rows.attempts.append((*attempt, message))
            elif number in failed:
                rows.attempts.append((*attempt, None))
                rows.outcomes.append((number, State.FAILED, None, reason, message, traceback))
                if payload is not None:
                    self.commits.pending.payloads[number] = payload
        self._add_ended(State.COMPLETED, command.completed)
        self._add_ended(State.FAILED, command.failed)
        self.commits.soon()

    def add_losses(self, command: CommitLosses, tracebacks: dict[int, str]) -> None:
        """Tasks have ended without a result or a report of their worker. Takes their tracebacks out of the mapping."""
        rows, reason = self.commits.pending.rows, command.reason
        for number, message in command.messages.items():
            if command.chunk is not None:
                rows.attempts.append((number, command.chunk, ATTEMPT_FAILED, 1, None, None, None, reason, None))
            rows.outcomes.append(
                (number, command.state, None, reason, message, tracebacks.pop(number, command.traceback))
            )
        self._add_ended(command.state, command.messages)
        self.commits.soon()

    def add_lost_attempts(self, command: NoteAttemptsLost) -> None:
        """Attempts were lost, and others are due, or on their way."""
        outcome, charged = (ATTEMPT_FAILED, 1) if command.charged else (ATTEMPT_LOST, 0)
        message: str | None = command.message
        if command.superseded:
            outcome, message = ATTEMPT_SUPERSEDED, None
        rest = (outcome, charged, None, None, None, command.reason, message)
        self.commits.pending.rows.attempts.extend((number, command.chunk, *rest) for number in command.numbers)
        self.commits.soon()

    def add_pool_change(self, command: NotePoolChanged) -> None:
        """The number of slots has changed."""
        row = (self._next_pool_change, self.epoch, time.time(), command.slots, command.reason)
        self.commits.pending.rows.pool_changes.append(row)
        self._next_pool_change += 1
        self.commits.soon(CHUNK_ROW_DELAY_S)

    def add_cancellations(self, command: CommitCancellations, scope: str) -> None:
        """Tasks were cancelled."""
        rows, numbers = self.commits.pending.rows, command.numbers
        rows.cancels.append((self._next_cancel, self.epoch, time.time(), scope, len(numbers)))
        self._next_cancel += 1
        error = ("cancelled", f"it was cancelled (cancellation of: {scope})", None)
        rows.outcomes.extend((number, State.CANCELLED, None, *error) for number in numbers)
        self._add_ended(State.CANCELLED, numbers)
        self.commits.soon()

    def _add_ended(self, state: State, numbers: Collection[int]) -> None:
        if numbers:
            self.commits.pending.ended[state].extend(numbers)


def _superseded(chunk: int, ended: Ended, numbers: set[int]) -> Iterator[tuple[Any, ...]]:
    """The attempts of tasks that had another outcome, or were in another chunk, when these attempts were reported."""
    completed = [(*row[:4], None) for row in ended.completions.rows()]
    for number, began, until, cpu, reason in itertools.chain(completed, (row[:5] for row in ended.failures)):
        if number in numbers:
            yield (number, chunk, ATTEMPT_SUPERSEDED, 0, began or None, until or None, cpu, reason, None)
