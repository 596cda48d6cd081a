"""Requests to the process that works on a run, and cancelling where no process does."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sqlite3
import stat
import time
from pathlib import Path

import pytest
from support.small_run import completed, failed, make_run

from dfz_ray.errors import InvalidInput, JournalDamaged, RunFolderRefused
from dfz_ray.journal.cancel_requests import (
    REQUESTS,
    CancelRequest,
    cancel_at_rest,
    file_request,
    read_requests,
    resolve,
)
from dfz_ray.journal.lock import RunLock
from dfz_ray.journal.reader import JournalReader
from dfz_ray.journal.run_audit import audit_run

GARBAGE = [
    b"",
    b"\xff",
    b"[" * 100_000,
    b"null",
    b"{}",
    b'{"cancel": []}',
    b'{"cancel": {"tasks": [], "batches": [], "whole_run": false}}',
    b'{"cancel": {"tasks": "a", "batches": [], "whole_run": false}}',
    b'{"cancel": {"tasks": [1], "batches": [], "whole_run": false}}',
    b'{"cancel": {"tasks": [], "batches": [], "whole_run": 1}}',
    b'{"pause": {}}',
]


def states(folder: Path) -> dict[str, str]:
    """The state of every task."""
    with JournalReader(folder) as journal:
        return {record.task_id: record.status for record in journal.records()}


# --- files ------------------------------------------------------------------------------------------------------------


def test_requests_are_read_in_the_order_in_which_they_were_made(tmp_path: Path) -> None:
    """The manager finds each request as it was made, the oldest first, in a folder for the user alone."""
    made = [
        CancelRequest(tasks=("a", "Ü", "\x1b[2J")),
        CancelRequest(batches=("demo",)),
        CancelRequest(tasks=("b",), batches=("x", "y")),
        CancelRequest(whole_run=True),
    ]
    paths = []
    for second, request in enumerate(made):
        paths.append(file_request(tmp_path, request))
        os.utime(paths[-1], (second, second))

    assert read_requests(tmp_path) == list(zip(paths, made, strict=True))
    paths[0].unlink()
    assert read_requests(tmp_path) == list(zip(paths[1:], made[1:], strict=True))
    assert stat.S_IMODE((tmp_path / REQUESTS).stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in paths[1:]} == {0o600}


def test_no_requests(tmp_path: Path) -> None:
    """A run of which nothing was asked has no folder for it, and reading makes none."""
    assert read_requests(tmp_path) == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", GARBAGE, ids=range(len(GARBAGE)))
def test_what_is_no_request_is_removed(content: bytes, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A file that is no request is removed and logged once, and the others are read."""
    wanted = file_request(tmp_path, CancelRequest(whole_run=True))
    strange = tmp_path / REQUESTS / "strange.json"
    strange.write_bytes(content)

    with caplog.at_level(logging.WARNING, "dfz_ray"):
        found = [read_requests(tmp_path) for _ in range(2)]

    assert found == [[(wanted, CancelRequest(whole_run=True))]] * 2
    assert not strange.exists()
    assert [record.getMessage() for record in caplog.records] == [f"{strange} is no request, and has been removed"]


def test_what_is_no_file_holds_nobody_up(tmp_path: Path) -> None:
    """A FIFO or a link among the requests is removed unread; folders, and files that are being written, are left."""
    folder = tmp_path / REQUESTS
    folder.mkdir()
    os.mkfifo(folder / "fifo.json")
    (tmp_path / "mine").write_text(json.dumps({"cancel": {"tasks": ["a"], "batches": [], "whole_run": False}}))
    (folder / "link.json").symlink_to(tmp_path / "mine")
    (folder / "folder.json").mkdir()
    (folder / "half.part").write_text("{")

    assert read_requests(tmp_path) == []
    assert sorted(path.name for path in folder.iterdir()) == ["folder.json", "half.part"]
    assert (tmp_path / "mine").exists()


def test_a_folder_that_takes_no_request(tmp_path: Path) -> None:
    """A request that can't be filed is refused with the folder's name."""
    (tmp_path / REQUESTS).write_text("")
    with pytest.raises(RunFolderRefused, match="requests: found a file; expected your own folder"):
        file_request(tmp_path, CancelRequest(whole_run=True))


# --- what a request means ---------------------------------------------------------------------------------------------


