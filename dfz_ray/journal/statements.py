"""The statements of schema.sql, by name."""

from __future__ import annotations

import re
from importlib.resources import files

VERSION = 4
"""Of the schema: a journal of another one is refused."""

_BLOCK = re.compile(r"^-- name: (\w+)\n(.*?)(?=^-- name: |\Z)", re.MULTILINE | re.DOTALL)

STATEMENTS: dict[str, str] = dict(_BLOCK.findall(files(__package__).joinpath("schema.sql").read_text("utf-8")))
