"""The journal of a run: what is committed is there for good, whole, and once; what is damaged is told."""

from __future__ import annotations

import gc
import hashlib
import itertools
import os
import re
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
import textwrap
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sample_run import contents

from dfz_ray.engine.lifecycle import State
from dfz_ray.errors import EpochSuperseded, JournalDamaged, RunFolderRefused
from dfz_ray.journal.reader import JournalReader
from dfz_ray.journal.record import STATES, Record, TaskError
from dfz_ray.journal.recovery import open_for_work, read_contents, read_recovered
from dfz_ray.journal.statements import STATEMENTS, VERSION
from dfz_ray.journal.writer import (
    ATTEMPT_COMPLETED,
    ATTEMPT_FAILED,
    ATTEMPT_LOST,
    ATTEMPT_SUPERSEDED,
    Group,
    JournalWriter,
)
from dfz_ray.specs.encoding import digest, encode
from dfz_ray.specs.policy import Policy

META = {"run_id": "r", "name": "test", "created_at": "1.0", "dfz_ray": "0", "slots": "2"}
POLICY = Policy().model_dump_json()
INLINE_BYTES = 100


def create(folder: Path, ids: Sequence[str] = (), inline_bytes: int = INLINE_BYTES) -> JournalWriter:
    """A journal with tasks of one kind, of which the chunk of the same number as the task was handed to lease 0."""
    writer = JournalWriter.create(folder, META, inline_bytes)
    group = Group()
    group.batches.append((0, "batch", 7, 1.0))
    group.domains.append(("coin", '["time"]'))
    group.kinds.append((0, "coin", "coin of 3", "{}", POLICY))
    group.leases.append((writer.epoch, 0, "host-a", 4711, 2.0))
    for number, task_id in enumerate(ids):
        group.tasks.append((number, task_id, 0, 0, 1000 + number, encode({"flips": number}), ""))
        group.chunks.append((number, writer.epoch, 0, 3.0, encode([number])))
    writer.commit(group)
    return writer


def completed(number: int, result: Any, epoch: int = 1) -> tuple[Any, ...]:
    return (number, State.COMPLETED, epoch, encode(result), None, digest(result), None, None, None)


def failed(number: int, reason: str, message: str, traceback: str | None = None, epoch: int = 1) -> tuple[Any, ...]:
    return (number, State.FAILED, epoch, None, None, None, reason, message, traceback)


def cancelled(number: int, epoch: int = 1) -> tuple[Any, ...]:
    return (number, State.CANCELLED, epoch, None, None, None, "cancelled", "on request", None)


def outcomes(*rows: tuple[Any, ...]) -> Group:
    return Group(outcomes=list(rows))


def records(folder: Path) -> list[Record]:
    with JournalReader(folder) as journal:
        return list(journal.records())


def results(folder: Path) -> dict[str, Any]:
    return {record.task_id: record.result for record in records(folder) if record.status == "completed"}


# --- what is read is what was committed -------------------------------------------------------------------------------


def test_a_record_tells_all_that_was_committed(tmp_path: Path) -> None:
    """A record has the task's id, domain, kind, state, result or error, and the number of tries and the last one."""
    writer = create(tmp_path, ["a", "b", "c", "d"])
    group = outcomes(completed(0, {"heads": 2}), failed(1, "exception", "ValueError: no", "Traceback ..."))
    group.attempts.append((0, 0, ATTEMPT_COMPLETED, 0, 5.0, 7.5, 2.0, None, None))
    group.attempts.append((1, 1, ATTEMPT_FAILED, 1, 6.0, 6.25, 0.1, "exception", None))
    group.outcomes.append(cancelled(3))

    writer.commit(group)

    assert records(tmp_path) == [
        Record("a", "coin", "coin of 3", "completed", encode({"heads": 2}), None, 1, 5.0, 7.5, "host-a"),
        Record(
            *("b", "coin", "coin of 3", "failed", None),
            *(TaskError("exception", "ValueError: no", "Traceback ..."), 1, 6.0, 6.25, "host-a"),
        ),
        Record("c", "coin", "coin of 3", "pending", None, None, 0, None, None, None),
        Record("d", "coin", "coin of 3", "cancelled", None, TaskError("cancelled", "on request"), 0, None, None, None),
    ]
    done, broken, waiting, _ = records(tmp_path)
    assert (done.result, done.duration) == ({"heads": 2}, 2.5)
    assert str(broken.error) == "exception: ValueError: no"
    assert (waiting.result, waiting.duration) == (None, None)


def test_records_come_in_the_order_of_submission(tmp_path: Path) -> None:
    """Whatever the order of ids, chunks and commits, records come in the order in which tasks were submitted."""
    ids = ["z", "a", "Ü", "10", "9", "task-2"]
    writer = create(tmp_path, ids)
    for number in (5, 0, 3, 1):
        writer.commit(outcomes(completed(number, number)))

    assert [record.task_id for record in records(tmp_path)] == ids
    assert results(tmp_path) == {"z": 0, "a": 1, "10": 3, "task-2": 5}


