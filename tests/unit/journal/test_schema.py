"""The SQL of the journal: all of it is in one file, named, and used."""

from __future__ import annotations

import re
import sqlite3
from importlib.resources import files

from dfz_ray.journal.schema import STATEMENTS

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
        assert re.search(f"""["']{name}["']""", code), name
        if name != "schema":
            assert statement.count(";") == 1
            named = dict.fromkeys(re.findall(r":([a-z]+)", statement))
            connection.execute(f"EXPLAIN {statement}", named or (None,) * statement.count("?"))
    assert set(re.findall(r'(?:STATEMENTS\[|query\()"(\w+)"', code)) <= STATEMENTS.keys()
    connection.close()


def test_no_statement_is_written_elsewhere() -> None:
    """The code of the journal holds no SQL of its own but transactions and settings of the connection."""
    for module in MODULES:
        code = files("dfz_ray.journal").joinpath(module).read_text("utf-8")
        assert not re.search(r'"\s*(SELECT|INSERT|UPDATE|DELETE|CREATE|DROP)\b', code)
