"""How much the tests try that draw their cases: all of it in `make chaos`, a part in `make test`."""

from __future__ import annotations

import os

WHOLE = os.environ.get("DFZ_TESTS") == "whole"
PART = 6


def amount(whole: int) -> int:
    """The number of cases to draw: all of them, or in `make test` a sixth, at least one."""
    return whole if WHOLE else max(whole // PART, 1)
