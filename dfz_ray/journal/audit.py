"""Whether a run's journal proves that no task was lost, done twice, or changed; schema.sql says what holds."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import re
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from operator import itemgetter
from pathlib import Path
from typing import Any

from dfz_ray.errors import JournalDamaged
from dfz_ray.journal.agreement import find_disagreements
from dfz_ray.journal.commit_sums import check_sums
from dfz_ray.journal.evidence import Evidence, gather
from dfz_ray.journal.folder import RunFolder
from dfz_ray.journal.history import Attempt, History, find_unexplained
from dfz_ray.journal.reader import find_wrong_size
from dfz_ray.journal.record import read_result
from dfz_ray.journal.soundness import Seal, find_missing_commits, find_other_schema, find_torn_structure
from dfz_ray.journal.statements import VERSION
from dfz_ray.protocol.columns import split_digests, unpack
from dfz_ray.specs.encoding import decode, digest, run_digest
from dfz_ray.specs.policy import Policy
from dfz_ray.specs.states import STATES

MOST_TOLD = 20
"""Of the violations that one check finds, so many are told."""
COMPLETED, FAILED, CANCELLED = (STATES.index(state) for state in ("completed", "failed", "cancelled"))
_FILE_NAME = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Check:
    """One thing that was looked at."""

    name: str
    looked_at: Mapping[str, int | str]
    """What there was to look at, by name: numbers, mostly."""
    violations: tuple[str, ...]
    notices: tuple[str, ...]
    """What is worth knowing, and wrong in no way."""


@dataclass(frozen=True)
class Audit:
    """What an audit has found."""

    folder: Path
    checks: tuple[Check, ...]

    @property
    def ok(self) -> bool:
        """Whether there is no violation."""
        return not any(check.violations for check in self.checks)

    def to_dict(self) -> dict[str, Any]:
        """The audit as JSON has it."""
        checks = [{**vars(check), "looked_at": dict(check.looked_at)} for check in self.checks]
        return {"run_dir": str(self.folder), "ok": self.ok, "checks": checks}


@dataclass
class _Findings:
    looked_at: dict[str, int | str] = field(default_factory=dict)
    violations: list[str] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)
    untold: int = 0

    def violate(self, text: str) -> None:
        if len(self.violations) < MOST_TOLD:
            self.violations.append(text)
        else:
            self.untold += 1

    def to_check(self, name: str) -> Check:
        more = [f"and {self.untold} more"] if self.untold else []
        return Check(name, self.looked_at, (*self.violations, *more), tuple(self.notices))


def audit_run(folder: Path) -> Audit:
    """Audit a run from its folder alone, at rest, after a crash, or while it is worked on; nothing is changed.

    Args:
        folder: the run folder.

    Raises:
        JournalDamaged: it is no run folder.
    """
    run = RunFolder(folder)
    if not run.database.is_file():
        raise JournalDamaged(f"{folder} is no run folder: it has no run.sqlite")
    with contextlib.ExitStack() as at_end:
        try:
            evidence = gather(run, at_end)
        except (sqlite3.Error, OSError) as error:
            return Audit(folder, (Check("file", {}, (f"it can't be opened: {error}",), ()),))
        checks = [_look(evidence, "file", _check_file)]
        if evidence.has_its_tables():
            checks.extend(_look(evidence, name, check) for name, check in _CHECKS.items())
    return Audit(folder, tuple(checks))


def _look(evidence: Evidence, name: str, check: Callable[[Evidence, _Findings], None]) -> Check:
    findings = _Findings()
    try:
        check(evidence, findings)
    except Exception as error:  # whatever a damaged journal leads to is a finding
        findings.violate(f"it can't be read to its end: {type(error).__name__}: {error}")
    return findings.to_check(name)


def _check_file(evidence: Evidence, findings: _Findings) -> None:
    connection = evidence.connection
    if evidence.is_copy:
        findings.notices.append("a copy was audited, in which a commit that was under way or cut off is taken back")
    findings.looked_at["bytes"] = evidence.folder.database.stat().st_size
    findings.looked_at["seal"] = evidence.seal.name.lower()
    if evidence.seal in (Seal.BROKEN, Seal.BYPASSED):
        findings.violate(str(evidence.seal.value))
    if evidence.seal is Seal.NONE:
        findings.notices.append("the run has not been closed: it is worked on, or was killed")
    if wrong_size := find_wrong_size(connection, evidence.folder):
        findings.violate(wrong_size)
    for text in find_torn_structure(connection, thoroughly=True):
        findings.violate(text)
    for text in find_other_schema(connection):
        findings.violate(text)
    version = dict(evidence.rows("get_meta")).get("schema_version")
    if version != str(VERSION):
        findings.violate(f"it has schema {version}; this dfz_ray audits schema {VERSION}")


def _check_commits(evidence: Evidence, findings: _Findings) -> None:
    read = check_sums(evidence.connection)
    findings.looked_at |= {"commits": read.commits, "rows": read.rows}
    for text in read.violations:
        findings.violate(text)
    if read.commits == 0:
        findings.violate("there is none, not even that of the creation")
    if missing := find_missing_commits(evidence.connection, evidence.told_commits):
        findings.violate(missing)


def _check_conservation(evidence: Evidence, findings: _Findings) -> None:
    known = {kind for kind, *_ in evidence.rows("scan_kinds")}
    submitted = 0
    for first, tasks, _, *columns, _ in evidence.rows("scan_blocks"):
        if first != submitted:
            findings.violate(f"a block begins with task {first}, not with task {submitted}")
        for text in _find_misshapen_block(tasks, known, *map(unpack, columns)):
            findings.violate(f"the block that begins with task {first}: {text}")
        submitted += tasks
    if (ids := len(set(evidence.ids))) != submitted:
        findings.violate(f"{submitted} tasks have only {ids} different ids")
    counts = dict(evidence.rows("count_states"))
    told = {state: counts.pop(number, 0) for number, state in enumerate(STATES) if number >= COMPLETED}
    for state, count in counts.items():
        findings.violate(f"{count} tasks are in the state {state!r}, which is no final one")
    left = submitted - sum(told.values())
    findings.looked_at |= {"submitted": submitted, **told, "open": left}
    if left < 0:
        findings.violate(f"{submitted} tasks were submitted, and {submitted - left} have an outcome")
    for (text,) in evidence.rows("read_strays"):
        findings.violate(text)


def _find_misshapen_block(
    tasks: int, known: set[int], ids: list[Any], kinds: list[Any], works: list[Any], descriptions: list[Any]
) -> Iterator[str]:
    if {tasks} != {len(ids), len(kinds), len(works), len(descriptions)}:
        lengths = f"{len(ids)} ids, {len(kinds)} kinds, {len(works)} works and {len(descriptions)} descriptions"
        yield f"it has {tasks} tasks, and {lengths}"
    if not (set(map(type, ids + descriptions)) <= {str} and set(map(type, kinds)) <= {int}):
        yield "an id, a kind or a description is of another type"
    if not all(isinstance(work, list) and list(map(type, work)) == [int, bytes] for work in works):
        yield "a work is no seed with its parameters"
    for kind in sorted(set(kinds) - known):
        yield f"a task is of the unknown kind {kind}"


def _check_outcomes(evidence: Evidence, findings: _Findings) -> None:
    for text in find_disagreements(evidence.connection):
        findings.violate(text)
    for task, state, chunk, reason, message in evidence.rows("read_outcome_shapes"):
        for text in _find_misshapen(state, chunk, reason, message):
            findings.violate(f"task {task}: {text}")
    reopened = [(task, state, reason) for task, _, state, reason, *_ in evidence.rows("scan_reopened")]
    for task, state, reason in reopened:
        if state != FAILED or not reason:
            findings.violate(f"task {task} was reopened, but had not failed with a reason")
    for (task,) in evidence.rows("read_completed_before_reopened"):
        findings.violate(f"task {task} was reopened after it had completed")
    count, cancelled, asked_for = evidence.rows("count_cancelled").fetchone()
    if cancelled > asked_for:
        findings.violate(f"{cancelled} tasks are cancelled, but that was asked for only {asked_for}")
    findings.looked_at |= {"outcomes": count, "reopened": len(reopened)}


def _find_misshapen(state: int, chunk: int | None, reason: str | None, message: str | None) -> Iterator[str]:
    """What is wrong with an outcome that is not that of a completed task."""
    if state not in (FAILED, CANCELLED):
        yield f"its state {state!r} is no final one"
        return
    if chunk is not None:
        yield f"it is {STATES[state]}, and names the chunk {chunk}"
    if not reason or message is None:
        yield f"it is {STATES[state]} without a reason or a message"
    if (reason == "cancelled") != (state == CANCELLED):
        yield f"it is {STATES[state]}, for the reason {reason!r}"


def _check_attempts(evidence: Evidence, findings: _Findings) -> None:
    chunks, completed = _check_chunks(evidence, findings)
    policies = {kind: Policy.model_validate_json(policy) for kind, _, _, _, policy, _ in evidence.rows("scan_kinds")}
    ids, kinds = evidence.ids, evidence.kinds
    count = tasks_with_several = 0
    for number, group in itertools.groupby(evidence.rows("read_histories"), key=itemgetter(0)):
        rows = list(group)
        state, reopened = rows[0][1:3]
        history = History(state, reopened, [Attempt(*row[3:]) for row in rows])
        count += len(rows)
        tasks_with_several += len(rows) + (state == COMPLETED) > 1
        if 0 <= number < len(ids):  # what is of no task is told elsewhere
            for text in find_unexplained(history, policies[kinds[number]]):
                findings.violate(f"task {ids[number]!r}: {text}")
    findings.looked_at |= {
        "attempts": count + completed,
        "tasks with several": tasks_with_several,
        "chunks": chunks,
    }


def _check_chunks(evidence: Evidence, findings: _Findings) -> tuple[int, int]:
    """Whether every attempt was in its chunk; returns how many chunks there are, and how many tasks completed."""
    attempted = {chunk: set(json.loads(tasks)) for chunk, tasks in evidence.rows("read_attempted_chunks")}
    submitted = len(evidence.ids)
    chunks = completed = 0
    for chunk, listed, done in evidence.rows("read_chunk_lists"):
        members = set(unpack(listed))
        completed_here = set() if done is None else set(unpack(done))
        attempted_here = attempted.pop(chunk, set())
        chunks += 1
        completed += len(completed_here)
        for number in (completed_here | attempted_here) - members:
            findings.violate(f"task {number} has an attempt in chunk {chunk}, which it was not in")
        for number in completed_here & attempted_here:
            findings.violate(f"task {number} completed in chunk {chunk}, and has another attempt there")
        if members and not 0 <= min(members) <= max(members) < submitted:
            findings.violate(f"chunk {chunk} has a task that was not submitted")
    for chunk in attempted:
        findings.violate(f"an attempt is of chunk {chunk}, which was not handed out")
    return chunks, completed


def _check_results(evidence: Evidence, findings: _Findings) -> None:
    results = evidence.folder.results
    there = {path.name for path in results.iterdir()} if results.is_dir() else set()
    names = set()
    for (column,) in evidence.rows("read_result_columns"):
        for stored in unpack(column):
            if isinstance(stored, str):
                names.add(stored)
            elif not isinstance(stored, bytes):
                findings.violate(f"a result is neither bytes nor the name of a file, but {type(stored).__name__}")
    findings.looked_at |= {"large results": len(names)}
    for name in sorted(names):
        if not _FILE_NAME.fullmatch(name):
            findings.violate(f"{name!r} is no name of a result's file")
        elif name not in there:
            findings.violate(f"the file of a result is gone: {results / name}")
        elif _sum_of(results / name) != name:
            findings.violate(f"the file of a result has changed: {results / name}")
    if others := there - names:
        findings.notices.append(f"{len(others)} files in {results} belong to no result, such as {min(others)!r}")


def _sum_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _check_digest(evidence: Evidence, findings: _Findings) -> None:
    volatile = {domain: frozenset(json.loads(keys)) for domain, keys in evidence.rows("read_domains")}
    volatile_of = {kind: volatile[domain] for kind, domain, *_ in evidence.rows("scan_kinds")}
    ids, kinds = evidence.ids, evidence.kinds
    own: list[tuple[str, bytes]] = []
    for _, tasks, _, results, digests, _ in evidence.rows("scan_completions"):
        for number, stored, told in zip(unpack(tasks), unpack(results), split_digests(digests), strict=True):
            own.append((ids[number], told))
            try:
                found = digest(decode(_read(evidence.folder.results, stored)), volatile_of[kinds[number]])
            except Exception as error:  # bytes that are no result any more
                text = f"its result can't be read: {type(error).__name__}: {error}"
                findings.violate(f"task {ids[number]!r}: {text}")
                continue
            if found != told:
                findings.violate(f"task {ids[number]!r}: its digest is not that of its result")
    findings.looked_at |= {"results": len(own), "digest": run_digest(own)}


def _read(results: Path, stored: bytes | str) -> bytes:
    if isinstance(stored, bytes):
        return stored
    if not _FILE_NAME.fullmatch(stored):  # whatever lies elsewhere is not opened
        raise ValueError(f"{stored!r} is no name of a result's file")
    return read_result(results / stored)


_CHECKS: dict[str, Callable[[Evidence, _Findings], None]] = {
    "commits": _check_commits,
    "conservation": _check_conservation,
    "outcomes": _check_outcomes,
    "attempts": _check_attempts,
    "results": _check_results,
    "digest": _check_digest,
}
"""All but that of the file, which come after it."""