def test_every_attempt_counts_and_the_last_one_gives_times_and_node(tmp_path: Path) -> None:
    """A task that was lost, came back late and ran again has three tries; times and node are those of the last."""
    writer = create(tmp_path, ["before", "lost", "after"])
    group = Group()
    group.leases.append((writer.epoch, 1, "host-b", 4712, 2.0))
    group.chunks.extend((chunk, writer.epoch, 1, 3.0, encode([1])) for chunk in (10, 11))
    group.attempts.append((1, 11, ATTEMPT_COMPLETED, 0, 8.0, 9.0, 1.0, None, None))
    group.attempts.append((1, 10, ATTEMPT_SUPERSEDED, 0, 6.0, 30.0, 1.0, None, None))
    group.attempts.append((1, 1, ATTEMPT_LOST, 1, None, None, None, "worker_crashed", "it died"))
    group.outcomes.append(completed(1, "done"))

    writer.commit(group)

    before, lost, after = records(tmp_path)
    assert (lost.attempts, lost.start_time, lost.end_time, lost.node) == (3, 8.0, 9.0, "host-b")
    for idle in (before, after):
        assert (idle.attempts, idle.start_time, idle.node) == (0, None, None)


def test_a_last_attempt_without_times_has_a_node_but_no_duration(tmp_path: Path) -> None:
    """Of a task that killed its worker it is known where that was, and not how long it took."""
    writer = create(tmp_path, ["killer"])
    group = outcomes(failed(0, "worker_crashed", "it died"))
    group.attempts.append((0, 0, ATTEMPT_LOST, 1, None, None, None, "worker_crashed", None))

    writer.commit(group)

    (record,) = records(tmp_path)
    assert (record.attempts, record.node, record.duration) == (1, "host-a", None)


def test_counts_have_all_five_states(tmp_path: Path) -> None:
    """Counts name all five states, and what has no outcome is pending."""
    writer = create(tmp_path, list("abcdef"))
    writer.commit(outcomes(completed(0, 1), completed(1, 2), failed(2, "timeout", "too long")))
    writer.commit(outcomes(cancelled(3)))

    with JournalReader(tmp_path) as journal:
        assert journal.counts() == {"pending": 2, "running": 0, "completed": 2, "failed": 1, "cancelled": 1}
    assert [state.label for state in State] == list(STATES)


def test_spans_are_those_of_executions_that_ended(tmp_path: Path) -> None:
    """The times that metrics are made of are those of completed and failed executions, by their start."""
    writer = create(tmp_path, list("abcde"))
    group = Group()
    group.attempts.extend(
        [
            (0, 0, ATTEMPT_COMPLETED, 0, 5.0, 6.0, 1.0, None, None),
            (1, 1, ATTEMPT_FAILED, 1, 4.0, 7.0, 1.0, "exception", None),
            (2, 2, ATTEMPT_LOST, 0, None, None, None, "node_lost", "lost"),
            (3, 3, ATTEMPT_SUPERSEDED, 0, 1.0, 2.0, 1.0, None, None),
            (4, 4, ATTEMPT_FAILED, 1, None, None, None, "exception", None),
        ]
    )

    writer.commit(group)

    with JournalReader(tmp_path) as journal:
        assert journal.spans() == [(4.0, 7.0), (5.0, 6.0)]


def test_meta_is_kept_as_given(tmp_path: Path) -> None:
    """A run's name, its slots and what else is noted about it are read back, and the schema's version with them."""
    create(tmp_path).close()

    with JournalReader(tmp_path) as journal:
        assert journal.meta == {**META, "schema_version": str(VERSION)}


@settings(max_examples=30, deadline=None)
@given(
    ids=st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=20), min_size=1, max_size=8, unique=True),
    values=st.lists(
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=40),
            lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
            max_leaves=10,
        ),
        min_size=8,
        max_size=8,
    ),
    inline_bytes=st.sampled_from([0, 10, 10_000]),
)
def test_any_id_and_any_result_come_back_as_they_were(
    tmp_path_factory: pytest.TempPathFactory, ids: list[str], values: list[Any], inline_bytes: int
) -> None:
    """Ids of any characters and results of any content survive, in the file or beside it."""
    folder = tmp_path_factory.mktemp("run") / "folder"
    writer = create(folder, ids, inline_bytes)
    expected = dict(zip(ids, values, strict=False))

    writer.commit(outcomes(*(completed(number, value) for number, value in enumerate(expected.values()))))

    assert results(folder) == expected
    writer.close()
    shutil.rmtree(folder)


