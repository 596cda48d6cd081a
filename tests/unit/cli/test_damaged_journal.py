"""The commands that read a run whose journal holds values of another sort."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from support.command_line import dfz
from support.small_run import completed, failed, make_run

pytestmark = pytest.mark.usefixtures("working_folder")

COMMANDS = (
    ["results"],
    ["results", "--json"],
    ["status"],
    ["failures"],
    ["trace"],
    ["replay", "first"],
    ["top", "--once"],
    ["cancel", "first"],
)
"""Each gets the run as its first argument."""


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE blocks SET kinds = x'920707'",
        "UPDATE completions SET times = x'3132333435'",
        "UPDATE completions SET results = x'91c401c1'",
        "UPDATE completions SET results = x'9101'",
        "UPDATE completions SET results = x'90'",
        "UPDATE outcomes SET state = 9",
        "UPDATE outcomes SET reason = NULL, message = NULL",
        "UPDATE meta SET value = 'x' WHERE key = 'slots'",
        "INSERT INTO meta VALUES ('meant/x/y', '{}', 1)",
        "INSERT INTO outcomes VALUES (99, 3, NULL, 'exception', 'x', NULL, 1)",
    ],
)
def test_values_that_can_not_be_are_damage(damage: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A command shows what it can, or says in one line that the journal is damaged; none ends with a stack trace."""
    make_run(Path("run"), ["first", "second"], completed(0, {"x": 1}), failed(1, "exception", "no")).close()
    with sqlite3.connect("run/run.sqlite") as database:
        database.execute(damage)
    database.close()
    refused = 0
    for name, *others in COMMANDS:
        code = dfz(name, "run", *others)
        told = capsys.readouterr().err
        assert code in (0, 2)
        assert told.count("\n") == (1 if code else 0)
        refused += "`dfz audit run` says what was changed" in told or "can't be read" in told or "does not have" in told
    assert refused
