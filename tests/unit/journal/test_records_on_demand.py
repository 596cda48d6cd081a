"""Records and Results are read from the run folder when they are looked at."""

from __future__ import annotations

import copy
import gc
import json
import pickle
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest
from support.journal_rows import block, completion

from dfz_ray.driver.listener import read_events
from dfz_ray.errors import JournalDamaged
from dfz_ray.journal.reader import JournalReader
from dfz_ray.journal.record import Record
from dfz_ray.journal.writer import Group, JournalWriter
from dfz_ray.protocol.columns import Completions
from dfz_ray.results import Results, read_results
from dfz_ray.specs.encoding import digest_of, encode
from dfz_ray.specs.states import State

KIND = (0, "coin", "fair", "{}", "{}")
OTHER_KIND = (1, "coin", "bent", "{}", "{}")
RESULTS: dict[int, Any] = {
    0: {"heads": 1, "tails": 2},
    1: {"tails": 5, "heads": None},
    2: [1, float("inf")],
    3: {"heads": 2.5, "tails": 1},
    5: {"other": b"x"},
}


def make_run(folder: Path, results: dict[int, Any] | None = None, tasks: int = 7, blocks: int = 3) -> JournalWriter:
    """Seven tasks in blocks of three: five completed in two chunks, one failed, one open."""
    results = RESULTS if results is None else results
    writer = JournalWriter.create(folder, {"run_id": "r", "created_at": "0.0", "slots": "2"}, 1_000)
    ids = [f"t{number}" for number in range(tasks)]
    group = Group(batches=[(0, "b", 0, 0.0)], domains=[("coin", "[]")], kinds=[KIND, OTHER_KIND])
    group.blocks = [block(first, ids[first : first + blocks]) for first in range(0, tasks, blocks)]
    writer.commit(group)
    late = {number: result for number, result in results.items() if number in (3, 0)}
    early = {number: result for number, result in results.items() if number not in late}
    writer.commit(
        Group(
            leases=[(1, 0, "host-a", 1, 0.0), (1, 1, "host-b", 1, 0.0)],
            chunks=[(0, 1, 0, 0.0, encode([*early, 4])), (1, 1, 1, 0.0, encode(list(late)))],
            completions=[completion(0, early), completion(1, late)],
            attempts=[(4, 0, 1, 1, 1.0, 2.0, 0.5, "exception", None)],
            outcomes=[(4, State.FAILED, None, "exception", "no luck", "line 1")],
        )
    )
    return writer


def by_rows(results: Results) -> pandas.DataFrame:
    """The table, made row by row from the records."""
    rows = []
    for record in results:
        row, result = record.to_dict(), record.result
        row["error"] = str(record.error) if record.error else None
        if isinstance(result, dict):
            del row["result"]
            row |= {f"result.{key}": value for key, value in result.items()}
        rows.append(row)
    return pandas.DataFrame(rows)


def test_a_table_by_columns_is_the_table_by_rows(tmp_path: Path) -> None:
    """`to_pandas` has the rows, the values and the types that the records have, whatever their results are."""
    make_run(tmp_path).close()
    results = read_results(tmp_path)

    found, wanted = results.to_pandas(), by_rows(results)

    assert set(found.columns) == set(wanted.columns)
    pandas.testing.assert_frame_equal(found[list(wanted.columns)], wanted)


def test_records_are_those_of_the_journal_in_any_order(tmp_path: Path) -> None:
    """A record has the same fields whether it is read by position, by id, in a slice, or with all others."""
    make_run(tmp_path).close()
    results = read_results(tmp_path)
    records = list(results)

    assert [record.status for record in records] == [*["completed"] * 4, "failed", "completed", "pending"]
    assert [record.result for record in records[:6]] == [*(RESULTS[number] for number in range(4)), None, RESULTS[5]]
    assert [record.node for record in records] == ["host-b", "host-a", "host-a", "host-b", "host-a", "host-a", None]
    assert [results[number] for number in range(-7, 7)] == records + records
    assert [results[f"t{number}"] for number in range(7)] == records
    assert list(results[2:6]) == records[2:6]
    assert list(results.select(state="completed"))[-1] == records[5]
    assert [record.task_id for record in results.select(state="failed", domain="coin")] == ["t4"]
    assert len(results.select(kind="bent")) == 0
    assert results.select(state="pending").counts["pending"] == 1
    assert results.select(state="completed").select(kind="fair").counts["completed"] == 5


