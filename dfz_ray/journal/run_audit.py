"""Audits a run: proves from its journal that no task was lost, doubled or changed; schema.sql states what must hold."""

from __future__ import annotations

import contextlib
import functools
import itertools
import json
import os
import re
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from operator import itemgetter
from pathlib import Path
from typing import Any

from dfz_ray.errors import DfzError, JournalDamaged, RunFolderRefused
from dfz_ray.journal.attempt_history import AuditedAttempt, find_broken_rules
from dfz_ray.journal.commit_sums import check_sums
from dfz_ray.journal.domain_versions import find_volatile
from dfz_ray.journal.folder import STATUS, RunFolder
from dfz_ray.journal.inputs import find_inputs, find_shared, is_input_name, task_of_call
from dfz_ray.journal.integrity import find_disagreements, find_missing_commits, find_other_schema, find_torn_structure
from dfz_ray.journal.journal_file import UNREADABLE, find_wrong_size
from dfz_ray.journal.lock import is_held
from dfz_ray.journal.record import read_result
from dfz_ray.journal.run_status import read_counts
from dfz_ray.journal.schema import VERSION
from dfz_ray.journal.seal import Seal, sha256_of
from dfz_ray.journal.sending import UnsentBatch, read_meant, read_unsent
from dfz_ray.journal.snapshot import RunSnapshot, take_snapshot
from dfz_ray.protocol.columns import split_digests, unpack, unpack_works
from dfz_ray.specs.encoding import digest_of, digests_of, run_digest
from dfz_ray.specs.policy import Policy
from dfz_ray.specs.states import FINAL, UNSUCCESSFUL, State

MOST_SHOWN = 20
"""The most violations that one check reports."""
_FILE_NAME = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Check:
    """The result of one check."""

    name: str
    looked_at: Mapping[str, int | str]
    """The amount of data that the check covered: numbers, mostly, by name."""
    violations: tuple[str, ...]
    notices: tuple[str, ...]
    """Facts that are worth knowing and are no violations."""


@dataclass(frozen=True)
class Audit:
    """The result of an audit."""

    folder: Path
    checks: tuple[Check, ...]
    incomplete: tuple[str, ...] = ()
    """For each batch that no process sends any more, and that lacks tasks: a sentence. That is no violation."""

    @property
    def ok(self) -> bool:
        """True if there is no violation."""
        return not any(check.violations for check in self.checks)

    def to_dict(self) -> dict[str, Any]:
        """The audit as plain JSON data."""
        checks = [{**vars(check), "looked_at": dict(check.looked_at)} for check in self.checks]
        return {"run_dir": str(self.folder), "ok": self.ok, "incomplete": list(self.incomplete), "checks": checks}


@dataclass
class _Findings:
    looked_at: dict[str, int | str] = field(default_factory=dict)
    violations: list[str] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)
    hidden: int = 0

    def violate(self, text: str) -> None:
        if len(self.violations) < MOST_SHOWN:
            self.violations.append(text)
        else:
            self.hidden += 1

    def to_check(self, name: str) -> Check:
        more = [f"and {self.hidden} more"] if self.hidden else []
        return Check(name, self.looked_at, (*self.violations, *more), tuple(self.notices))


def audit_run(folder: Path) -> Audit:
    """Audit a run from its folder alone: at rest, after a crash, or while a process works on it. Nothing is changed.

    Raises JournalDamaged if the folder is no run folder, and RunFolderRefused if it has links or pipes as files.
    """
    run = RunFolder(folder)
    if not os.path.lexists(run.database):
        raise JournalDamaged(run.describe_lack())
    unsent: list[UnsentBatch] = []
    with contextlib.ExitStack() as at_end:
        is_at_rest, reported = not is_held(folder), read_counts(folder)
        try:
            snapshot = take_snapshot(run, at_end)
        except PermissionError as error:  # an audit that can't be made has found nothing
            raise RunFolderRefused(f"{error.filename or folder} can't be read: {error.strerror}") from None
        except (sqlite3.Error, OSError) as error:
            return Audit(folder, (Check("file", {}, (f"it can't be opened: {error}",), ()),))
        is_at_rest = is_at_rest and not is_held(folder)  # if a driver sends, the rest is on its way
        checks = [_look(snapshot, "file", _check_file)]
        if snapshot.has_known_tables():
            checks.extend(_look(snapshot, name, check) for name, check in _CHECKS.items())
            if reported is not None:
                checks.append(_look(snapshot, "status", functools.partial(_check_status, *reported)))
            if is_at_rest:
                with contextlib.suppress(DfzError, *UNREADABLE, ValueError, TypeError):  # the checks have found that
                    unsent = read_unsent(snapshot.query)
    return Audit(folder, tuple(checks), tuple(batch.describe(folder) for batch in unsent))


