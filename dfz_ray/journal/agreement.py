"""Whether the outcomes of completed tasks are those that follow from `completions`; the sums cover only the latter."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Sequence

from dfz_ray.journal.statements import STATEMENTS
from dfz_ray.protocol.columns import DIGEST_BYTES, TIMES_BYTES, unpack


def find_disagreements(connection: sqlite3.Connection) -> Iterator[str]:
    """Compare them, one chunk at a time, and the lengths of the columns.

    Raises:
        JournalDamaged: a column can't be unpacked.
        sqlite3.Error: the journal can't be read.
        TypeError, ValueError: it holds something that is no number where one is expected.
    """
    said = {chunk: told for chunk, *told in connection.execute(STATEMENTS["read_completed_outcomes"])}
    for chunk, tasks, times, results, digests, commit in connection.execute(STATEMENTS["scan_completions"]):
        numbers = unpack(tasks)
        if not set(map(type, numbers)) <= {int}:
            yield f"chunk {chunk}: what completed in it is not numbered by integers"
            continue
        yield from _find_unequal(chunk, len(numbers), times, len(unpack(results)), digests)
        first, last, explained, named = said.pop(chunk, (commit, commit, 0, "[]"))
        yield from _find_differing(chunk, numbers, json.loads(named))
        if (first, last) != (commit, commit):
            yield f"chunk {chunk}: it completed in commit {commit}, by its outcomes in commits {first} to {last}"
        if explained:
            yield f"chunk {chunk}: completed tasks of it have a reason, a message or a traceback"
    for chunk, (*_, named) in said.items():
        yield f"outcomes say that tasks {named:.50} completed in chunk {chunk}, in which none did"


def _find_unequal(chunk: int, tasks: int, times: bytes, results: int, digests: bytes) -> Iterator[str]:
    if (len(times), results, len(digests)) != (TIMES_BYTES * tasks, tasks, DIGEST_BYTES * tasks):
        lengths = f"{len(times)} bytes of times, {results} results and {len(digests)} bytes of digests"
        yield f"chunk {chunk}: {tasks} tasks completed in it, with {lengths}"


def _find_differing(chunk: int, completed: Sequence[int], named: Sequence[int]) -> Iterator[str]:
    """What is not in both: the tasks that completed in a chunk, and those whose outcomes name it."""
    if sorted(completed) == sorted(named):
        return
    if len(set(completed)) < len(completed):
        yield f"chunk {chunk}: a task completed in it more than once"
    for number in sorted(set(completed).difference(named)):
        yield f"task {number}: it completed in chunk {chunk}, but has no outcome that says so"
    for number in sorted(set(named).difference(completed)):
        yield f"task {number}: its outcome says that it completed in chunk {chunk}, in which it did not"
