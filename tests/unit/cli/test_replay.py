"""Running one task again in this process: its input, its report, and that it changes nothing."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support.small_run import completed, failed, make_run

from dfz_ray.cli import call, group
from dfz_ray.domains.registry import REGISTRY
from dfz_ray.specs.encoding import digest
from dfz_ray.specs.input_file import FileShelf

COINS = """
import asyncio
import numpy as np
from pathlib import Path
from dfz_ray import domain

@domain("coin", volatile=["seconds"])
def coin(flips: int = 10, mode: str = "", *, seed: int, threads: int) -> dict:
    print("flipping")
    if mode == "raise":
        return toss(flips)
    if mode == "exit":
        raise SystemExit("enough")
    if mode == "cancelled":
        raise asyncio.CancelledError("given up")
    if mode == "strange":
        return object()
    if mode == "stop":
        breakpoint()
    given = {"flips": flips, "seed": seed, "threads": threads}
    return {**given, "share": float("nan"), "n": np.int64(3), "seconds": id({})}

def toss(flips):
    raise ValueError(f"\\x1b[2J{flips} are too many")
"""
PARAMETERS: dict[str, dict[str, Any]] = {
    "same": {"flips": 3},
    "other": {"flips": 4},
    "open": {"flips": 5},
    "raise": {"flips": 6, "mode": "raise"},
    "exit": {"mode": "exit"},
    "cancelled": {"mode": "cancelled"},
    "strange": {"mode": "strange"},
    "stop": {"flips": 7, "mode": "stop"},
    "wrong": {"flip": 8},
}
RESULT = {"flips": 3, "seed": 1000, "threads": 4, "share": float("nan"), "n": 3}


@pytest.fixture(autouse=True)
def _own_domains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test has a working directory, and domains, of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(REGISTRY, "defined", {})
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "coins", raising=False)
    (tmp_path / "coins.py").write_text(COINS)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run of tasks of a user's domain, each with a way of its own to end."""
    outcomes = [
        completed(0, RESULT),
        completed(1, "something else"),
        failed(3, "exception", "ValueError"),
    ]
    make_run(
        tmp_path / "run", list(PARAMETERS), *outcomes, parameters=list(PARAMETERS.values()), resources='{"cpus": 4.0}'
    ).close()
    return tmp_path / "run"


def replay(*arguments: str) -> int:
    """The exit code of `dfz replay run ... --import coins.py`, in this process."""
    return call(group, ["replay", "run", *arguments, "--import", "coins.py"])


