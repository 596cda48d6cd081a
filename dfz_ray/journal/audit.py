"""Whether a run's journal proves that no task was lost, done twice, or changed; schema.sql says what holds."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import itertools
import json
import re
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from operator import itemgetter
from pathlib import Path
from typing import Any

from dfz_ray.errors import JournalDamaged
from dfz_ray.journal.commit_sums import check_sums
from dfz_ray.journal.folder import RunFolder
from dfz_ray.journal.history import Attempt, History, find_unexplained
from dfz_ray.journal.lock import is_held
from dfz_ray.journal.reader import UNREADABLE, find_wrong_size
from dfz_ray.journal.record import STATES
from dfz_ray.journal.soundness import (
    Seal,
    check_seal,
    find_missing_commits,
    find_other_schema,
    find_torn_structure,
    read_told_commits,
)
from dfz_ray.journal.statements import STATEMENTS, VERSION
from dfz_ray.specs.encoding import decode, digest, run_digest
from dfz_ray.specs.policy import Policy

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


@dataclass(frozen=True)
class _Evidence:
    """What the checks look at: one moment of a run."""

    folder: RunFolder
    connection: sqlite3.Connection
    is_copy: bool
    seal: Seal
    told_commits: int | None

    def rows(self, statement: str) -> sqlite3.Cursor:
        return self.connection.execute(STATEMENTS[statement])


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
            evidence = _gather(run, at_end)
        except (sqlite3.Error, OSError) as error:
            return Audit(folder, (Check("file", {}, (f"it can't be opened: {error}",), ()),))
        checks = [_look(evidence, "file", _check_file)]
        if _is_readable(evidence):
            checks.extend(_look(evidence, name, check) for name, check in _CHECKS.items())
    return Audit(folder, tuple(checks))


def _gather(run: RunFolder, at_end: contextlib.ExitStack) -> _Evidence:
    # Before the journal is looked at: whoever works on the run removes the one and raises the other meanwhile.
    seal, told = check_seal(run), read_told_commits(run)
    connection = run.connect("ro")
    at_end.callback(connection.close)
    must_copy = False
    try:
        connection.execute("BEGIN")
        connection.execute(STATEMENTS["read_schema"]).fetchall()
        # Without a WAL no commit is possible while someone reads, and an audit may take long.
        must_copy = connection.execute("PRAGMA journal_mode").fetchone() != ("wal",) and is_held(run.path)
    except UNREADABLE as error:
        # Only a writer can take back a commit that a crash has cut off.
        must_copy = getattr(error, "sqlite_errorname", "") == "SQLITE_READONLY_ROLLBACK"
    if must_copy:
        copy = RunFolder(Path(at_end.enter_context(tempfile.TemporaryDirectory(prefix="dfz_audit_"))))
        for file in run.path.glob(f"{run.database.name}*"):
            shutil.copy(file, copy.path)
        connection.close()
        connection = copy.connect("rw")
        at_end.callback(connection.close)
        connection.execute("BEGIN")
    return _Evidence(run, connection, must_copy, seal, told)


def _is_readable(evidence: _Evidence) -> bool:
    """Whether the tables are there that the checks look at."""
    try:
        return not find_other_schema(evidence.connection)
    except UNREADABLE:
        return False


def _look(evidence: _Evidence, name: str, check: Callable[[_Evidence, _Findings], None]) -> Check:
    findings = _Findings()
    try:
        check(evidence, findings)
    except Exception as error:  # whatever a damaged journal leads to is a finding
        findings.violate(f"it can't be read to its end: {type(error).__name__}: {error}")
    return findings.to_check(name)


def _check_file(evidence: _Evidence, findings: _Findings) -> None:
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


def _check_commits(evidence: _Evidence, findings: _Findings) -> None:
    read = check_sums(evidence.connection)
    findings.looked_at |= {"commits": read.commits, "rows": read.rows}
    for text in read.violations:
        findings.violate(text)
    if read.commits == 0:
        findings.violate("there is none, not even that of the creation")
    if missing := find_missing_commits(evidence.connection, evidence.told_commits):
        findings.violate(missing)


def _check_conservation(evidence: _Evidence, findings: _Findings) -> None:
    submitted, ids, after_last = evidence.rows("count_tasks").fetchone()
    counts = dict(evidence.rows("count_states"))
    told = {
        "submitted": submitted,
        "completed": counts.pop(COMPLETED, 0),
        "failed": counts.pop(FAILED, 0),
        "cancelled": counts.pop(CANCELLED, 0),
        "open": counts.pop(0, 0),
    }
    findings.looked_at |= told
    for state, count in counts.items():
        findings.violate(f"{count} tasks are in the state {state!r}, which does not exist")
    if submitted != sum(told.values()) - submitted:
        findings.violate("not as many tasks were submitted as completed, failed, were cancelled or are open")
    if ids != submitted:
        findings.violate(f"{submitted} tasks have only {ids} different ids")
    if after_last != submitted:
        findings.violate(f"{submitted} tasks have the numbers up to {after_last - 1}: some are missing")
    for (text,) in evidence.rows("read_strays"):
        findings.violate(text)


def _check_outcomes(evidence: _Evidence, findings: _Findings) -> None:
    before, count = -1, 0
    for task, *shape in evidence.rows("read_outcome_shapes"):
        count += 1
        if task <= before:
            findings.violate(f"task {task} has more than one outcome, or they are in disorder")
        before = task
        for text in _find_misshapen(*shape):
            findings.violate(f"task {task}: {text}")
    reopened = [(task, state, reason) for task, _, state, *_, reason, _, _, _, _ in evidence.rows("scan_reopened")]
    for task, state, reason in reopened:
        if state != FAILED or not reason:
            findings.violate(f"task {task} was reopened, but had not failed with a reason")
    cancelled, asked_for = evidence.rows("count_cancelled").fetchone()
    if cancelled > asked_for:
        findings.violate(f"{cancelled} tasks are cancelled, but that was asked for only {asked_for}")
    findings.looked_at |= {"outcomes": count, "reopened": len(reopened)}


def _find_misshapen(
    state: int, has_result: int, has_file: int, digest: bytes | None, reason: str | None, message: str | None
) -> Iterator[str]:
    if state not in (COMPLETED, FAILED, CANCELLED):
        yield f"its state {state!r} is no final one"
    elif state == COMPLETED:
        if has_result + has_file != 1:
            yield "it completed, but does not have one result, in the journal or in a file"
        if not isinstance(digest, bytes) or len(digest) != hashlib.sha256().digest_size:
            yield "it completed, but has no digest"
        if reason is not None:
            yield f"it completed, for the reason {reason!r}"
    else:
        if has_result or has_file or digest is not None:
            yield f"it is {STATES[state]}, and has a result or a digest"
        if not reason or message is None:
            yield f"it is {STATES[state]} without a reason or a message"
        if (reason == "cancelled") != (state == CANCELLED):
            yield f"it is {STATES[state]}, for the reason {reason!r}"


def _check_attempts(evidence: _Evidence, findings: _Findings) -> None:
    policies = {kind: Policy.model_validate_json(policy) for kind, _, _, _, policy, _ in evidence.rows("scan_kinds")}
    chunks = {chunk: tasks for chunk, _, _, _, tasks, _ in evidence.rows("scan_chunks")}
    tasks_of = functools.lru_cache(maxsize=1024)(lambda chunk: frozenset(decode(chunks[chunk])))
    count = tasks_with_several = 0
    for number, task_id, kind, history in _read_histories(evidence):
        count += len(history.attempts)
        tasks_with_several += len(history.attempts) > 1
        for attempt in history.attempts:
            if attempt.chunk not in chunks:
                findings.violate(f"task {task_id!r}: {attempt}, which was not handed out")
            elif number not in tasks_of(attempt.chunk):
                findings.violate(f"task {task_id!r}: {attempt}, which it was not in")
        for text in find_unexplained(history, policies[kind]):
            findings.violate(f"task {task_id!r}: {text}")
    findings.looked_at |= {"attempts": count, "tasks with several": tasks_with_several, "chunks": len(chunks)}


def _read_histories(evidence: _Evidence) -> Iterator[tuple[int, str, int, History]]:
    """Number, id, kind and history of every task."""
    groups = itertools.groupby(evidence.rows("read_audited_attempts"), key=itemgetter(0))
    group = next(groups, None)
    for number, task_id, kind, state, reopened in evidence.rows("read_histories"):
        while group is not None and group[0] < number:  # of a task that is not there, which is told elsewhere
            group = next(groups, None)
        attempts: list[Attempt] = []
        if group is not None and group[0] == number:
            attempts = [Attempt(*row[1:]) for row in group[1]]
            group = next(groups, None)
        yield number, task_id, kind, History(state, reopened, attempts)


def _check_results(evidence: _Evidence, findings: _Findings) -> None:
    results = evidence.folder.results
    there = {path.name for path in results.iterdir()} if results.is_dir() else set()
    names = {name for (name,) in evidence.rows("list_result_files")}
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


def _check_digest(evidence: _Evidence, findings: _Findings) -> None:
    own = []
    for task_id, volatile, result, name, stored in evidence.rows("read_results"):
        if isinstance(stored, bytes):  # what has none is told elsewhere
            own.append((task_id, stored))
        try:
            content = result if name is None else (evidence.folder.results / name).read_bytes()
            found = digest(decode(content), frozenset(json.loads(volatile)))
        except Exception as error:  # bytes that are no result any more
            findings.violate(f"task {task_id!r}: its result can't be read: {type(error).__name__}: {error}")
            continue
        if found != stored:
            findings.violate(f"task {task_id!r}: its digest is not that of its result")
    findings.looked_at |= {"results": len(own), "digest": run_digest(own)}


_CHECKS: dict[str, Callable[[_Evidence, _Findings], None]] = {
    "commits": _check_commits,
    "conservation": _check_conservation,
    "outcomes": _check_outcomes,
    "attempts": _check_attempts,
    "results": _check_results,
    "digest": _check_digest,
}
"""All but that of the file, which come after it."""
