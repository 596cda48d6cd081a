"""`dfz results`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from support.command_line import dfz, managed, started
from support.small_run import completed, make_run

pytestmark = pytest.mark.usefixtures("working_folder")


def test_results_of_a_run_that_goes_on(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Results can be read while a process works on the run: open tasks are pending."""
    with managed(run):
        assert dfz("results", str(run), "--json") == dfz("results", "last", "--state", "pending") == 0

    lines = capsys.readouterr().out.splitlines()
    assert [json.loads(line)["status"] for line in lines[:5]] == [
        "completed",
        "failed",
        "pending",
        "pending",
        "completed",
    ]
    assert [line.split()[-1] for line in lines[6:]] == ["pending", "pending"]


def test_results_are_limited_where_that_is_asked_for(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A table says how many rows it leaves out; lines are as many as were asked for."""
    assert dfz("results", "last", "--limit", "2") == dfz("results", "last", "--limit", "2", "--json") == 0

    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[:3]] == ["task", "first", "second"]
    assert lines[3] == "... and 3 more: --limit 5 shows all, --json prints them"
    assert [json.loads(line)["task_id"] for line in lines[4:]] == ["first", "second"]


def test_a_long_table_is_cut(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of a run of many tasks the table has the first thousand, and JSON has them all."""
    make_run(tmp_path / "run", [f"task-{number}" for number in range(1005)]).close()

    assert dfz("results", "run") == 0
    table = capsys.readouterr().out.splitlines()
    assert dfz("results", "run", "--json") == 0
    lines = capsys.readouterr().out.splitlines()

    assert len(table) == 1002
    assert table[-1].startswith("... and 5 more: --limit 1005")
    assert len(lines) == 1005


def test_a_score_may_be_anything(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A user's main_score that is no fraction is shown as it is."""
    scores = [None, "good", True, 3, 10**400, 0.5, float("nan")]
    rows = [completed(number, {"main_score": score}) for number, score in enumerate(scores)]
    make_run(tmp_path / "run", [str(number) for number in range(len(scores))], *rows).close()

    assert dfz("results", "run") == 0

    told = capsys.readouterr().out
    for words in ("main_score 'good'", "main_score True", "main_score 3", "main_score an integer", "main_score 0.5"):
        assert words in " ".join(told.split())


def test_what_has_not_converged_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A result that says that it has not converged shows this beside its score."""
    rows = [completed(number, {"main_score": 0.5, "converged": bool(number)}) for number in (0, 1)]
    make_run(tmp_path / "run", ["0", "1"], *rows).close()

    assert dfz("results", "run") == 0

    assert capsys.readouterr().out.count("main_score 0.5, not converged") == 1


def test_lines_that_nobody_reads_to_the_end(tmp_path: Path) -> None:
    """`dfz results --json | head` ends quietly, however many lines there are."""
    make_run(tmp_path / "run", [f"task-{number}" for number in range(5000)]).close()
    with started("results", "run", "--json") as reading:
        assert json.loads(reading.stdout.readline())["task_id"] == "task-0"
        reading.stdout.close()
        assert (reading.wait(), reading.stderr.read()) == (1, "")


def test_an_integer_may_have_any_length(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every result is printed, whole and right, also integers that Python does not write by itself."""
    long = 7**8000
    make_run(tmp_path / "run", ["a", "b", "c"], *(completed(at, [long, {"n": -long}, at]) for at in range(3))).close()

    assert dfz("results", "run", "--json") == dfz("results", "run") == 0

    *lines, _, _, _, _ = capsys.readouterr().out.splitlines()
    limit = sys.get_int_max_str_digits()
    sys.set_int_max_str_digits(0)
    try:
        assert [json.loads(line)["result"] for line in lines] == [[long, {"n": -long}, at] for at in range(3)]
    finally:
        sys.set_int_max_str_digits(limit)
    assert limit > 0


def test_keys_that_are_one_in_json_stay_two(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A mapping with the keys 1 and "1" is printed as pairs; no item of a result is lost."""
    mixed = {1: "number", "1": "text", 2: 7**8000}
    make_run(tmp_path / "run", ["a", "b"], completed(0, {"mixed": mixed}), completed(1, {1: "a", 2: "b"})).close()

    assert dfz("results", "run", "--json") == 0

    first, second = (line for line in capsys.readouterr().out.splitlines())
    assert '"result": {"mixed": [[1, "number"], ["1", "text"], [2, ' in first
    assert json.loads(second)["result"] == {"1": "a", "2": "b"}


def test_without_stdout_nothing_is_shown(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a shell has closed stdout (`>&-`), results are read as ever, and shown to nobody."""
    monkeypatch.setattr(sys, "stdout", None)
    assert dfz("results", "last") == dfz("results", "last", "--json") == 0


@pytest.mark.parametrize(
    ("option", "name", "there"), [("--domain", "coni", "coin"), ("--kind", "coin of 4", "coin of 3")]
)
def test_a_domain_or_a_kind_that_the_run_does_not_have(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], option: str, name: str, there: str
) -> None:
    """A misspelt name is refused, and those that the run has are named: an empty table would look like an answer."""
    make_run(tmp_path / "run", ["first"]).close()
    for others in ([], ["--json"]):
        assert dfz("results", "run", option, there, option, name, *others) == 2
        told = capsys.readouterr()
        assert told.out == ""
        assert (
            f"{option}: found {name!r}; expected one that the run has: {there!r} (did you mean {there!r}?)" in told.err
        )
        assert dfz("results", "run", option, there, *others) == 0
        assert "first" in capsys.readouterr().out


@pytest.mark.parametrize("encoding", ["ascii", "ascii:surrogateescape"])  # the latter is that of the locale C
def test_ids_are_shown_in_any_encoding(encoding: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where stdout takes ASCII alone, letters that it does not have come as escapes."""
    make_run(tmp_path / "run", ["é中"]).close()
    monkeypatch.setenv("PYTHONIOENCODING", encoding)
    with started("results", "run") as showing:
        out, err = showing.communicate()
    assert (showing.returncode, err) == (0, "")
    assert "\\xe9\\u4e2d" in out