def _look(snapshot: RunSnapshot, name: str, check: Callable[[RunSnapshot, _Findings], None]) -> Check:
    findings = _Findings()
    try:
        check(snapshot, findings)
    except Exception as error:  # a damaged journal may lead to any exception, and each is a finding
        findings.violate(f"it can't be read to the end: {type(error).__name__}: {error}")
    return findings.to_check(name)


def _check_file(snapshot: RunSnapshot, findings: _Findings) -> None:
    connection = snapshot.connection
    if snapshot.is_copy:
        findings.notices.append("a copy was audited, in which a commit that was under way or cut off is rolled back")
    findings.looked_at["bytes"] = snapshot.folder.database.stat().st_size
    findings.looked_at["seal"] = snapshot.seal.name.lower()
    if snapshot.seal in (Seal.BROKEN, Seal.BYPASSED):
        findings.violate(str(snapshot.seal.value))
    if snapshot.seal is Seal.NONE:
        findings.notices.append("the run has not been closed: a process works on it, or was killed")
    if wrong_size := find_wrong_size(connection, snapshot.folder):
        findings.violate(wrong_size)
    for text in (*find_torn_structure(connection, thoroughly=True), *find_other_schema(connection)):
        findings.violate(text)
    version = dict(snapshot.query("get_meta")).get("schema_version")
    if version != str(VERSION):
        findings.violate(f"it has schema {version}; this dfz_ray audits schema {VERSION}")


def _check_commits(snapshot: RunSnapshot, findings: _Findings) -> None:
    read = check_sums(snapshot.connection)
    findings.looked_at |= {"commits": read.commits, "rows": read.rows}
    for text in read.violations:
        findings.violate(text)
    if read.commits == 0:
        findings.violate("there is none, not even that of the creation")
    if missing := find_missing_commits(snapshot.connection, snapshot.acknowledged_commits):
        findings.violate(missing)


def _check_status(reported: dict[str, int], working: bool, snapshot: RunSnapshot, findings: _Findings) -> None:
    """Compare the counts of the status file, which was read before the snapshot was taken, with the journal's."""
    found = dict(snapshot.query("count_states"))
    ended = {state.label: found.get(state, 0) for state in sorted(FINAL)}
    (submitted,), (commits,), (reopened,) = (
        snapshot.query(statement).fetchone() for statement in ("count_tasks", "count_commits", "count_reopened")
    )
    counts = {**ended, "open": submitted - sum(ended.values())}
    reported = {**reported, "open": reported["pending"] + reported["running"]}
    findings.looked_at |= {name: reported[name] for name in counts}
    is_latest = snapshot.seal is Seal.WHOLE and not working and snapshot.acknowledged_commits == commits
    most = {**ended, State.FAILED.label: ended[State.FAILED.label] + reopened}
    for name, count in counts.items():
        if reported[name] != count if is_latest else reported[name] > most.get(name, reported[name]):
            findings.violate(f"{STATUS} reports {reported[name]} {name} tasks, and the journal has {count}")


def _check_conservation(snapshot: RunSnapshot, findings: _Findings) -> None:
    known = {kind for kind, *_ in snapshot.query("scan_kinds")}
    submitted = 0
    for first, tasks, _, *columns, _ in snapshot.query("scan_blocks"):
        if first != submitted:
            findings.violate(f"a block begins with task {first}, not with task {submitted}")
        ids, kinds, works, descriptions = columns
        for text in _find_misshapen_block(
            tasks, known, unpack(ids), unpack(kinds), unpack_works(works), unpack(descriptions)
        ):
            findings.violate(f"the block that begins with task {first}: {text}")
        submitted += tasks
    if (ids := len(set(snapshot.ids))) != submitted:
        findings.violate(f"{submitted} tasks have only {ids} different ids")
    counts = dict(snapshot.query("count_states"))
    ended = {state.label: counts.pop(state, 0) for state in sorted(FINAL)}
    for state, count in counts.items():
        findings.violate(f"{count} tasks are in the state {state!r}, which is no final one")
    left = submitted - sum(ended.values())
    findings.looked_at |= {"submitted": submitted, **ended, "open": left}
    if left < 0:
        findings.violate(f"{submitted} tasks were submitted, and {submitted - left} have an outcome")
    for (text,) in snapshot.query("read_strays"):
        findings.violate(text)
    sent = dict(snapshot.query("count_sent"))
    for batch, meant in read_meant(snapshot.query).items():
        if sent.get(batch, 0) > meant.tasks:
            findings.violate(f"batch {batch} has {sent[batch]} tasks, and only {meant.tasks} were meant")


