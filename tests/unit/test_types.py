"""Type checkers understand what users write with dfz_ray."""

from __future__ import annotations

import functools
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

import dfz_ray

ROOT = Path(__file__).parents[2]
HERE = ROOT / "tests/support"
RIGHT, WRONG = HERE / "typed_user.py", HERE / "typed_wrong.py"
CHECKERS = {
    "mypy": ["mypy", "--strict", "--config-file=", "--follow-imports=silent", "--no-site-packages"],
    "pyright": ["pyright"],
}


@functools.cache
def check(checker: str) -> tuple[str, dict[str, set[int]]]:
    """Let a checker look at the files, out of reach of our settings: what it says, and in which lines of which file."""
    if checker == "pyright":
        pytest.importorskip("pyright", reason="pip install pyright")
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / file.name for file in (RIGHT, WRONG)]
        for file in files:
            file.write_text((HERE / file.name).read_text())
        # Checkers don't see what is installed editable.
        (Path(folder) / "pyrightconfig.json").write_text(json.dumps({"extraPaths": [str(ROOT)]}))
        command = [sys.executable, "-m", *CHECKERS[checker], *files]
        environment = {**os.environ, "MYPYPATH": str(ROOT)}
        done = subprocess.run(command, capture_output=True, text=True, cwd=folder, timeout=300, env=environment)
    said = done.stdout + done.stderr
    assert re.search(r"Found \d+ error|\d+ errors", said), said  # it has looked
    lines = {
        file.name: {int(line) for line in re.findall(rf"{re.escape(file.name)}:(\d+).*error", said)} for file in files
    }
    return said, lines


@pytest.mark.parametrize("checker", CHECKERS)
def test_right_use_is_right(checker: str) -> None:
    """Domains, tasks, run, submit, handles, results and the executor have the types that their users expect."""
    said, lines = check(checker)
    assert lines[RIGHT.name] == set(), said


@pytest.mark.parametrize("checker", CHECKERS)
def test_wrong_use_is_told(checker: str) -> None:
    """Wrong arguments and wrong results are found where they are, and nowhere else."""
    said, lines = check(checker)
    marked = {number for number, line in enumerate(WRONG.read_text().splitlines(), 1) if line.endswith("# wrong")}
    assert lines[WRONG.name] == marked, said


def test_the_package_says_that_it_is_typed() -> None:
    """py.typed lies in the package, so that checkers look at its annotations."""
    assert (Path(dfz_ray.__file__).parent / "py.typed").is_file()