# --- one outcome for each task, one writer, whole groups --------------------------------------------------------------


def test_a_second_outcome_is_impossible(tmp_path: Path) -> None:
    """A second outcome for a task is refused with everything that was to be committed with it; the first one stays."""
    writer = create(tmp_path, list("abc"))
    writer.commit(outcomes(completed(0, "first")))
    group = outcomes(completed(1, "beside"), completed(0, "second"), completed(2, "beside"))
    group.attempts.append((1, 1, ATTEMPT_COMPLETED, 0, 1.0, 2.0, 1.0, None, None))
    group.tasks.append((3, "new", 0, 0, 1, encode({}), ""))

    with pytest.raises(JournalDamaged, match=r"can't be written: UNIQUE constraint failed: outcomes\.task"):
        writer.commit(group)

    assert [(record.task_id, record.result, record.attempts) for record in records(tmp_path)] == [
        ("a", "first", 0),
        ("b", None, 0),
        ("c", None, 0),
    ]


@pytest.mark.parametrize("table", ["tasks", "batches", "kinds", "chunks"])
def test_a_group_is_committed_whole_or_not_at_all(tmp_path: Path, table: str) -> None:
    """A group of which one row can't be written leaves nothing in the journal, whichever row it is."""
    writer = create(tmp_path, list("abc"))
    twice = {
        "tasks": (9, "a", 0, 0, 1, encode({}), ""),
        "batches": (0, "again", 1, 1.0),
        "kinds": (0, "coin", "again", "{}", POLICY),
        "chunks": (0, 1, 0, 3.0, encode([0])),
    }
    group = outcomes(completed(0, "beside"))
    getattr(group, table).append(twice[table])

    with pytest.raises(JournalDamaged):
        writer.commit(group)

    assert results(tmp_path) == {}
    writer.commit(outcomes(completed(0, "later")))
    assert results(tmp_path) == {"a": "later"}


def test_whoever_opens_a_run_takes_it_over(tmp_path: Path) -> None:
    """After another manager has opened the run the older one can commit nothing, and leaves nothing in the folder."""
    older = create(tmp_path, list("abc"))
    newer = JournalWriter(tmp_path, INLINE_BYTES)
    before = sorted(path.name for path in tmp_path.iterdir())

    with pytest.raises(EpochSuperseded, match=r"epoch 2 has taken over .* this is epoch 1"):
        older.commit(outcomes(completed(0, "small"), completed(1, "large" * INLINE_BYTES)))

    assert (older.epoch, newer.epoch) == (1, 2)
    assert results(tmp_path) == {}
    assert sorted(path.name for path in tmp_path.iterdir()) == before
    newer.commit(outcomes(completed(0, "newer", epoch=2)))
    with pytest.raises(EpochSuperseded):
        older.commit(Group())
    older.close()
    assert results(tmp_path) == {"a": "newer"}
    newer.close()
    assert results(tmp_path) == {"a": "newer"}


def test_an_empty_group_is_false(tmp_path: Path) -> None:
    """A group says whether there is anything to commit."""
    assert not Group()
    assert outcomes(completed(0, 1))
    assert Group(batches=[(0, "b", 1, 1.0)])


def test_what_is_there_already_is_passed_over(tmp_path: Path) -> None:
    """Domains, files, leases and superseded attempts that are there already, or come twice, change nothing."""
    writer = create(tmp_path, ["a"])
    late = (0, 0, ATTEMPT_SUPERSEDED, 0, 1.0, 2.0, 0.5, None, None)
    lost = (0, 0, ATTEMPT_LOST, 0, None, None, None, "node_lost", "it is gone")
    group = Group(files=[("ab", b"1"), ("ab", b"1")], leases=[(1, 1, "host", 5, 2.0)] * 2, attempts=[late, lost, late])
    writer.commit(group)
    before = contents(tmp_path)

    writer.commit(Group(attempts=[late]))
    writer.commit(Group(domains=[("coin", "[]")], files=[("ab", b"1")], leases=[(1, 0, "host", 4, 2.0)]))
    assert contents(tmp_path) == before
    assert before["attempts"] == [(*lost, 3)]
    assert [row[:2] for row in before["leases"]] == [(1, 0), (1, 1)]
    writer.close()
    JournalWriter(tmp_path).commit(Group(domains=[("coin", "[]"), ("new", "[]")], files=[("ab", b"1")]))
    assert contents(tmp_path)["domains"] == [("coin", '["time"]', 2), ("new", "[]", 5)]


