"""The statements of schema.sql by name, and the numbers that its columns hold."""

from __future__ import annotations

import re
from importlib.resources import files

VERSION = 4
"""The version of the schema. A journal of another version is refused."""

ATTEMPT_FAILED, ATTEMPT_LOST, ATTEMPT_SUPERSEDED = range(1, 4)
"""`attempts.outcome`; `outcomes.state` holds the numbers of `dfz_ray.specs.states.State`."""

_BLOCK = re.compile(r"^-- name: (\w+)\n(.*?)(?=^-- name: |\Z)", re.MULTILINE | re.DOTALL)

STATEMENTS: dict[str, str] = dict(_BLOCK.findall(files(__package__).joinpath("schema.sql").read_text("utf-8")))