def _find_misshapen_block(
    tasks: int, known: set[int], ids: list[Any], kinds: list[Any], works: list[Any], descriptions: list[Any]
) -> Iterator[str]:
    if {tasks} != {len(ids), len(kinds), len(works), len(descriptions)}:
        lengths = f"{len(ids)} ids, {len(kinds)} kinds, {len(works)} works and {len(descriptions)} descriptions"
        yield f"it has {tasks} tasks, and {lengths}"
    if not (set(map(type, ids + descriptions)) <= {str} and set(map(type, kinds)) <= {int}):
        yield "an id, a kind or a description is of another type"
    if not _are_works(works):
        yield "a work is no seed with its parameters"
    for kind in sorted(set(kinds) - known):
        yield f"a task is of the unknown kind {kind}"


def _are_works(works: list[Any]) -> bool:
    """True if each is a seed and its parameters; without a step of Python's for each task."""
    if not (set(map(type, works)) <= {tuple} and set(map(len, works)) <= {2}):
        return False
    seeds, parameters = map(itemgetter(0), works), map(itemgetter(1), works)
    return set(map(type, seeds)) <= {int} and set(map(type, parameters)) <= {bytes}


def _check_outcomes(snapshot: RunSnapshot, findings: _Findings) -> None:
    for text in find_disagreements(snapshot.connection):
        findings.violate(text)
    for task, state, chunk, reason, message in snapshot.query("read_outcome_shapes"):
        for text in _find_misshapen(state, chunk, reason, message):
            findings.violate(f"task {task}: {text}")
    reopened = [(task, state, reason) for task, _, state, reason, *_ in snapshot.query("scan_reopened")]
    for task, state, reason in reopened:
        if state != State.FAILED or not reason:
            findings.violate(f"task {task} was reopened, but had not failed with a reason")
    for (task,) in snapshot.query("read_completed_before_reopened"):
        findings.violate(f"task {task} was reopened after it had completed")
    count, cancelled, asked_for = snapshot.query("count_cancelled").fetchone()
    if cancelled > asked_for:
        findings.violate(f"{cancelled} tasks are cancelled, but that was asked for only {asked_for}")
    findings.looked_at |= {"outcomes": count, "reopened": len(reopened)}


def _find_misshapen(state: int, chunk: int | None, reason: str | None, message: str | None) -> Iterator[str]:
    """Find what is wrong with the outcome of a task that ended without a result."""
    if state not in UNSUCCESSFUL:
        yield f"its state {state!r} is no final one"
        return
    label = State(state).label
    if chunk is not None:
        yield f"it is {label}, and names the chunk {chunk}"
    if not reason or message is None:
        yield f"it is {label} without a reason or a message"
    if (reason == "cancelled") != (state == State.CANCELLED):
        yield f"it is {label}, for the reason {reason!r}"


def _check_attempts(snapshot: RunSnapshot, findings: _Findings) -> None:
    chunks, completed = _check_chunks(snapshot, findings)
    policies = {kind: Policy.model_validate_json(policy) for kind, _, _, _, policy, _ in snapshot.query("scan_kinds")}
    ids, kinds = snapshot.ids, snapshot.kinds
    count = tasks_with_several = 0
    for number, group in itertools.groupby(snapshot.query("read_histories"), key=itemgetter(0)):
        rows = list(group)
        state, reopened = rows[0][1:3]
        attempts = [AuditedAttempt(*row[3:]) for row in rows]
        count += len(rows)
        tasks_with_several += len(rows) + (state == State.COMPLETED) > 1
        if 0 <= number < len(ids):  # an attempt of an unknown task is reported elsewhere
            for text in find_broken_rules(state, reopened, attempts, policies[kinds[number]]):
                findings.violate(f"task {ids[number]!r}: {text}")
    findings.looked_at |= {"attempts": count + completed, "tasks with several": tasks_with_several, "chunks": chunks}


