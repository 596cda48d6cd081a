"""The diagrams in ARCHITECTURE.md are those of the tables in the code."""

from __future__ import annotations

from pathlib import Path

import pytest

from dfz_ray.protocol.diagrams import BLOCKS

ARCHITECTURE = Path(__file__).parents[2] / "ARCHITECTURE.md"


@pytest.mark.parametrize("name", BLOCKS)
def test_the_diagram_is_the_one_of_the_table(name: str) -> None:
    """ARCHITECTURE.md shows each table as it is; `python -m dfz_ray.protocol.diagrams` prints what belongs there."""
    _, _, rest = ARCHITECTURE.read_text("utf-8").partition(f"<!-- {name} -->\n")
    block, _, _ = rest.partition(f"\n<!-- /{name} -->")

    assert block == BLOCKS[name]()