def test_what_failed_to_be_committed_is_not_taken_for_known(tmp_path: Path) -> None:
    """A domain, file or lease of a group that was not committed is written with the next one."""
    writer = create(tmp_path, ["a"])
    rows = {"domains": [("new", "[]")], "files": [("ab", b"1")], "leases": [(1, 1, "host", 5, 2.0)]}
    with pytest.raises(JournalDamaged):
        writer.commit(Group(**rows, batches=[(0, "there already", 1, 1.0)]))

    writer.commit(Group(**rows))

    assert {name: len(contents(tmp_path)[name]) for name in rows} == {"domains": 2, "files": 1, "leases": 2}


def test_the_writer_counts_commits(tmp_path: Path) -> None:
    """The creation, each epoch and each group with something new is one commit; the count outlives the writer."""
    writer = create(tmp_path, ["a", "b"])
    assert writer.commits == 3
    writer.commit(Group())
    with pytest.raises(JournalDamaged):
        writer.commit(Group(batches=[(0, "there already", 1, 1.0)]))
    assert writer.commits == 3
    writer.commit(outcomes(failed(0, "exception", "no")))
    writer.reopen_failed()
    writer.reopen_failed()  # there is nothing to reopen
    assert writer.commits == 5
    writer.close()

    again = JournalWriter(tmp_path)

    assert again.commits == len(contents(tmp_path)["commits"]) == 6
    with JournalReader(tmp_path) as journal:
        assert journal.commits() == 6


# --- going on with a run ----------------------------------------------------------------------------------------------


def test_reopening_keeps_the_outcome_whole(tmp_path: Path) -> None:
    """Failed tasks are due again when that is asked for, and what their outcomes were stays, with both commits."""
    writer = create(tmp_path, ["a", "b"])
    row = failed(0, "exception", "no", "Traceback")
    writer.commit(outcomes(row, completed(1, 1)))
    writer.close()

    opened = open_for_work(tmp_path, META, retry_failed=True)

    assert [number for number, *_ in opened.recovered.open_tasks] == [0]
    number, state, *rest = row
    assert contents(tmp_path)["reopened"] == [(number, 3, state, *rest, opened.writer.epoch, 5)]
    opened.writer.close()
    opened.lock.close()


def test_what_was_charged_is_recovered(tmp_path: Path) -> None:
    """Of open tasks it is known how many attempts were charged, and losses free, since they were reopened."""
    writer = create(tmp_path, ["reopened", "open", "done", "fresh"])
    chunks = itertools.count(10)

    def lose(number: int, charged: int, reason: str) -> tuple[Any, ...]:
        return (number, next(chunks), ATTEMPT_LOST, charged, None, None, None, reason, "lost")

    group = outcomes(failed(0, "worker_crashed", "no"), completed(2, 1))
    for number in (0, 1, 2):
        group.attempts += [
            lose(number, 1, "worker_crashed"),
            lose(number, 0, "node_lost"),
            lose(number, 0, "preempted"),
        ]
    writer.commit(group)
    writer.commit(Group(attempts=[lose(1, 1, "out_of_memory"), lose(1, 0, "node_lost")]))
    writer.commit(Group(cancels=[(0, 1, 5.0, "1 task", 0), (1, 1, 5.0, "run", 0)]))
    writer.reopen_failed()
    writer.commit(Group(attempts=[lose(0, 1, "worker_crashed")]))
    writer.close()

    recovered = read_recovered(tmp_path)

    assert recovered.charged == {0: 1, 1: 2}
    assert recovered.free_losses == {1: 2}
    assert (recovered.next_cancel, recovered.next_chunk) == (2, 4)
    assert recovered.kinds == [("coin", "coin of 3", "{}", POLICY)]


def test_what_makes_a_task_what_it_is(tmp_path: Path) -> None:
    """For each id the journal gives domain, resources, seed, parameters and policy, by which equal tasks are known."""
    create(tmp_path, ["a", "b"]).close()

    assert read_contents(tmp_path) == {
        "a": ("coin", "{}", 1000, encode({"flips": 0}), POLICY),
        "b": ("coin", "{}", 1001, encode({"flips": 1}), POLICY),
    }


def test_a_run_that_was_killed_as_it_was_made_is_made_anew(tmp_path: Path) -> None:
    """A journal gets its name when it is whole: what a kill leaves before that does not stand in the way of a run."""
    for name in ("lock", "run.sqlite.new", "run.sqlite.new-journal"):
        (tmp_path / name).write_bytes(b"half of it")

    opened = open_for_work(tmp_path, META)

    assert opened.writer.epoch == 1
    opened.writer.close()
    opened.lock.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["lock", "run.sqlite", "seal"]


def test_the_log_of_a_journal_that_is_gone_is_no_empty_folder(tmp_path: Path) -> None:
    """A folder with a log, but without the journal, held a run: no new one is begun over what is left."""
    (tmp_path / "run.sqlite-wal").write_bytes(b"the log")

    with pytest.raises(RunFolderRefused, match="neither empty nor a run"):
        open_for_work(tmp_path, META)


# --- reading while it is written, and afterwards ----------------------------------------------------------------------


