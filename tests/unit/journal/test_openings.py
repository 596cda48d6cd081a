"""What a driver notes of an opening of its run: its modules, and who it is, by which pauses are told."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path

from support.journal_rows import block, completion
from support.sample_run import both_say_ok

from dfz_ray.journal.openings import Opening, read_imports, read_pauses, read_slot_changes
from dfz_ray.journal.reader import JournalReader
from dfz_ray.journal.recovery import open_for_work
from dfz_ray.journal.run_status import find_status
from dfz_ray.journal.writer import Group
from dfz_ray.results import read_results
from dfz_ray.specs.encoding import encode
from dfz_ray.specs.policy import Policy

COINS, DICE = ("coins.py", "/data"), ("my.dice", "/src")


def open_and_leave(folder: Path, driver: str = "", *imports: tuple[str, str]) -> None:
    """Open a run, as the manager of a driver does, and close it."""
    opening = Opening(driver, imports).to_json() if driver else ""
    opened = open_for_work(folder, {"name": "sample"}, opening=opening)
    opened.writer.close()
    opened.lock.close()


def test_the_modules_of_a_run_are_known(tmp_path: Path) -> None:
    """A run knows all modules that it was opened with; of one that has moved, the place where it was last."""
    run = tmp_path / "run"
    assert read_imports(run) == []

    open_and_leave(run, "a", COINS, DICE)
    open_and_leave(run)
    open_and_leave(run, "b", ("coins.py", "/elsewhere"))

    assert read_imports(run) == [("coins.py", "/elsewhere"), DICE]
    assert both_say_ok(run)


def test_a_pause_lies_between_the_openings_of_two_drivers(tmp_path: Path) -> None:
    """From the last commit of one epoch to the next one is a pause, except where one driver opened both."""
    for driver in ("a", "a", "b", ""):
        open_and_leave(tmp_path, driver)
    with sqlite3.connect(tmp_path / "run.sqlite") as connection:
        opened = dict(connection.execute("SELECT epoch, opened_at FROM epochs"))
        left = dict(connection.execute("SELECT epoch, max(committed_at) FROM commits GROUP BY epoch"))
    connection.close()

    with JournalReader(tmp_path) as journal:
        assert read_pauses(journal) == [(left[2], opened[3]), (left[3], opened[4])]


def test_slots_are_those_of_their_opening(tmp_path: Path) -> None:
    """A run that is resumed with another number of workers was as busy as before; its status has the latest number."""
    slots_of = {"a": 2, "b": 1, "c": 3}
    now, kind = time.time(), (0, "coin", "fair", "{}", Policy().model_dump_json())
    for driver, slots in slots_of.items():
        opening = Opening(driver, (), slots).to_json()
        opened = open_for_work(tmp_path, {"name": "sample", "created_at": repr(now), "slots": "2"}, opening=opening)
        if driver == "a":
            group = Group(
                batches=[(0, "b", 0, now)], domains=[("coin", "[]")], kinds=[kind], leases=[(1, 0, "h", 1, now)]
            )
            group.blocks = [block(0, ["t0", "t1"])]
            group.chunks = [(0, 1, 0, now, encode([0, 1]))]
            group.completions = [completion(0, {0: 1, 1: 2}, (now - 10, now, 10.0))]
            opened.writer.commit(group)
        opened.writer.close()
        opened.lock.close()

    metrics = read_results(tmp_path).metrics
    with JournalReader(tmp_path) as journal:
        assert [slots for _, slots in read_slot_changes(journal)] == [2, 1, 3]
    assert (metrics["avg_concurrency"], metrics["utilization"]) == (2.0, 1.0)
    assert find_status(tmp_path).slots == 3
    assert both_say_ok(tmp_path)