def test_failed_tasks_are_read_without_the_others(tmp_path: Path) -> None:
    """To show the failed tasks of a run, no result and no time of a completed one is read."""
    read: list[str] = []

    class WatchedReader(JournalReader):
        def query(self, statement: str, values: tuple[Any, ...] = ()) -> Iterator[Any]:
            read.append(statement)
            return super().query(statement, values)

    make_run(tmp_path).close()
    with WatchedReader(tmp_path) as journal:
        (failed,) = journal.records().find(("failed",))

    assert (failed.task_id, str(failed.error), failed.attempts) == ("t4", "exception: no luck", 1)
    assert not {"read_chunks_of", "read_chunk_results", "read_results", "read_completion"} & set(read)


def test_results_are_those_of_their_moment(tmp_path: Path) -> None:
    """What is committed later does not show in Results that were there before."""
    writer = make_run(tmp_path)
    results = read_results(tmp_path)
    writer.reopen_failed()
    writer.commit(Group(chunks=[(2, 1, 0, 0.0, encode([4, 6]))], completions=[completion(2, {4: 1, 6: 2})]))
    writer.close()

    assert [record.status for record in results][4:] == ["failed", "completed", "pending"]
    assert (results.counts["completed"], len(results.metrics)) == (5, len(read_results(tmp_path).metrics))
    assert len(results.select(state="completed")) == 5
    assert results.digest != read_results(tmp_path).digest


def test_a_temporary_folder_lives_as_long_as_its_results(tmp_path: Path) -> None:
    """The folder of a run whose tasks all completed is there while its Results, or a selection of them, can be read."""
    folder = tmp_path / "temporary"
    make_run(folder, {0: {"x": 1}, 1: "y" * 5_000}, tasks=2).close()
    results = read_results(folder, temporary=True)
    assert folder.exists()
    assert results.run_dir is None
    assert results.values() == [{"x": 1}, "y" * 5_000]  # the second is in a file of its own

    selection = results.select(state="completed")
    del results
    gc.collect()
    assert next(iter(selection)).result == {"x": 1}

    del selection
    gc.collect()
    assert not folder.exists()


def test_results_whose_folder_is_gone_say_so(tmp_path: Path) -> None:
    """Results can't be read any more once their run folder was removed: an error names it."""
    folder = tmp_path / "run"
    make_run(folder).close()
    results = read_results(folder)
    for path in (*folder.glob("*"),):
        path.unlink()

    with pytest.raises(JournalDamaged, match="is no run folder"):
        list(results)
    assert len(results) == 7


def test_a_failed_task_has_the_times_of_the_attempt_that_counts(tmp_path: Path) -> None:
    """An attempt that was superseded by another one says nothing about when and where the task failed."""
    writer = make_run(tmp_path)
    writer.commit(
        Group(
            chunks=[(2, 1, 0, 0.0, encode([6])), (3, 1, 1, 0.0, encode([6]))],
            attempts=[
                (6, 2, 1, 1, 5.0, 6.0, 0.5, "exception", None),
                (6, 3, 3, 0, None, None, None, "node_lost", None),
            ],
            outcomes=[(6, State.FAILED, None, "exception", "no luck", None)],
        )
    )
    writer.close()

    record = read_results(tmp_path)["t6"]

    assert (record.start_time, record.end_time, record.node) == (5.0, 6.0, "host-a")
    with JournalReader(tmp_path) as journal:
        failed = next(one for one in read_events(journal).failures if one.number == 6)
    assert failed[5:8] == (5.0, 6.0, "host-a")


def test_a_record_may_be_asked_for_by_a_position_of_numpy(tmp_path: Path) -> None:
    """A position may be any whole number, as for a list; what is none is refused as there."""
    make_run(tmp_path / "run").close()
    results = read_results(tmp_path / "run")
    assert results[np.int64(3)].task_id == results[np.int64(-4)].task_id == "t3"
    assert results.select(state="completed")[np.uint8(4)].task_id == "t5"
    for wrong in (1.0, None):
        with pytest.raises(TypeError):
            results[wrong]  # type: ignore[call-overload]


