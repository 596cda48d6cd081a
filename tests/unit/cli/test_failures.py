"""Failures, grouped by cause."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from support.small_run import cancelled, completed, failed, make_run

from dfz_ray.cli import call, group
from dfz_ray.cli.failures import find_frame, group_failures, normalise
from dfz_ray.journal.record import Record, TaskError

TRACEBACK = """Traceback (most recent call last):
  File "/venv/lib/python3.11/site-packages/dfz_ray/domains/user_domain.py", line 120, in __call__
    return self._function(**given)
           ^^^^^^^^^^^^^^^^^^^^^^^
  File "{folder}/train.py", line 17, in fit
    solve(matrix)
  File "/venv/lib/python3.11/site-packages/numpy/linalg.py", line 99, in solve
    raise LinAlgError("Singular matrix")
numpy.linalg.LinAlgError: Singular matrix
"""


def record(number: int, message: str, traceback: str | None = None, **fields: Any) -> Record:
    """A failed task."""
    given: dict[str, Any] = {"domain": "coin", "kind": "coin of 3", "reason": "exception", **fields}
    error = TaskError(given["reason"], message, traceback)
    return Record(f"task-{number}", given["domain"], given["kind"], "failed", None, error, 1, 0.0, 1.0, "host-a")


def causes(records: Sequence[Record]) -> list[tuple[int, str]]:
    return [(one.count, one.signature) for one in group_failures(records)]


@pytest.mark.parametrize(
    ("message", "signature"),
    [
        ("ValueError: 17 is too large", "ValueError: <number> is too large"),
        ("loss is -1.5e-07 at step 1_000", "loss is <number> at step <number>"),
        ("shapes (3,4) and (5,) don't match", "shapes (<number>,<number>) and (<number>,) don't match"),
        ("range 3-5, layer2", "range <number>-<number>, layer<number>"),
        ("bad address 0x7ffe12ab", "bad address <hex>"),
        ("blob deadbeef01 is gone", "blob <hex> is gone"),
        ("job 6f9619ff-8b86-d011-b42d-00c04fc964ff died", "job <uuid> died"),
        ("KeyError: 'width'", "KeyError: <text>"),
        ('"a" is not `b`, and can\'t be', "<text> is not <text>, and can't be"),
        ("no file /data/run-17/set/labels.csv", "no file /data/*/set/labels.csv"),
        ("no file /scratch/tmpabcdefgh/x", "no file /scratch/*/x"),
        ("either/or", "either/or"),
        ("two\n  lines", "two lines"),
        ("the worker process died", "the worker process died"),
        ("decade facade", "decade facade"),
        ("", ""),
    ],
)
def test_what_differs_between_failures_of_one_cause(message: str, signature: str) -> None:
    """Numbers, ids, quoted texts and the variable parts of paths are left out of a message; its words stay."""
    assert normalise(message) == signature


def test_the_place_is_the_innermost_in_the_users_code() -> None:
    """Neither a library's frame nor ours is the place of a failure; the folder, which differs by node, is left out."""
    assert find_frame(TRACEBACK.format(folder="/home/me")) == "train.py:17 in fit"
    assert find_frame(TRACEBACK.format(folder="/var/ray/session_1/_ray_pkg_3f")) == "train.py:17 in fit"
    assert find_frame(TRACEBACK.format(folder=r"C:\me")) == "train.py:17 in fit"


def test_a_failure_outside_the_users_code_has_its_innermost_place() -> None:
    """If no frame is the user's, the innermost one is shown; without a traceback, none."""
    lines = [line for line in TRACEBACK.splitlines() if "train.py" not in line]
    assert find_frame("\n".join(lines)) == "linalg.py:99 in solve"
    assert find_frame("") == find_frame("no traceback") == ""


@pytest.mark.parametrize("folder", ["domains", "execution", "executor", "worker", "specs"])
def test_our_own_frames_are_never_the_users(folder: str) -> None:
    """A frame of any part of dfz_ray that calls users' code is passed over."""
    text = f'{TRACEBACK.format(folder="/a")}\n  File "/repo/dfz_ray/{folder}/code.py", line 1, in call\nOSError: no\n'

    assert find_frame(text) == "train.py:17 in fit"


def test_of_chained_exceptions_the_last_counts() -> None:
    """The place of an exception that was raised while another was handled is its own."""
    text = f"{TRACEBACK.format(folder='/a')}\nDuring handling of the above exception, another exception occurred:\n\n"
    text += 'Traceback (most recent call last):\n  File "/a/main.py", line 3, in clean_up\nOSError: no\n'
    assert find_frame(text) == "main.py:3 in clean_up"


