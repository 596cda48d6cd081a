"""The journal of a run: a commit is there for good, whole, and once, and is read as it was written."""

from __future__ import annotations

import itertools
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.journal_rows import block, completion, open_tasks, together
from support.sample_run import contents
from support.small_run import META, POLICY, cancelled, completed, failed, handed_out, make_run, records, results

from dfz_ray.errors import EpochSuperseded, JournalDamaged, RunFolderRefused
from dfz_ray.journal.reader import JournalReader
from dfz_ray.journal.record import Record, TaskError
from dfz_ray.journal.recovery import open_for_work, read_contents, read_recovered
from dfz_ray.journal.schema import ATTEMPT_FAILED, ATTEMPT_LOST, ATTEMPT_SUPERSEDED, VERSION
from dfz_ray.journal.writer import Group, JournalWriter
from dfz_ray.protocol.columns import NO_WORK
from dfz_ray.specs.encoding import encode
from dfz_ray.specs.states import STATES, State

INLINE_BYTES = 100

# --- what is read is what was committed -------------------------------------------------------------------------------


def test_a_record_tells_all_that_was_committed(tmp_path: Path) -> None:
    """A record has the task's id, domain, kind, state, result or error, and the number of tries and the last one."""
    writer = make_run(tmp_path, list("abcd"))
    group = Group(chunks=[handed_out(0, 0), handed_out(1, 1)])
    group.completions.append(completion(0, {0: {"heads": 2}}, times=(5.0, 7.5, 2.0)))
    group.attempts.append((1, 1, ATTEMPT_FAILED, 1, 6.0, 6.25, 0.1, "exception", None))

    writer.commit(together(group, failed(1, "exception", "ValueError: no", "Traceback ..."), cancelled(3)))

    assert records(tmp_path) == [
        Record("a", "coin", "coin of 3", "completed", encode({"heads": 2}), None, 1, 5.0, 7.5, "host-a"),
        Record(
            *("b", "coin", "coin of 3", "failed", None),
            *(TaskError("exception", "ValueError: no", "Traceback ..."), 1, 6.0, 6.25, "host-a"),
        ),
        Record("c", "coin", "coin of 3", "pending", None, None, 0, None, None, None),
        Record("d", "coin", "coin of 3", "cancelled", None, TaskError("cancelled", "someone asked"), *[0, *[None] * 3]),
    ]
    done, broken, waiting, _ = records(tmp_path)
    assert (done.result, done.duration) == ({"heads": 2}, 2.5)
    assert str(broken.error) == "exception: ValueError: no"
    assert (waiting.result, waiting.duration) == (None, None)


def test_records_come_in_the_order_of_submission(tmp_path: Path) -> None:
    """Whatever the order of ids, chunks and commits, records come in the order in which tasks were submitted."""
    ids = ["z", "a", "Ü", "10", "9", "task-2"]
    writer = make_run(tmp_path, ids)
    for number in (5, 0):
        writer.commit(completed(number, number))
    writer.commit(Group(completions=[completion(9, {3: 3, 1: 1})]))

    assert [record.task_id for record in records(tmp_path)] == ids
    assert results(tmp_path) == {"z": 0, "a": 1, "10": 3, "task-2": 5}


def test_every_attempt_counts_and_the_last_one_gives_times_and_node(tmp_path: Path) -> None:
    """A task that was lost, came back late and ran again has three tries; times and node are those of the last."""
    writer = make_run(tmp_path, ["before", "lost", "after"])
    group = Group(leases=[(writer.epoch, 1, "host-b", 4712, 2.0)], chunks=[handed_out(1, 1)])
    group.chunks.extend(handed_out(chunk, 1, lease=1) for chunk in (10, 11))
    group.completions.append(completion(11, {1: "done"}, times=(8.0, 9.0, 1.0)))
    group.attempts.append((1, 10, ATTEMPT_SUPERSEDED, 0, 6.0, 30.0, 1.0, None, None))
    group.attempts.append((1, 1, ATTEMPT_LOST, 1, None, None, None, "worker_crashed", "it died"))

    writer.commit(group)

    before, lost, after = records(tmp_path)
    assert (lost.attempts, lost.start_time, lost.end_time, lost.node) == (3, 8.0, 9.0, "host-b")
    for idle in (before, after):
        assert (idle.attempts, idle.start_time, idle.node) == (0, None, None)