def replay_elsewhere(*arguments: str, typed: str = "") -> subprocess.CompletedProcess[str]:
    """The same in a process of its own, with something typed into it."""
    return subprocess.run(
        [sys.executable, "-m", "dfz_ray", "replay", "run", *arguments, "--import", "coins.py"],
        input=typed,
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_the_same_result(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A task gets its parameters, seed and threads again; stdout has its result alone, and stderr the verdict."""
    before = {path: path.read_bytes() for path in run.iterdir() if path.is_file()}

    assert replay("same") == 0

    told = capsys.readouterr()
    result = json.loads(told.out)
    assert result.pop("seconds") > 0
    assert result == {**RESULT, "share": "nan"}
    assert told.err == "flipping\nsame result as in the run\n"
    assert {path: path.read_bytes() for path in run.iterdir() if path.is_file()} == before


def test_another_result(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A result that differs from the run's ends with exit code 1 and both digests."""
    assert replay("other") == 1

    told = capsys.readouterr()
    assert json.loads(told.out)["flips"] == 4
    assert "the result differs from the run's: its digest is " in told.err
    assert digest("something else").hex() in told.err


def test_nothing_to_compare_with(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A task that the run has no result of is replayed as well."""
    assert replay("open") == 0
    assert capsys.readouterr().err.endswith("the run has no result of this task\n")


def test_an_exception_has_the_traceback_of_the_users_code(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The traceback begins in the user's code, and its message does nothing to the terminal."""
    assert replay("raise") == 1

    told = capsys.readouterr()
    assert told.out == ""
    lines = told.err.splitlines()
    assert lines[1] == "Traceback (most recent call last):"
    assert lines[2].endswith(", in coin")
    assert lines[-1] == "ValueError: \\x1b[2J6 are too many"
    assert "user_domain" not in told.err
    assert "replay.py" not in told.err


def test_a_task_that_ends_itself(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A task that exits has failed, as it has on a worker."""
    assert replay("exit") == 1
    assert capsys.readouterr().err.endswith("SystemExit: enough\n")


def test_a_task_that_is_cancelled_from_within(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An exception that is no Exception, such as asyncio's, is shown as any other: without the frames of dfz itself."""
    assert replay("cancelled") == 1

    told = capsys.readouterr().err
    assert told.endswith("CancelledError: given up\n")
    assert "replay.py" not in told


def test_a_result_that_can_not_be_stored(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A result that a run could not have stored is reported with its type."""
    assert replay("strange") == 1
    assert "the result: a value of type 'object' can't be stored" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["smae"], "run: TASK_ID: found 'smae'; expected the id of a task of the run (did you mean 'same'?)"),
        (["wrong"], "the task, as the run has it: parameters.flip: found an unknown key; expected one of flips, mode"),
        (["same", "--import", "no.py"], "--import: found 'no.py', which raises FileNotFoundError: there is no such"),
    ],
)
def test_what_can_not_be_replayed(
    arguments: list[str], message: str, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """An unknown task, parameters that the domain no longer takes, or a module that is not there: one clear line."""
    assert replay(*arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line


def test_a_domain_that_is_not_known_here(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A run of a user's domain is replayed with --import, and says so where that is missing."""
    assert call(group, ["replay", "run", "same"]) == 2
    assert "no domain 'coin' is known here: import the module that defines it (--import)" in capsys.readouterr().err


def test_a_breakpoint_works(run: Path) -> None:
    """A breakpoint() in the code stops there; the debugger obeys, and the task goes on or not."""
    went_on = replay_elsewhere("stop", typed="p flips * 100\nc\n")
    left = replay_elsewhere("stop", typed="q\n")

    assert went_on.returncode == 0
    assert "700" in went_on.stderr
    assert json.loads(went_on.stdout)["flips"] == 7
    assert (left.returncode, left.stdout) == (1, "")
    assert "Traceback" not in left.stderr


def test_the_debugger_where_the_exception_was_raised(run: Path) -> None:
    """`--debug` looks at an exception in the very frame that raised it."""
    done = replay_elsewhere("raise", "--debug", typed="p flips * 100\nq\n")

    assert done.returncode == 1
    assert "ValueError" in done.stderr
    assert "600" in done.stderr
    assert done.stdout == ""


def test_no_ray(run: Path) -> None:
    """A replay does not even load Ray."""
    program = (
        "import sys\nfrom dfz_ray.cli import call, group\n"
        "assert call(group, ['replay', 'run', 'same', '--import', 'coins.py']) == 0\n"
        "print(sorted(name for name in sys.modules if name.partition('.')[0] == 'ray'), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.stderr.endswith("same result as in the run\n[]\n")


def test_files_come_from_the_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A task that names a file gets the content that the run has kept, wherever the file is now."""
    (tmp_path / "my.map").write_text("type octile\nheight 2\nwidth 3\nmap\n...\n...\n")
    shelf = FileShelf(tmp_path)
    given = {"map_file": "my.map", "start": [0, 0], "goal": [2, 1]}
    parameters = REGISTRY.get("maze").parameters.model_validate(given, context=shelf).model_dump()
    (tmp_path / "my.map").unlink()
    make_run(tmp_path / "run", ["walk"], domain="maze", parameters=[parameters], files=shelf.contents).close()

    assert call(group, ["replay", "run", "walk"]) == 0
    assert json.loads(capsys.readouterr().out)["path_length"] > 0
