"""What a driver notes of an opening of its run: its modules, and who it is, by which pauses are told."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from support.sample_run import both_say_ok

from dfz_ray.journal.openings import Opening, read_imports, read_pauses
from dfz_ray.journal.reader import JournalReader
from dfz_ray.journal.recovery import open_for_work

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