def test_a_last_attempt_without_times_has_a_node_but_no_duration(tmp_path: Path) -> None:
    """Of a task that killed its worker it is known where that was, and not how long it took."""
    writer = make_run(tmp_path, ["killer"])
    group = failed(0, "worker_crashed", "it died")
    group.chunks.append(handed_out(0, 0))
    group.attempts.append((0, 0, ATTEMPT_LOST, 1, None, None, None, "worker_crashed", None))

    writer.commit(group)

    (record,) = records(tmp_path)
    assert (record.attempts, record.node, record.duration) == (1, "host-a", None)


def test_counts_have_all_five_states(tmp_path: Path) -> None:
    """Counts name all five states, and a task without an outcome is pending."""
    writer = make_run(tmp_path, list("abcdef"))
    writer.commit(together(completed(0, 1), completed(1, 2), failed(2, "timeout", "too long")))
    writer.commit(cancelled(3))

    with JournalReader(tmp_path) as journal:
        assert journal.counts() == {
            **dict.fromkeys(STATES, 0),
            **{"pending": 2, "completed": 2, "failed": 1, "cancelled": 1},
        }
        assert journal.records().counts == journal.counts()
    assert [state.label for state in State] == list(STATES)


def test_spans_are_those_of_executions_that_ended(tmp_path: Path) -> None:
    """The times that metrics are made of are those of completed and failed executions, by their start."""
    writer = make_run(tmp_path, list("abcde"))
    group = Group(completions=[completion(0, {0: 1}, times=(5.0, 6.0, 1.0))])
    group.attempts.extend(
        [
            (1, 1, ATTEMPT_FAILED, 1, 4.0, 7.0, 1.0, "exception", None),
            (2, 2, ATTEMPT_LOST, 0, None, None, None, "node_lost", "lost"),
            (3, 3, ATTEMPT_SUPERSEDED, 0, 1.0, 2.0, 1.0, None, None),
            (4, 4, ATTEMPT_FAILED, 1, None, None, None, "exception", None),
        ]
    )

    writer.commit(group)

    with JournalReader(tmp_path) as journal:
        assert journal.records().spans.tolist() == [[4.0, 7.0], [5.0, 6.0]]


def test_meta_is_kept_as_given(tmp_path: Path) -> None:
    """A run's name, its slots and its other facts are read back, and the schema's version with them."""
    make_run(tmp_path, []).close()

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
    writer = make_run(folder, ids, inline_bytes=inline_bytes)
    expected = dict(zip(ids, values, strict=False))

    writer.commit(Group(completions=[completion(0, dict(enumerate(expected.values())))]))

    assert results(folder) == expected
    writer.close()
    shutil.rmtree(folder)


# --- one outcome for each task, one writer, whole groups --------------------------------------------------------------


@pytest.mark.parametrize("first", ["completed", "failed"])
@pytest.mark.parametrize("second", ["completed", "failed", "cancelled"])
def test_a_second_outcome_is_impossible(tmp_path: Path, first: str, second: str) -> None:
    """A second outcome for a task is refused with everything that was to be committed with it; the first one stays."""
    outcomes = {
        "completed": Group(completions=[completion(9, {0: "second"})]),
        "failed": failed(0, "exception", "no"),
        "cancelled": cancelled(0),
    }
    writer = make_run(tmp_path, list("abc"))
    writer.commit(completed(0, "first") if first == "completed" else failed(0, "timeout", "first"))
    before = contents(tmp_path)
    group = together(completed(1, "beside"), outcomes[second], completed(2, "beside"))
    group.attempts.append((1, 5, ATTEMPT_LOST, 0, None, None, None, "node_lost", "it is gone"))
    group.blocks.append(block(3, ["new"]))

    with pytest.raises(JournalDamaged, match=r"can't be written: UNIQUE constraint failed: outcomes\.task"):
        writer.commit(group)

    assert contents(tmp_path) == before
    assert [(record.task_id, record.status, record.attempts) for record in records(tmp_path)] == [
        ("a", first, int(first == "completed")),
        ("b", "pending", 0),
        ("c", "pending", 0),
    ]
    assert results(tmp_path) == ({"a": "first"} if first == "completed" else {})


def test_a_task_that_completes_twice_in_a_chunk_is_impossible(tmp_path: Path) -> None:
    """A chunk in which a task is said to have completed twice is refused, too."""
    writer = make_run(tmp_path, ["a", "b"])
    row = completion(0, {0: 1, 1: 2})
    before = contents(tmp_path)

    with pytest.raises(JournalDamaged, match=r"UNIQUE constraint failed: outcomes\.task"):
        writer.commit(Group(completions=[(row[0], encode([1, 1]), *row[2:])]))

    assert contents(tmp_path) == before


