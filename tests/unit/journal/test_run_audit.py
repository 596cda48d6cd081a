"""The audit of a run, and a second checker, which shares no code with it and must agree."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.amount import amount
from support.journal_rows import block
from support.sample_run import (
    INLINE_BYTES,
    META,
    attempt,
    both_say_ok,
    build,
    cancelled,
    check,
    completed,
    create,
    failed,
    told,
)

from dfz_ray.cli import call, group
from dfz_ray.cli.audit import EXIT_AUDIT_VIOLATION
from dfz_ray.errors import JournalDamaged
from dfz_ray.journal.lock import RunLock
from dfz_ray.journal.reader import JournalReader
from dfz_ray.journal.recovery import open_for_work
from dfz_ray.journal.run_audit import MOST_SHOWN, audit_run
from dfz_ray.journal.schema import ATTEMPT_FAILED, ATTEMPT_LOST, ATTEMPT_SUPERSEDED
from dfz_ray.journal.writer import Group
from dfz_ray.protocol.columns import pack
from dfz_ray.specs.policy import Policy
from dfz_ray.specs.states import FINAL

CHECKER = Path(__file__).parents[2] / "support/audit_checker.py"
ENDED = {**{state.label: 0 for state in FINAL}, "completed": 27, "failed": 1, "cancelled": 1}
COUNTS = {"submitted": 30, **ENDED, "open": 1}


def looked_at(folder: Path) -> dict[str, Any]:
    return {check.name: dict(check.looked_at) for check in audit_run(folder).checks}


def files_of(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# --- runs in which all is well ----------------------------------------------------------------------------------------


def test_the_audit_tells_what_it_looked_at(tmp_path: Path) -> None:
    """The audit of a sound run has no violation, and reports how much data each check covered."""
    build(tmp_path)

    found = looked_at(tmp_path)

    assert both_say_ok(tmp_path)
    with JournalReader(tmp_path) as journal:
        assert found.pop("digest") == {"results": 27, "digest": journal.digest()}
        assert found.pop("commits") == {"commits": journal.commits(), "rows": 93}
    assert found.pop("file") == {"bytes": (tmp_path / "run.sqlite").stat().st_size, "seal": "whole"}
    assert found == {
        "conservation": COUNTS,
        "outcomes": {"outcomes": 29, "reopened": 2},
        "attempts": {"attempts": 35, "tasks with several": 5, "chunks": 34},
        "results": {"large results": 1},
        "inputs": {"large inputs": 0},
    }


def test_the_audit_changes_nothing(tmp_path: Path) -> None:
    """Auditing a run that has come to rest leaves its folder as it was, to the byte."""
    build(tmp_path)
    before = files_of(tmp_path)

    audit_run(tmp_path)
    check(tmp_path)

    assert files_of(tmp_path) == before


def test_a_new_run_is_sound(tmp_path: Path) -> None:
    """A run without tasks is sound, as soon as it is there."""
    create(tmp_path, 0).close()

    assert both_say_ok(tmp_path)


def test_a_run_that_was_killed_is_sound(tmp_path: Path) -> None:
    """A run whose process died is audited with its log; that it was not closed is no violation."""
    writer = create(tmp_path / "alive")
    writer.commit(Group(completions=[completed(0, 1)]))
    (tmp_path / "dead").mkdir()
    for name in ("run.sqlite", "run.sqlite-wal"):
        shutil.copy(tmp_path / "alive" / name, tmp_path / "dead")
    writer.close()

    assert both_say_ok(tmp_path / "dead")
    assert looked_at(tmp_path / "dead")["conservation"]["completed"] == 1
    (notice,) = audit_run(tmp_path / "dead").checks[0].notices
    assert notice == "the run has not been closed: a process works on it, or was killed"


def test_a_run_without_a_log_that_was_killed_in_a_commit_is_sound(tmp_path: Path) -> None:
    """Where a crash cut a commit off, as it can on network file systems, a copy is audited, and the run left alone."""
    build(tmp_path)
    script = """
        import os, signal, sqlite3, sys
        connection = sqlite3.connect(sys.argv[1], isolation_level=None)
        connection.execute("PRAGMA cache_size = 1")  # so that pages are written before the end of the commit
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("UPDATE chunks SET tasks = printf('%.4000c', 'x')")
        os.kill(os.getpid(), signal.SIGKILL)
    """
    (tmp_path / "seal").unlink()
    database = str(tmp_path / "run.sqlite")
    killed = subprocess.run([sys.executable, "-c", textwrap.dedent(script), database], timeout=60)
    assert killed.returncode == -signal.SIGKILL
    before = files_of(tmp_path)

    assert both_say_ok(tmp_path)

    assert looked_at(tmp_path)["conservation"] == COUNTS
    assert any("a copy was audited" in notice for notice in audit_run(tmp_path).checks[0].notices)
    assert files_of(tmp_path) == before


def test_a_run_at_work_without_a_log_is_not_held_up(tmp_path: Path) -> None:
    """Where a reader would hold up commits, as on network file systems, a copy of a run at work is audited."""
    build(tmp_path)
    (tmp_path / "seal").unlink()
    lock = RunLock(tmp_path)

    found = audit_run(tmp_path)

    lock.close()
    assert found.ok
    assert any("a copy was audited" in notice for notice in found.checks[0].notices)
    assert not any("a copy was audited" in notice for notice in audit_run(tmp_path).checks[0].notices)


def test_a_run_at_work_is_audited_as_it_is_at_one_moment(tmp_path: Path) -> None:
    """While commits go on, an audit sees one moment: no row is missing, and none refers to a missing one."""
    tasks = amount(3000)
    writer = create(tmp_path, tasks)
    (tmp_path / "status.json").write_text(json.dumps({"commits": writer.commits}))
    seen = []

    def work() -> None:
        for number in range(tasks):
            writer.commit(Group(completions=[completed(number, number)]))
            part = tmp_path / "status.json.part"
            part.write_text(json.dumps({"commits": writer.commits}))
            part.replace(tmp_path / "status.json")

    thread = threading.Thread(target=work)
    thread.start()
    while thread.is_alive():
        found = audit_run(tmp_path)
        assert told(found) == {}
        seen.append(found.checks[2].looked_at["completed"])
    thread.join()
    writer.close()

    assert len(set(seen)) > 1
    assert both_say_ok(tmp_path)


@pytest.mark.parametrize(
    "result",
    [
        {"b": {"z": 1, "a": [{"y": 2, "x": None}]}, "a!": 1, "a": 2, "a'b": 3, "time": 7},
        {1: "one", (2, (3, 4)): "pair", "text": "\ud800", "big": -(2**70), "bytes": b"\x00", "nan": float("nan")},
        [0.1, -0.0, 2**64 - 1, -(2**63), True, False, None, "ü€😀", float("inf")],
        "x" * (INLINE_BYTES + 1),
    ],
)
def test_digests_of_any_result_are_recomputed(tmp_path: Path, result: Any) -> None:
    """The digest of any result that can be stored is found again from the stored bytes."""
    writer = create(tmp_path, 1)
    writer.commit(Group(completions=[completed(0, result)]))
    writer.close()

    assert both_say_ok(tmp_path)


def test_numbers_may_be_given_in_any_type(tmp_path: Path) -> None:
    """Truth values where the journal has 0 and 1, and whole numbers where it has fractions, spoil no sum."""
    writer = create(tmp_path, 1)
    group = Group(leases=[(writer.epoch, 1, "host", 1, 7)], chunks=[(9, writer.epoch, 1, 8, pack([0]))])
    group.attempts.append((0, 9, ATTEMPT_LOST, True, 1, 2, None, "node_lost", None))
    group.batches.append((1, "later", 0, 9))
    writer.commit(group)
    writer.close()

    assert both_say_ok(tmp_path)


def test_what_a_policy_allows_is_explained(tmp_path: Path) -> None:
    """As many attempts as the policy allows, for the reasons that it names, are explained, and so are free ones."""
    writer = create(tmp_path, 1, policy=Policy(max_attempts=2, retry_on=("exception",)).model_dump_json())
    group = Group(chunks=[(chunk, 1, 0, 3.0, pack([0])) for chunk in range(1, 9)])
    free = enumerate(["node_lost", "preempted", "timeout", "worker_crashed", "cancelled", "out_of_memory"], 1)
    group.attempts += [attempt(0, chunk, ATTEMPT_LOST, reason) for chunk, reason in free]
    group.attempts.append(attempt(0, 0, ATTEMPT_FAILED, "exception", charged=True))
    group.attempts.append(attempt(0, 7, ATTEMPT_FAILED, "timeout", charged=True))
    group.attempts.append(attempt(0, 8, ATTEMPT_SUPERSEDED))
    group.outcomes.append(failed(0, "timeout"))
    writer.commit(group)
    writer.close()

    assert both_say_ok(tmp_path)


def test_a_task_that_was_reopened_has_all_its_attempts_anew(tmp_path: Path) -> None:
    """Attempts from before a task was reopened do not count against its policy."""
    create(tmp_path, 1).close()
    for epoch in (2, 3, 4):
        lock, writer, recovered = open_for_work(tmp_path, META, INLINE_BYTES, retry_failed=True, durable=False)
        first = recovered.next_chunk
        group = Group(chunks=[(chunk, epoch, 0, 3.0, pack([0])) for chunk in range(first, first + 3)])
        for chunk in range(first, first + 3):
            group.attempts.append(attempt(0, chunk, ATTEMPT_LOST, "worker_crashed", charged=True))
        group.outcomes.append(failed(0, "worker_crashed"))
        writer.commit(group)
        writer.close()
        lock.close()

    assert both_say_ok(tmp_path)
    assert looked_at(tmp_path)["outcomes"] == {"outcomes": 1, "reopened": 2}


def test_other_files_among_the_results_are_told_and_no_violation(tmp_path: Path) -> None:
    """A file under results/ that no outcome names, as a kill may leave it, is worth a notice."""
    build(tmp_path)
    (tmp_path / "results" / ("ab" * 32 + ".part")).write_bytes(b"half")

    assert both_say_ok(tmp_path)
    (notice,) = audit_run(tmp_path).checks[5].notices
    assert "1 files in" in notice
    assert ".part" in notice


# --- runs that were written in order, and can't have come about so ----------------------------------------------------


def own(*attempts: tuple[Any, ...], outcome: tuple[Any, ...] | None = None, done: int | None = None) -> Group:
    """Attempts of task 0, which has a chunk of its number and any from 10 on; its outcome, or where it completed."""
    numbers = [*(row[1] for row in attempts), *([] if done is None else [done])]
    return Group(
        chunks=[(chunk, 1, 0, 3.0, pack([0])) for chunk in numbers if 10 <= chunk < 90],
        completions=[] if done is None else [completed(0, 1, done)],
        attempts=list(attempts),
        outcomes=[outcome] if outcome else [],
    )


def unlikely_histories() -> Iterator[tuple[str, Group, str, str]]:
    """A name, a group to commit to a run of waiting tasks, the check that finds it, and a part of its message."""

    def crash(chunk: int = 0, charged: bool = True) -> tuple[Any, ...]:
        return attempt(0, chunk, ATTEMPT_LOST, "worker_crashed", charged)

    def error(chunk: int = 0, charged: bool = True) -> tuple[Any, ...]:
        return attempt(0, chunk, ATTEMPT_FAILED, "exception", charged)

    late = (0, 10, ATTEMPT_SUPERSEDED, 1, 1.0, 2.0, 0.1, None, None)
    yield "not retried", own(error(), done=10), "attempts", "chunk 0 should have been the last one"
    yield "free error", own(error(charged=False), done=10), "attempts", "chunk 0 should have been the last one"
    yield "left open", own(error()), "attempts", "chunk 0 should have been the last one"
    crashes = [crash(chunk) for chunk in (0, 10, 11, 12)]
    yield "too many", own(*crashes, outcome=failed(0, "worker_crashed")), "attempts", "4 attempts are charged to it, of"
    yield "charged late", own(late, done=0), "attempts", "is charged, but superseded"
    yield "no reason", own((*crash()[:7], None, None)), "attempts", "is lost without a reason"
    yield "other end", own((0, 0, 9, *crash()[3:])), "attempts", "has outcome 9 and charge 1, which do not exist"
    yield "completed end", own((0, 0, 0, 0, *late[4:])), "attempts", "has outcome 0 and charge 0, which do not exist"
    yield "elsewhere", own(done=1), "attempts", "task 0 has an attempt in chunk 1, which it was not in"
    yield "lost elsewhere", own(crash(1)), "attempts", "task 0 has an attempt in chunk 1, which it was not in"
    yield "lost nowhere", own(crash(99)), "attempts", "an attempt is of chunk 99, which was not handed out"
    yield "both", own(crash(charged=False), done=0), "attempts", "completed in chunk 0, and has another attempt there"

    yield "no why", own(error(), outcome=failed(0, "")), "outcomes", "it is failed without a reason or a message"
    yield "not asked for", own(outcome=cancelled(0)), "outcomes", "1 tasks are cancelled, but that was asked for only 0"
    yield "half", own(crash(), outcome=failed(0, "cancelled")), "outcomes", "it is failed, for the reason 'cancelled'"
    placed = (*failed(0)[:2], 0, *failed(0)[3:])
    yield "failed in a chunk", own(error(), outcome=placed), "outcomes", "it is failed, and names the chunk 0"


def unlikely_columns() -> Iterator[tuple[str, Group, str, str]]:
    """The same for columns of tasks and of completions."""

    def done(at: int, value: bytes) -> Group:
        return Group(completions=[(*whole[:at], value, *whole[at + 1 :])])

    def tasks(at: int, value: Any) -> Group:
        row = block(3, ["c", "d"])
        return Group(blocks=[(*row[:at], value, *row[at + 1 :])])

    whole = completed(0, 1)
    short = "chunk 0: 1 tasks completed in it, with"
    yield "short times", done(2, bytes(23)), "outcomes", f"{short} 23 bytes of times, 1 results and 32 bytes of"
    yield "no results", done(3, pack([])), "outcomes", f"{short} 24 bytes of times, 0 results and 32 bytes of"
    yield "short digest", done(4, bytes(31)), "outcomes", f"{short} 24 bytes of times, 1 results and 31 bytes of"
    yield "other digest", done(4, bytes(32)), "digest", "is not that of its result"
    yield "no MessagePack", done(3, pack([b"\xc1"])), "digest", "its result can't be read"
    yield "no result", done(3, pack([None])), "results", "a result is neither bytes nor the name of a file"
    yield "other file", done(3, pack(["../seal"])), "results", "'../seal' is no name of a result's file"
    yield "no array", done(3, pack([])[:0]), "outcomes", "a column can't be unpacked"
    yield "a mapping", done(3, b"\x80"), "outcomes", "a column is no array: dict"
    yield "nowhere", Group(completions=[completed(0, 1, 99)]), "conservation", "chunk 99 has completed tasks, and was"
    yield "no task", Group(completions=[completed(7, 1, 1)]), "conservation", "an outcome is of the unknown task 7"

    yield "gap", Group(blocks=[block(4, ["c"])]), "conservation", "a block begins with task 4, not with task 3"
    yield "overlap", Group(blocks=[block(2, ["c"])]), "conservation", "a block begins with task 2, not with task 3"
    yield "twice", Group(blocks=[block(3, ["task-1"])]), "conservation", "4 tasks have only 3 different ids"
    yield "fewer", tasks(1, 1), "conservation", "it has 1 tasks, and 2 ids, 2 kinds, 2 works and 2 descriptions"
    yield "fewer kinds", tasks(4, pack([0])), "conservation", "it has 2 tasks, and 2 ids, 1 kinds, 2 works and 2"
    yield "no kind", tasks(4, pack([0, 5])), "conservation", "a task is of the unknown kind 5"
    yield "no batch", tasks(2, 5), "conservation", "the block that begins with task 3 is of the unknown batch 5"
    yield "no seed", tasks(5, pack([[1, b"\x80"], [b"\x80"]])), "conservation", "a work is no seed with its parameters"
    yield "no name", tasks(3, pack(["c", 4])), "conservation", "an id, a kind or a description is of another type"
    yield "no ids", tasks(3, b"\xc1"), "conservation", "a column can't be unpacked"
    yield "truncated", tasks(6, pack(["", ""])[:-1]), "conservation", "a column can't be unpacked"

    kind = (1, "maze", "maze", "{}", "{}")
    yield "no domain", Group(kinds=[kind]), "conservation", "kind 1 is of the unknown domain maze"
    yield "no epoch", Group(chunks=[(20, 9, 0, 1.0, pack([0]))]), "conservation", "chunk 20 is of the unknown epoch 9"
    yield "no lease's", Group(leases=[(9, 0, "host", 1, 2.0)]), "conservation", "lease 0 is of the unknown epoch 9"
    yield "no cancel's", Group(cancels=[(0, 9, 2.0, "run", 0)]), "conservation", "cancel 0 is of the unknown epoch 9"
    change = Group(pool_changes=[(1, 9, 2.0, 4, "why")])
    yield "no change's", change, "conservation", "pool change 1 is of the unknown epoch 9"
    change = Group(pool_changes=[(1, 1, 2.0, 0, "why")])
    yield "no slots", change, "conservation", "pool change 1 names no number of slots, or no reason"
    strange = Group(chunks=[(20, 1, 0, 1.0, pack([0, 5]))])
    yield "no such task", strange, "attempts", "chunk 20 has a task that was not submitted"
    torn = Group(chunks=[(20, 1, 0, 1.0, b"\x92\x00")])
    yield "no list", torn, "attempts", "it can't be read to the end"


IMPOSSIBLE = [*unlikely_histories(), *unlikely_columns()]


@pytest.mark.parametrize(
    ("group", "where", "what"), [case[1:] for case in IMPOSSIBLE], ids=[case[0] for case in IMPOSSIBLE]
)
def test_what_cannot_have_come_about_is_told(tmp_path: Path, group: Group, where: str, what: str) -> None:
    """A run whose file and sums are in order, but whose rows are contradictory, is not sound; the reason is given."""
    writer = create(tmp_path, 3)
    writer.commit(group)
    writer.close()

    found = told(audit_run(tmp_path))

    assert any(what in text for text in found.pop(where)), audit_run(tmp_path)
    assert "commits" not in found
    assert "file" not in found
    assert check(tmp_path)


def test_not_every_violation_is_told(tmp_path: Path) -> None:
    """Of many violations of one check the first ones are reported, and the others are counted."""
    writer = create(tmp_path, 100)
    writer.commit(Group(outcomes=[failed(number, "") for number in range(100)]))
    writer.close()

    (found,) = told(audit_run(tmp_path)).values()

    assert len(found) == MOST_SHOWN + 1
    assert found[-1] == f"and {100 - MOST_SHOWN} more"


# --- acknowledged commits ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("told_more", "ok"), [(-1, True), (0, True), (1, False)])
def test_commits_that_were_acknowledged_must_be_there(tmp_path: Path, told_more: int, ok: bool) -> None:
    """A journal with fewer commits than the status file reports has lost some; it may have more."""
    writer = create(tmp_path)
    commits = writer.commits
    writer.close()
    (tmp_path / "status.json").write_text(json.dumps({"commits": commits + told_more}))

    assert both_say_ok(tmp_path) == ok

    if not ok:
        (text,) = told(audit_run(tmp_path))["commits"]
        assert text == "acknowledged commits are missing: status.json reports 4, the journal has 3"


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b'{"commits": "many"}', b'{"commits": null}', b"\xff"])
def test_a_status_file_that_tells_nothing_proves_nothing(tmp_path: Path, content: bytes) -> None:
    """A status file that can't be read, or holds anything else, is no evidence against a run."""
    build(tmp_path)
    (tmp_path / "status.json").write_bytes(content)

    assert both_say_ok(tmp_path)