def test_readers_see_whole_commits_while_the_run_goes_on(tmp_path: Path) -> None:
    """A reader that was there from the start sees each commit as soon as it has returned, also after the last."""
    writer = create(tmp_path, [str(number) for number in range(50)])
    with JournalReader(tmp_path) as early:
        for number in range(0, 50, 2):
            writer.commit(outcomes(completed(number, number), completed(number + 1, number)))
            assert early.counts()["completed"] == number + 2
            with JournalReader(tmp_path) as late:
                assert late.counts() == early.counts()
        writer.close()

        assert early.counts()["completed"] == 50
        assert len(list(early.records())) == 50
    assert len(results(tmp_path)) == 50


def test_what_a_reader_is_in_the_middle_of_does_not_move(tmp_path: Path) -> None:
    """Records that are read while others are committed are those of one moment: the one when reading began."""
    writer = create(tmp_path, [str(number) for number in range(100)])
    with JournalReader(tmp_path) as journal:
        reading = journal.records()
        first = next(reading)
        group = outcomes(*(completed(number, number) for number in range(100)))
        row = (ATTEMPT_COMPLETED, 0, 1.0, 2.0, 1.0, None, None)
        group.attempts.extend((number, number, *row) for number in range(100))
        writer.commit(group)

        rest = list(reading)

        assert {(record.status, record.attempts) for record in [first, *rest]} == {("pending", 0)}
        assert journal.counts()["completed"] == 100


def test_reading_may_be_left_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever stops in the middle of the records, and closes the reader, hears nothing of it later."""
    unraisable: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", unraisable.append)
    create(tmp_path, list("abc"))
    with JournalReader(tmp_path) as journal:
        reading = journal.records()
        next(reading)

    del reading
    gc.collect()

    assert unraisable == []


def test_a_closed_journal_is_one_file(tmp_path: Path) -> None:
    """A run that has come to rest is a single file, which can be copied, and its seal, which need not."""
    writer = create(tmp_path / "run", list("abc"))
    writer.commit(outcomes(completed(0, 1)))
    writer.close()

    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["run.sqlite", "seal"]
    (tmp_path / "copy").mkdir()
    shutil.copy(tmp_path / "run" / "run.sqlite", tmp_path / "copy")
    assert results(tmp_path / "copy") == {"a": 1}


def test_reading_changes_nothing(tmp_path: Path) -> None:
    """Reading a run that has come to rest leaves its folder as it was, to the byte."""
    writer = create(tmp_path, list("abc"))
    writer.commit(outcomes(completed(0, "x" * 1000)))
    writer.close()
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}

    records(tmp_path)

    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


# --- the folder -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("there", [False, True])
def test_the_folder_is_the_users_alone(tmp_path: Path, there: bool) -> None:
    """A run folder has mode 0700, also where an empty one was there, and whatever the umask is."""
    folder = tmp_path / "deep" / "run #1?%20"
    if there:
        folder.mkdir(parents=True, mode=0o755)
    umask = os.umask(0o077 if there else 0)
    try:
        create(folder, ["a"]).commit(outcomes(completed(0, "x" * 1000)))
    finally:
        os.umask(umask)

    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert results(folder) == {"a": "x" * 1000}


def test_a_folder_that_holds_a_run_is_refused(tmp_path: Path) -> None:
    """A new run never overwrites one: its folder is refused, and what it holds stays."""
    create(tmp_path, ["a"]).commit(outcomes(completed(0, 1)))

    with pytest.raises(RunFolderRefused, match="holds a run already"):
        JournalWriter.create(tmp_path, META)

    assert results(tmp_path) == {"a": 1}


def test_a_folder_with_something_else_in_it_is_refused(tmp_path: Path) -> None:
    """A folder that holds other files is refused, and neither they nor its mode are changed."""
    (tmp_path / "thesis.tex").write_text("dear diary")
    tmp_path.chmod(0o755)

    with pytest.raises(RunFolderRefused, match="neither empty nor a run"):
        JournalWriter.create(tmp_path, META)

    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o755


def test_a_file_where_the_folder_should_be_is_refused(tmp_path: Path) -> None:
    """Where the folder can't be made the reason is told."""
    (tmp_path / "run").write_text("")

    for folder in (tmp_path / "run", tmp_path / "run" / "deeper"):
        with pytest.raises(RunFolderRefused, match="can't be a run folder: "):
            JournalWriter.create(folder, META)


def test_a_folder_on_a_full_disk_is_refused(tmp_path: Path) -> None:
    """Where there is no room for a journal the folder is refused, with the reason, before anything runs."""
    script = f"""
        import resource, sys
        sys.path.insert(0, {str(Path(__file__).parent)!r})
        from test_journal import *
        resource.setrlimit(resource.RLIMIT_FSIZE, (8192, 8192))
        try:
            create(Path({str(tmp_path)!r}) / "run")
        except RunFolderRefused as error:
            print(error)
    """

    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, check=True, timeout=60
    )

    assert re.match(rf"{tmp_path}/run can't hold a journal: (disk I/O error|database or disk is full)", done.stdout)