@pytest.mark.parametrize(
    "table", ["blocks", "batches", "kinds", "chunks", "completions", "attempts", "cancels", "pool_changes"]
)
def test_a_group_is_committed_whole_or_not_at_all(tmp_path: Path, table: str) -> None:
    """If one row of a group can't be written, none of the group is in the journal."""
    there = {
        "blocks": block(0, ["again"]),
        "batches": (0, "again", 1, 1.0),
        "kinds": (0, "coin", "again", "{}", POLICY),
        "chunks": handed_out(1, 1),
        "completions": completion(1, {2: "again"}),
        "attempts": (2, 2, ATTEMPT_LOST, 0, None, None, None, "node_lost", "again"),
        "cancels": (0, 1, 6.0, "run", 0),
        "pool_changes": (0, 1, 6.0, 2, "why"),
    }
    writer = make_run(tmp_path, list("abc"), completed(1, "there"))
    writer.commit(Group(attempts=[there["attempts"]], cancels=[there["cancels"]], pool_changes=[there["pool_changes"]]))
    group = completed(0, "beside")
    getattr(group, table).append(there[table])

    with pytest.raises(JournalDamaged, match=f"UNIQUE constraint failed: {table}"):
        writer.commit(group)

    assert results(tmp_path) == {"b": "there"}
    writer.commit(completed(0, "later"))
    assert results(tmp_path) == {"a": "later", "b": "there"}


def test_whoever_opens_a_run_takes_it_over(tmp_path: Path) -> None:
    """After another manager has opened the run the older one can commit nothing, and leaves nothing in the folder."""
    older = make_run(tmp_path, list("abc"), inline_bytes=INLINE_BYTES)
    newer = JournalWriter(tmp_path, INLINE_BYTES)
    before = sorted(path.name for path in tmp_path.iterdir())

    with pytest.raises(EpochSuperseded, match=r"epoch 2 has taken over .* this is epoch 1"):
        older.commit(together(completed(0, "small"), completed(1, "large" * INLINE_BYTES)))

    assert (older.epoch, newer.epoch) == (1, 2)
    assert results(tmp_path) == {}
    assert sorted(path.name for path in tmp_path.iterdir()) == before
    newer.commit(completed(0, "newer", epoch=2))
    with pytest.raises(EpochSuperseded):
        older.commit(Group())
    older.close()
    assert results(tmp_path) == {"a": "newer"}
    newer.close()
    assert results(tmp_path) == {"a": "newer"}


def test_a_run_keeps_its_name(tmp_path: Path) -> None:
    """A process that opens a run again, under any name, gets the facts that were noted when the run was new."""
    make_run(tmp_path, list("ab")).close()

    opened = open_for_work(tmp_path, {"run_id": "another", "name": ""})
    opened.writer.close()
    opened.lock.close()

    assert opened.recovered.meta == {**META, "schema_version": str(VERSION)}


def test_an_empty_group_is_false() -> None:
    """A group says whether there is anything to commit."""
    assert not Group()
    assert Group(completions=[completion(0, {0: 1})])
    assert failed(0, "exception", "no")
    assert Group(batches=[(0, "b", 1, 1.0)])


def test_what_is_there_already_is_passed_over(tmp_path: Path) -> None:
    """Domains, files, leases and superseded attempts that are there already, or come twice, change nothing."""
    writer = make_run(tmp_path, ["a", "b"])
    late, too_late = ((number, number, ATTEMPT_SUPERSEDED, 0, 1.0, 2.0, 0.5, None, None) for number in (0, 1))
    lost = (0, 0, ATTEMPT_LOST, 0, None, None, None, "node_lost", "it is gone")
    group = completed(1, "done")
    group.files.extend([("ab", b"1")] * 2)
    group.leases.extend([(1, 1, "host", 5, 2.0)] * 2)
    group.attempts.extend([late, too_late, lost, late])
    writer.commit(group)
    before = contents(tmp_path)

    writer.commit(Group(attempts=[late, too_late]))
    writer.commit(Group(domains=[("coin", "[]")], files=[("ab", b"1")], leases=[(1, 0, "host", 4, 2.0)]))
    assert contents(tmp_path) == before
    assert before["attempts"] == [(*lost, 3)]
    assert [row[:2] for row in before["leases"]] == [(1, 0), (1, 1)]
    writer.close()
    JournalWriter(tmp_path).commit(Group(domains=[("coin", "[]"), ("new", "[]")], files=[("ab", b"1")]))
    assert contents(tmp_path)["domains"] == [("coin", '["seconds"]', 2), ("new", "[]", 5)]