# --- the command ------------------------------------------------------------------------------------------------------


def dfz_audit(*arguments: str) -> int:
    return call(group, ["audit", *arguments])


def test_the_command_shows_every_check(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`dfz audit` shows each check with its numbers, and ends with 0 where nothing is wrong."""
    build(tmp_path)

    assert dfz_audit(str(tmp_path)) == 0

    shown = capsys.readouterr().out
    for name, what in looked_at(tmp_path).items():
        (line,) = (line for line in shown.splitlines() if line.startswith(f"{name} "))
        assert line.split()[-1] == "fine" or name == "conservation"
        assert str(next(iter(what.values()))) in line
    assert "violation" not in shown


def test_the_command_names_the_violations(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`dfz audit` ends with 4 where something is wrong, and says what."""
    build(tmp_path)
    (file,) = (tmp_path / "results").iterdir()
    file.unlink()

    assert dfz_audit(str(tmp_path)) == EXIT_AUDIT_VIOLATION == 4

    assert f"violation: results: the file of a result is missing: {file}" in capsys.readouterr().out


def test_the_command_prints_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`dfz audit --json` prints one object: the folder, the verdict, and each check with numbers and violations."""
    build(tmp_path)
    assert dfz_audit(str(tmp_path), "--json") == 0
    sound = json.loads(capsys.readouterr().out)
    (tmp_path / "seal").write_text("0")
    assert dfz_audit(str(tmp_path), "--json") == EXIT_AUDIT_VIOLATION
    damaged = json.loads(capsys.readouterr().out)

    assert (sound["run_dir"], sound["ok"], damaged["ok"]) == (str(tmp_path), True, False)
    assert [found["name"] for found in sound["checks"]] == list(looked_at(tmp_path))
    assert sound["checks"][2] == {"name": "conservation", "looked_at": COUNTS, "violations": [], "notices": []}
    assert len(damaged["checks"][0]["violations"]) == 1


def test_ids_can_do_nothing_to_a_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Control characters are shown as escapes."""
    writer = create(tmp_path, 0)
    writer.commit(
        Group(blocks=[block(0, ["\x1b[2J"])], chunks=[(0, 1, 0, 3.0, pack([0]))], attempts=[attempt(0, 0, 9)])
    )
    writer.close()

    assert dfz_audit(str(tmp_path)) == EXIT_AUDIT_VIOLATION

    assert "\x1b" not in capsys.readouterr().out


def test_a_folder_that_is_no_run_is_bad_input(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A folder without a journal is no damaged run, but none: exit 2, and nothing is made there."""
    for folder in (tmp_path, tmp_path / "nowhere"):
        assert dfz_audit(str(folder)) == 2
        assert capsys.readouterr().err == f"error: {folder} is no run folder: it has no run.sqlite\n"
        with pytest.raises(JournalDamaged):
            audit_run(folder)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", [b"", b"not a database", b"not a database, but long enough for one" * 500])
def test_a_file_that_is_no_database_is_a_violation(
    tmp_path: Path, content: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    """A journal that SQLite can't open at all is a violation."""
    (tmp_path / "run.sqlite").write_bytes(content)

    assert dfz_audit(str(tmp_path)) == EXIT_AUDIT_VIOLATION

    assert "violation: file: " in capsys.readouterr().out
    assert check(tmp_path)


def test_a_run_of_another_schema_is_a_violation(tmp_path: Path) -> None:
    """A journal of another schema can't be vouched for."""
    build(tmp_path)
    before = (tmp_path / "run.sqlite").read_bytes()
    (tmp_path / "run.sqlite").write_bytes(before.replace(b"schema_version4", b"schema_version5"))
    (tmp_path / "seal").unlink()

    assert "it has schema 5; this dfz_ray audits schema 4" in told(audit_run(tmp_path))["file"]


# --- the independent checker ------------------------------------------------------------------------------------------


def run_checker(folder: Path) -> tuple[int, Any]:
    done = subprocess.run([sys.executable, "-I", str(CHECKER), str(folder)], capture_output=True, text=True, timeout=60)
    return done.returncode, json.loads(done.stdout)


def test_the_checker_is_a_program_of_its_own(tmp_path: Path) -> None:
    """`python tests/support/audit_checker.py RUN` prints JSON, and exits with 0 or 4, as `dfz audit` does."""
    build(tmp_path)
    assert run_checker(tmp_path) == (0, {"violations": [], "incomplete": []})

    (tmp_path / "seal").write_text("0")
    assert run_checker(tmp_path) == (4, {"violations": ["the seal is broken"], "incomplete": []})


def test_the_checker_shares_no_code_with_what_it_checks() -> None:
    """The checker imports nothing but the standard library and msgpack."""
    program = (
        "import runpy, sys; first = set(sys.modules); "
        f"runpy.run_path({str(CHECKER)!r}); print(*set(sys.modules) - first)"
    )

    loaded = subprocess.run([sys.executable, "-I", "-c", program], capture_output=True, text=True, timeout=60).stdout

    packages = {name.partition(".")[0] for name in loaded.split()} - set(sys.stdlib_module_names)
    assert {name for name in packages if not name.startswith("_")} == {"msgpack", "cython_runtime"}