# --- large results ----------------------------------------------------------------------------------------------------


def test_large_results_are_files_named_by_their_hash(tmp_path: Path) -> None:
    """A result of more than the limit is a file named by the hash of its bytes; one of just the limit is not."""
    writer = create(tmp_path, ["small", "large", "equal"])
    at_limit, over = "x" * (INLINE_BYTES - 2), "x" * (INLINE_BYTES - 1)
    assert (len(encode(at_limit)), len(encode(over))) == (INLINE_BYTES, INLINE_BYTES + 1)

    writer.commit(outcomes(completed(0, at_limit), completed(1, over)))
    writer.commit(outcomes(completed(2, over)))

    name = hashlib.sha256(encode(over)).hexdigest()
    assert [path.name for path in (tmp_path / "results").iterdir()] == [name]
    assert (tmp_path / "results" / name).read_bytes() == encode(over)
    assert stat.S_IMODE((tmp_path / "results").stat().st_mode) == 0o700
    assert results(tmp_path) == {"small": at_limit, "large": over, "equal": over}


@pytest.mark.parametrize("damage", ["changed", "shortened", "missing"])
def test_a_large_result_that_is_not_what_was_committed_is_told(tmp_path: Path, damage: str) -> None:
    """A result's file that was changed, cut short or deleted is an error that names it, never a wrong result."""
    create(tmp_path, ["a"]).commit(outcomes(completed(0, "x" * 1000)))
    (file,) = (tmp_path / "results").iterdir()
    if damage == "missing":
        file.unlink()
    else:
        file.write_bytes(file.read_bytes()[:-1] + (b"y" if damage == "changed" else b""))

    with pytest.raises(JournalDamaged, match=f"is gone: .*{file.name}" if damage == "missing" else "has changed: "):
        _ = records(tmp_path)[0].result


def test_task_ids_never_become_paths(tmp_path: Path) -> None:
    """Ids that look like paths write nothing outside the run folder, and nothing that is named after them."""
    ids = ["../../escape", "/tmp/dfz_ray_escape", "results/../x", "a\0b", "CON", "." * 300]  # noqa: S108
    writer = create(tmp_path / "run", ids)

    writer.commit(outcomes(*(completed(number, task_id * 200) for number, task_id in enumerate(ids))))

    assert [path.name for path in tmp_path.iterdir()] == ["run"]
    assert not Path("/tmp/dfz_ray_escape").exists()  # noqa: S108
    assert {path.name for path in (tmp_path / "run" / "results").iterdir()} == {
        hashlib.sha256(encode(task_id * 200)).hexdigest() for task_id in ids
    }
    assert results(tmp_path / "run") == {task_id: task_id * 200 for task_id in ids}


def test_a_write_that_fails_half_way_spoils_no_equal_result(tmp_path: Path) -> None:
    """When a result can't be written the reason is told, and an equal one that is committed stays readable."""
    script = f"""
        import resource, sys
        sys.path.insert(0, {str(Path(__file__).parent)!r})
        from test_journal import *
        folder = Path({str(tmp_path)!r}) / "run"
        writer = create(folder, ["a", "b"])
        writer.commit(outcomes(completed(0, "x" * 1_000_000)))
        resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, 500_000))
        try:
            writer.commit(outcomes(completed(1, "x" * 1_000_000)))
        except JournalDamaged as error:
            print(error)
    """

    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, check=True, timeout=60
    )

    assert "can't be written: " in done.stdout
    assert "File too large" in done.stdout
    assert results(tmp_path / "run") == {"a": "x" * 1_000_000}


# --- the digest -------------------------------------------------------------------------------------------------------


def digest_by_the_book(values: dict[str, Any], volatile: set[str]) -> str:
    """The digest of a run as schema.sql describes it, written anew from there."""
    whole = b""
    for name, value in sorted((task_id.encode("utf-8"), value) for task_id, value in values.items()):
        kept = {key: value[key] for key in sorted(value) if key not in volatile}
        whole += len(name).to_bytes(8, "little") + name + hashlib.sha256(msgpack.packb(kept)).digest()
    return hashlib.sha256(whole).hexdigest()