def test_a_request_names_tasks_batches_or_all(tmp_path: Path) -> None:
    """Tasks are named by id, by batch or all at once, in whatever state they are."""
    make_run(tmp_path, ["a", "b", "c"], completed(0, 1), batches=["first", "second", "first"]).close()

    assert resolve(tmp_path, CancelRequest(tasks=("a", "c"))) == {0, 2}
    assert resolve(tmp_path, CancelRequest(batches=("first",))) == {0, 2}
    assert resolve(tmp_path, CancelRequest(tasks=("a",), batches=("second",))) == {0, 1}
    assert resolve(tmp_path, CancelRequest(whole_run=True)) == {0, 1, 2}
    assert resolve(tmp_path, CancelRequest()) == set()


def test_what_a_run_does_not_have_is_told_at_once(tmp_path: Path) -> None:
    """Every unknown id and batch is named, with the most similar one; the journal is as before."""
    make_run(tmp_path, ["task-1", "task-2"], batches=["demo", "demo"]).close()
    before = (tmp_path / "run.sqlite").read_bytes()

    with pytest.raises(InvalidInput) as refused:
        cancel_at_rest(tmp_path, CancelRequest(tasks=("task-1", "tsak-2", "\x1b[2J"), batches=("dmeo",)))

    assert [(p.where, p.found, p.hint) for p in refused.value.problems] == [
        ("TASK_ID", "'tsak-2'", "did you mean 'task-2'?"),
        ("TASK_ID", "'\\x1b[2J'", ""),
        ("--batch", "'dmeo'", "did you mean 'demo'?"),
    ]
    assert (tmp_path / "run.sqlite").read_bytes() == before


# --- a run at rest ----------------------------------------------------------------------------------------------------


def test_only_open_tasks_are_cancelled(tmp_path: Path) -> None:
    """Tasks in a final state keep it; the others of the request are cancelled, and no one else."""
    make_run(
        tmp_path, ["done", "broken", "open", "spared"], completed(0, 1), failed(1, "exception", "no"), batches=["x"] * 4
    ).close()

    cancelled = cancel_at_rest(tmp_path, CancelRequest(tasks=("done", "broken", "open")))
    again = cancel_at_rest(tmp_path, CancelRequest(tasks=("open",)))

    assert (cancelled, again) == (1, 0)
    assert states(tmp_path) == {"done": "completed", "broken": "failed", "open": "cancelled", "spared": "pending"}
    with JournalReader(tmp_path) as journal:
        error = {record.task_id: record.error for record in journal.records()}["open"]
    assert error is not None
    assert str(error) == "cancelled: on request (3 tasks), while no process worked on the run"


def test_a_whole_run_is_cancelled(tmp_path: Path) -> None:
    """Cancelling the whole run leaves nothing open, and the journal records the request."""
    make_run(tmp_path, ["a", "b", "c"], completed(1, 1)).close()

    assert cancel_at_rest(tmp_path, CancelRequest(whole_run=True)) == 2
    assert states(tmp_path) == {"a": "cancelled", "b": "completed", "c": "cancelled"}
    with contextlib.closing(sqlite3.connect(tmp_path / "run.sqlite")) as connection:
        (row,) = connection.execute("SELECT * FROM cancels").fetchall()
    assert (row[0], row[1], row[3], row[4]) == (0, 2, "run", 2)
    assert row[2] == pytest.approx(time.time(), abs=60)


def test_a_cancelled_run_stands_an_audit(tmp_path: Path) -> None:
    """A cancellation of a run at rest is in the journal as it must be: counted, accounted for, and sealed."""
    make_run(tmp_path, ["a", "b", "c", "d"]).close()

    requests = CancelRequest(tasks=("a",)), CancelRequest(batches=("batch",))
    cancelled = [cancel_at_rest(tmp_path, request) for request in requests]

    assert cancelled == [1, 3]
    assert [check.violations for check in audit_run(tmp_path).checks if check.violations] == []


def test_a_run_that_is_worked_on_is_not_touched(tmp_path: Path) -> None:
    """Nobody cancels tasks while another process works on the run."""
    make_run(tmp_path, ["a"]).close()
    lock = RunLock(tmp_path)

    with pytest.raises(RunFolderRefused, match="works on the run"):
        cancel_at_rest(tmp_path, CancelRequest(whole_run=True))

    lock.close()
    assert states(tmp_path) == {"a": "pending"}


def test_a_folder_without_a_run_gets_none(tmp_path: Path) -> None:
    """Cancelling in a folder that holds no run does not make one."""
    with pytest.raises(JournalDamaged, match="is no run folder"):
        cancel_at_rest(tmp_path, CancelRequest(whole_run=True))
    assert list(tmp_path.iterdir()) == []