def _check_chunks(snapshot: RunSnapshot, findings: _Findings) -> tuple[int, int]:
    """Check that every attempt was in its chunk. Returns the number of chunks and of completed tasks."""
    attempted = {chunk: set(json.loads(tasks)) for chunk, tasks in snapshot.query("read_attempted_chunks")}
    submitted = len(snapshot.ids)
    chunks = completed = 0
    for chunk, listed, done in snapshot.query("read_chunk_lists"):
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


def _check_results(snapshot: RunSnapshot, findings: _Findings) -> None:
    results = snapshot.folder.results
    there = {path.name for path in results.iterdir()} if results.is_dir() else set()
    names = set()
    for _, column in snapshot.query("read_results"):
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
            findings.violate(f"the file of a result is missing: {results / name}")
        elif sha256_of(results / name) != name:
            findings.violate(f"the file of a result has changed: {results / name}")
    if others := there - names:
        findings.notices.append(f"{len(others)} files in {results} belong to no result, such as {min(others)!r}")


def _check_inputs(snapshot: RunSnapshot, findings: _Findings) -> None:
    meta, folder = dict(snapshot.query("get_meta")), snapshot.folder.inputs
    noted = find_inputs(meta)
    there = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    findings.looked_at |= {"large inputs": len(noted)}
    for name in sorted(noted):
        if not is_input_name(name):
            findings.violate(f"{name!r} is no name of an input's file")
        elif name not in there:
            findings.violate(f"the file of an input is missing: {folder / name}")
        elif sha256_of(folder / name) != name:
            findings.violate(f"the file of an input has changed: {folder / name}")
    for name, sha256 in find_shared(meta).items():
        if sha256 not in noted:
            findings.violate(f"the shared array {name!r} has no input")
    if others := {name for name in there - noted.keys() if task_of_call(name) is None}:
        findings.notices.append(f"{len(others)} files in {folder} belong to no input, such as {min(others)!r}")


def _check_digest(snapshot: RunSnapshot, findings: _Findings) -> None:
    volatile = find_volatile(dict(snapshot.query("get_meta")), snapshot.query("read_domains"))
    volatile_of = {kind: volatile[domain] for kind, domain, *_ in snapshot.query("scan_kinds")}
    ids, kinds = snapshot.ids, snapshot.kinds
    own: list[tuple[str, bytes]] = []
    for _, tasks, _, results, digests, _ in snapshot.query("scan_completions"):
        numbers, noted = unpack(tasks), split_digests(digests)
        own.extend(zip(map(ids.__getitem__, numbers), noted, strict=True))
        column = unpack(results)
        with contextlib.suppress(Exception):  # the loop finds out which one it is
            (ignored,) = {volatile_of[kinds[number]] for number in numbers}
            if digests_of(column, ignored) == noted:
                continue
        for number, stored, known in zip(numbers, column, noted, strict=True):
            try:
                packed = stored if type(stored) is bytes else _read(snapshot.folder.results, stored)
                found = digest_of(packed, volatile_of[kinds[number]])
            except Exception as error:  # the bytes are no result any more
                text = f"its result can't be read: {type(error).__name__}: {error}"
                findings.violate(f"task {ids[number]!r}: {text}")
                continue
            if found != known:
                findings.violate(f"task {ids[number]!r}: its digest is not that of its result")
    findings.looked_at |= {"results": len(own), "digest": run_digest(own)}


def _read(results: Path, stored: str) -> bytes:
    if not _FILE_NAME.fullmatch(stored):  # never open a file elsewhere
        raise ValueError(f"{stored!r} is no name of a result's file")
    return read_result(results / stored)


_CHECKS: dict[str, Callable[[RunSnapshot, _Findings], None]] = {
    "commits": _check_commits,
    "conservation": _check_conservation,
    "outcomes": _check_outcomes,
    "attempts": _check_attempts,
    "results": _check_results,
    "inputs": _check_inputs,
    "digest": _check_digest,
}
"""The checks after that of the file."""