def test_the_digest_is_the_one_that_the_schema_describes(tmp_path: Path) -> None:
    """The digest is made from ids and results as schema.sql says, so that anyone can compute it."""
    values = {
        task_id: {"score": number / 7, "time": number, "name": "ü" * number, "bits": [0, 1, None, True]}
        for number, task_id in enumerate(["b", "a", "aa", "Ü", "ü", "€", "😀", "", "task-10", "task-9"])
    }
    writer = create(tmp_path, [*values, "failed", "open"])
    rows = [
        (number, State.COMPLETED, 1, encode(value), None, digest(value, frozenset({"time"})), None, None, None)
        for number, value in enumerate(values.values())
    ]
    writer.commit(outcomes(*rows, failed(len(rows), "exception", "no")))

    with JournalReader(tmp_path) as journal:
        assert journal.digest() == digest_by_the_book(values, {"time"})


def test_the_digest_does_not_depend_on_order_or_on_times(tmp_path: Path) -> None:
    """Two runs of the same tasks with the same results have one digest, whatever the order and the volatile keys."""
    digests = []
    for run, numbers in enumerate([(0, 1, 2), (2, 0, 1)]):
        folder = tmp_path / str(run)
        writer = create(folder, [f"task-{number}" for number in numbers])
        for position, number in enumerate(numbers):
            result = {"b": number, "a": 1.5, "time": run}
            row = (position, State.COMPLETED, 1, encode(result), None, digest(result, frozenset({"time"})), *[None] * 3)
            writer.commit(outcomes(row))
        with JournalReader(folder) as journal:
            digests.append(journal.digest())

    assert digests[0] == digests[1]
    assert re.fullmatch("[0-9a-f]{64}", digests[0])


# --- damage -----------------------------------------------------------------------------------------------------------


def damaged(folder: Path) -> str:
    """What a reader says of a run folder that it can't read to its end; no other error may leave it."""

    def read() -> None:
        with JournalReader(folder) as journal:
            journal.counts()
            list(journal.records())
            journal.digest()
            journal.spans()

    with pytest.raises(JournalDamaged) as caught:
        read()
    return str(caught.value)


def test_a_folder_without_a_journal_is_told(tmp_path: Path) -> None:
    """A folder that is no run folder is told as such, for reading and for writing, and stays as it is."""
    for folder in (tmp_path, tmp_path / "nowhere"):
        assert damaged(folder) == f"{folder} is no run folder: it has no run.sqlite"
        with pytest.raises(JournalDamaged, match="is no run folder"):
            JournalWriter(folder)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", [b"", b"not a database, but long enough to be taken for one" * 100])
def test_a_file_that_is_no_database_is_told(tmp_path: Path, content: bytes) -> None:
    """A run.sqlite that is something else is told with its path, for reading and for writing, and stays as it is."""
    (tmp_path / "run.sqlite").write_bytes(content)

    assert f"{tmp_path / 'run.sqlite'} can't be read: " in damaged(tmp_path)
    with pytest.raises(JournalDamaged, match="can't be read"):
        JournalWriter(tmp_path)
    assert (tmp_path / "run.sqlite").read_bytes() == content


def test_a_journal_that_was_cut_short_is_told_wherever_it_was_cut(tmp_path: Path) -> None:
    """A journal of which the end is missing is told as damaged, whatever is missing; nothing wrong is read from it."""
    writer = create(tmp_path, [str(number) for number in range(300)])
    writer.commit(outcomes(*(completed(number, "x" * 90) for number in range(300))))
    writer.close()
    whole = (tmp_path / "run.sqlite").read_bytes()

    for length in [1, 15, 16, 99, 100, 4095, 4096, 4097, *range(5000, len(whole), 9_999), len(whole) - 1]:
        (tmp_path / "run.sqlite").write_bytes(whole[:length])
        assert str(tmp_path / "run.sqlite") in damaged(tmp_path)


def test_a_journal_of_another_schema_is_refused(tmp_path: Path) -> None:
    """A journal of another schema is refused with both numbers, for reading and for writing."""
    create(tmp_path).close()
    with sqlite3.connect(tmp_path / "run.sqlite") as connection:
        connection.execute("UPDATE meta SET value = '999' WHERE key = 'schema_version'")
    connection.close()

    assert damaged(tmp_path) == f"{tmp_path} has schema 999; this dfz_ray reads schema {VERSION}"
    with pytest.raises(JournalDamaged, match="has schema 999"):
        JournalWriter(tmp_path)