def test_what_failed_to_be_committed_is_not_taken_for_known(tmp_path: Path) -> None:
    """A domain, file or lease of a group that was not committed is written with the next one."""
    writer = make_run(tmp_path, ["a"])
    rows = {"domains": [("new", "[]")], "files": [("ab", b"1")], "leases": [(1, 1, "host", 5, 2.0)]}
    with pytest.raises(JournalDamaged):
        writer.commit(Group(**rows, batches=[(0, "there already", 1, 1.0)]))

    writer.commit(Group(**rows))

    assert {name: len(contents(tmp_path)[name]) for name in rows} == {"domains": 2, "files": 1, "leases": 2}


def test_the_writer_counts_commits(tmp_path: Path) -> None:
    """The creation, each epoch and each group with something new is one commit; the count outlives the writer."""
    writer = make_run(tmp_path, ["a", "b"])
    assert writer.commits == 3
    writer.commit(Group())
    with pytest.raises(JournalDamaged):
        writer.commit(Group(batches=[(0, "there already", 1, 1.0)]))
    assert writer.commits == 3
    writer.commit(failed(0, "exception", "no"))
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
    """Failed tasks are reopened on request, and their outcomes are kept, with both commits."""
    broken = failed(0, "exception", "no", "Traceback")
    make_run(tmp_path, ["a", "b"], broken, completed(1, 1)).close()

    opened = open_for_work(tmp_path, META, retry_failed=True)

    assert open_tasks(opened.recovered) == [0]
    assert opened.recovered.works == [(1000, encode({"flips": 0})), NO_WORK]
    ((number, state, _, *rest),) = broken.outcomes
    assert contents(tmp_path)["reopened"] == [(number, 3, state, *rest, opened.writer.epoch, 5)]
    opened.writer.close()
    opened.lock.close()


def test_what_was_charged_is_recovered(tmp_path: Path) -> None:
    """Of open tasks it is known how many attempts were charged, and losses free, since they were reopened."""
    writer = make_run(tmp_path, ["reopened", "open", "done", "fresh"], resources="{}")
    chunks = itertools.count(10)

    def lose(number: int, charged: int, reason: str) -> tuple[Any, ...]:
        return (number, next(chunks), ATTEMPT_LOST, charged, None, None, None, reason, "lost")

    group = together(failed(0, "worker_crashed", "no"), completed(2, 1))
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
    assert open_tasks(recovered) == [0, 1, 3]
    assert (recovered.next_cancel, recovered.next_chunk) == (2, 3)
    assert recovered.kinds == [("coin", "coin of 3", "{}", POLICY)]


def test_what_makes_a_task_what_it_is(tmp_path: Path) -> None:
    """For each id the journal gives domain, resources, seed, parameters and policy, by which equal tasks are known."""
    make_run(tmp_path, ["a", "b"], resources="{}").close()

    assert read_contents(tmp_path) == {
        "a": ("coin", "{}", 1000, encode({"flips": 0}), POLICY),
        "b": ("coin", "{}", 1001, encode({"flips": 1}), POLICY),
    }


def test_a_run_that_was_killed_as_it_was_made_is_made_anew(tmp_path: Path) -> None:
    """A journal gets its name when it is whole: the remains of an earlier kill are no obstacle for a new run."""
    for name in ("lock", "run.sqlite.new", "run.sqlite.new-journal"):
        (tmp_path / name).write_bytes(b"half of it")

    opened = open_for_work(tmp_path, META)

    assert opened.writer.epoch == 1
    opened.writer.close()
    opened.lock.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["lock", "run.sqlite", "seal"]


def test_the_log_of_a_journal_that_is_gone_is_no_empty_folder(tmp_path: Path) -> None:
    """A folder with a log, but without the journal, held a run: no new run is begun over its remains."""
    (tmp_path / "run.sqlite-wal").write_bytes(b"the log")

    with pytest.raises(RunFolderRefused, match="neither empty nor a run"):
        open_for_work(tmp_path, META)