def test_an_outcome_of_an_unknown_task_is_damage(tmp_path: Path) -> None:
    """A journal that tells of the end of a task which the run does not have is refused; it is not read for ever."""
    make_run(tmp_path / "run").close()
    with sqlite3.connect(tmp_path / "run" / "run.sqlite") as database:
        database.execute("INSERT INTO outcomes VALUES (99, 3, NULL, 'exception', 'x', NULL, 1)")
    database.close()
    results = read_results(tmp_path / "run")
    failed = results.select(state="failed")
    for read in (
        lambda: list(failed),
        lambda: failed[1],
        failed.to_pandas,
        lambda: results.select(state="failed", kind="bent"),
    ):
        with pytest.raises(JournalDamaged, match="names task 99, but does not have it"):
            read()


def test_a_run_that_lacks_tasks_in_its_midst_is_damage(tmp_path: Path) -> None:
    """Where a block of tasks is missing, reading the tasks after it is refused; it does not go on for ever."""
    make_run(tmp_path / "run").close()
    with sqlite3.connect(tmp_path / "run" / "run.sqlite") as database:
        database.execute("DELETE FROM blocks WHERE first = 3")
    database.close()
    with pytest.raises(JournalDamaged, match="but does not have it"):
        list(read_results(tmp_path / "run"))


def test_keys_of_one_text_have_columns_of_their_own(tmp_path: Path) -> None:
    """Of the keys 1 and "1", in one result or in two, no value is lost; a text alone is shown as it is."""
    results = {0: {1: "a", "1": "b", "x": "c"}, 1: {"1": "d"}}
    make_run(tmp_path / "run", results, tasks=2).close()
    table = read_results(tmp_path / "run").to_pandas()
    shown = {name: list(table[name].fillna("")) for name in table if name.startswith("result")}
    assert shown == {"result.1": ["a", ""], "result.'1'": ["b", "d"], "result.x": ["c", ""]}


def test_a_result_may_nest_as_deeply_as_it_can_be_stored(tmp_path: Path) -> None:
    """The deepest results that a task can return are shown like others."""
    deep: Any = {"x": float("inf"), 1: b"y"}
    for _ in range(250):
        deep = [{"more": deep}]
    writer = make_run(tmp_path / "run", {})
    packed = [encode(deep), encode([deep])]
    rows = [(number, 1.0, 2.0, 0.5, result, digest_of(result)) for number, result in enumerate(packed)]
    writer.commit(Group(chunks=[(2, 1, 0, 0.0, encode([0, 1]))], completions=[(2, *Completions.of(rows))]))
    writer.close()
    results = read_results(tmp_path / "run").select(state="completed")
    assert len(results.to_pandas()) == len(results) == 2
    for record in results:
        shown = json.dumps(record.to_dict()["result"])
        assert shown.count("more") == 250
        assert '{"x": "inf", "1": "79"}' in shown


def test_copies_keep_a_temporary_folder(tmp_path: Path) -> None:
    """A copy of Results, of a selection, or of the record of a large result can be read as long as it is there."""
    for take in (lambda results: results, lambda results: results.select("completed"), lambda results: results[1]):
        for make_copy in (copy.copy, copy.deepcopy):
            folder = tmp_path / "temporary"
            make_run(folder, {0: {"x": 1}, 1: "y" * 5_000}, tasks=2).close()
            results = read_results(folder, temporary=True)
            copied = make_copy(take(results))
            del results
            gc.collect()
            record = copied if isinstance(copied, Record) else copied[1]
            assert record.result == "y" * 5_000

            del copied, record
            gc.collect()
            assert not folder.exists()


def test_results_say_why_they_are_not_pickled(tmp_path: Path) -> None:
    """They are read from a folder that may be gone, or elsewhere: the error names what can be pickled instead."""
    make_run(tmp_path).close()
    results = read_results(tmp_path)

    for one in (results, results.select("completed")):
        with pytest.raises(TypeError, match=r"pickle list\(\.\.\.\)"):
            pickle.dumps(one)