def test_a_log_that_was_cut_short_loses_whole_commits_from_its_end(tmp_path: Path) -> None:
    """Of a log whose tail is torn every commit before the tear is there, whole, and none after it."""
    writer = create(tmp_path / "run", [str(number) for number in range(60)])
    for number in range(0, 60, 3):
        writer.commit(outcomes(*(completed(number + each, "x" * 90) for each in range(3))))
    log = (tmp_path / "run" / "run.sqlite-wal").read_bytes()
    seen = []

    for cut, length in enumerate([*range(0, len(log), len(log) // 25), len(log)]):
        copy = tmp_path / f"cut {cut}"
        copy.mkdir()
        shutil.copy(tmp_path / "run" / "run.sqlite", copy)
        (copy / "run.sqlite-wal").write_bytes(log[:length])
        seen.append(sorted(map(int, results(copy))))

    assert seen[0] == []
    assert seen[-1] == list(range(60))
    for before, after in itertools.pairwise(seen):
        assert len(before) % 3 == 0
        assert before == after[: len(before)]


def test_a_commit_that_was_cut_off_without_a_log_is_rolled_back_by_the_next_writer(tmp_path: Path) -> None:
    """Without a log, as on network file systems, a commit that was cut off is told; opening the run mends it."""
    writer = create(tmp_path / "run", [str(number) for number in range(3000)])
    writer.commit(outcomes(completed(0, "committed")))
    writer.close()
    script = f"""
        import os, signal, sys
        sys.path.insert(0, {str(Path(__file__).parent)!r})
        from test_journal import *
        connection = sqlite3.connect({str(tmp_path / "run" / "run.sqlite")!r}, isolation_level=None)
        connection.execute("PRAGMA cache_size = 1")  # so that pages are written before the end of the commit
        connection.execute("BEGIN IMMEDIATE")
        rows = ((*completed(number, "x" * 90), 3) for number in range(1, 3000))
        connection.executemany(STATEMENTS["add_outcome"], rows)
        os.kill(os.getpid(), signal.SIGKILL)
    """
    killed = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], check=False, timeout=60)
    assert killed.returncode == -signal.SIGKILL

    assert "a crash cut its last commit off" in damaged(tmp_path / "run")
    JournalWriter(tmp_path / "run").close()
    assert results(tmp_path / "run") == {"0": "committed"}


@pytest.mark.parametrize("acknowledged", [1, 8, 40])
def test_a_process_that_is_killed_loses_nothing_that_it_had_committed(tmp_path: Path, acknowledged: int) -> None:
    """After SIGKILL in the middle of many commits the journal holds every one that had returned, each of them whole."""
    script = f"""
        import sys
        sys.path.insert(0, {str(Path(__file__).parent)!r})
        from test_journal import *
        writer = create(Path({str(tmp_path)!r}) / "run", [str(number) for number in range(30_000)])
        for number in range(0, 30_000, 3):
            large = "large" * 1000 + str(number % 7)
            rows = [completed(number, number), completed(number + 1, large), completed(number + 2, "x" * 90)]
            writer.commit(outcomes(*rows))
            print(number, flush=True)
    """
    process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(script)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    last = [int(process.stdout.readline()) for _ in range(acknowledged)][-1]

    process.kill()

    last = max([last, *map(int, process.stdout.read().split())])
    process.stdout.close()
    assert process.wait(timeout=30) < 0
    found = results(tmp_path / "run")
    assert len(found) % 3 == 0
    assert last + 3 <= len(found) <= last + 6 < 30_000
    for number in range(0, len(found), 3):
        assert found[str(number)] == number
        assert found[str(number + 1)] == "large" * 1000 + str(number % 7)
        assert found[str(number + 2)] == "x" * 90
    JournalWriter(tmp_path / "run").close()
    assert results(tmp_path / "run") == found


# --- the statements ---------------------------------------------------------------------------------------------------


MODULES = sorted(path.name for path in files("dfz_ray.journal").iterdir() if path.name.endswith(".py"))


def test_every_statement_is_named_complete_and_used() -> None:
    """schema.sql holds comments and named statements, each of which SQLite takes and the code uses."""
    journal = files("dfz_ray.journal")
    text = journal.joinpath("schema.sql").read_text("utf-8")
    code = "".join(journal.joinpath(module).read_text("utf-8") for module in MODULES)
    preamble, *blocks = re.split(r"(?m)^-- name: (?=\w+$)", text)
    connection = sqlite3.connect(":memory:")
    connection.executescript(STATEMENTS["schema"])

    assert all(line.startswith("--") for line in preamble.split("\n") if line)
    assert [block.split("\n")[0] for block in blocks] == list(STATEMENTS)
    for name, statement in STATEMENTS.items():
        assert re.search(f"""["']{name}["']""", code)
        if name != "schema":
            assert statement.count(";") == 1
            connection.execute(f"EXPLAIN {statement}", (None,) * statement.count("?"))
    assert set(re.findall(r'(?:STATEMENTS\[|rows\()"(\w+)"', code)) <= STATEMENTS.keys()
    connection.close()


def test_no_statement_is_written_elsewhere() -> None:
    """The code of the journal holds no SQL of its own but transactions and settings of the connection."""
    for module in MODULES:
        code = files("dfz_ray.journal").joinpath(module).read_text("utf-8")
        assert not re.search(r'"\s*(SELECT|INSERT|UPDATE|DELETE|CREATE|DROP)\b', code)