def test_failures_of_one_cause_are_one_group() -> None:
    """Failures are grouped by reason, domain, message and place, the largest group first, with the first as example."""
    here, there = TRACEBACK.format(folder="/a"), TRACEBACK.format(folder="/b").replace("line 17", "line 18")
    records = [
        record(0, "took 3 s", reason="timeout"),
        *(record(number, f"bad {number}", here, kind=f"coin of {number % 2}") for number in range(1, 6)),
        record(6, "bad 6", there),
        record(7, "bad 7", here, domain="dice"),
        record(8, "took 4 s", reason="timeout"),
    ]

    largest, second, *others = group_failures(records)

    assert (largest.count, largest.reason, largest.domain) == (5, "exception", "coin")
    assert (largest.signature, largest.frame) == ("bad <number>", "train.py:17 in fit")
    assert (largest.example.task_id, dict(largest.kinds)) == ("task-1", {"coin of 1": 3, "coin of 0": 2})
    assert (second.count, second.reason, second.frame) == (2, "timeout", "")
    assert {(one.domain, one.frame) for one in others} == {
        ("coin", "train.py:18 in fit"),
        ("dice", "train.py:17 in fit"),
    }


@pytest.mark.long
def test_a_hundred_thousand_failures_take_two_seconds() -> None:
    """As many failures as a large run may have, no two with the same text, are grouped within two seconds."""
    trace = TRACEBACK.format(folder="/home/me")
    records = [
        record(number, f"LinAlgError: row {number} of '{number}.npy'", f"{trace}{number}") for number in range(100_000)
    ]

    began = time.process_time()
    found = causes(records)

    assert found == [(100_000, "LinAlgError: row <number> of <text>")]
    assert time.process_time() - began < 2


@pytest.mark.parametrize("text", ["'" * 5_000, "/a" * 5_000, "0x" * 5_000, "1e" * 5_000, "-" * 5_000, "ab12-" * 2_000])
def test_no_message_takes_long(text: str) -> None:
    """A message that looks like the beginning of much is dealt with as quickly as any other."""
    began = time.process_time()
    normalise(text)
    find_frame(f'File "{text}\n' * 10)
    find_frame('File "' * 3_000 + text)
    assert time.process_time() - began < 0.1


# --- the command ------------------------------------------------------------------------------------------------------


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run with failures of three causes, one of them in every second task."""
    folder = tmp_path / "run"
    trace = TRACEBACK.format(folder="/home/me")
    rows = [failed(number, "exception", f"bad {number}", trace) for number in range(0, 10, 2)]
    rows += [failed(1, "timeout", "took 3 s"), failed(3, "exception", "\x1b[2J[red]no[/red]\nluck", "\x1b[31m")]
    rows += [completed(5, 1), cancelled(7)]
    make_run(folder, [f"task-{number}" for number in range(9)] + ["\x1b]0;evil\x07"], *rows).close()
    return folder


def test_the_causes_are_shown(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each cause is shown with its number of failures, its place and an example; cancelled tasks are counted."""
    assert call(group, ["failures", str(run)]) == 0

    told = capsys.readouterr().out.splitlines()
    assert told[:3] == [
        "5 x exception in coin (coin of 3), at train.py:17 in fit",
        "    bad <number>",
        "    e.g. task-0: bad 0",
    ]
    assert told[-2:] == ["7 failed, of 3 causes", "1 cancelled"]
    assert not any("Traceback" in line for line in told)


def test_texts_of_the_users_do_nothing_to_the_terminal(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Control characters in messages and tracebacks are shown as escapes, and markup is shown as it is."""
    assert call(group, ["failures", str(run), "-v"]) == 0

    told = capsys.readouterr().out
    assert "\x1b" not in told
    assert "e.g. task-3: \\x1b[2J[red]no[/red]\n        luck" in told
    assert "        numpy.linalg.LinAlgError: Singular matrix" in told


def test_only_the_largest_groups_where_that_is_asked_for(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`--limit` shows the largest groups and says how much is left out."""
    assert call(group, ["failures", str(run), "--limit", "1"]) == 0
    assert "... and 2 more, of 2 causes: --limit 3 shows them" in capsys.readouterr().out


def test_failures_as_json(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`--json` prints one object with all there is to know of each group."""
    assert call(group, ["failures", str(run), "--json"]) == 0

    told = json.loads(capsys.readouterr().out)
    assert (told["failed"], told["cancelled"], len(told["groups"])) == (7, 1, 3)
    assert told["groups"][0] == {
        "count": 5,
        "reason": "exception",
        "domain": "coin",
        "kinds": {"coin of 3": 5},
        "signature": "bad <number>",
        "frame": "train.py:17 in fit",
        "example": {"task_id": "task-0", "message": "bad 0", "traceback": TRACEBACK.format(folder="/home/me")},
    }


def test_a_run_without_failures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of a run without failures exactly that is reported."""
    make_run(tmp_path, ["a", "b"], completed(0, 1)).close()
    assert call(group, ["failures", str(tmp_path)]) == 0
    assert capsys.readouterr().out == "no task failed\n"
