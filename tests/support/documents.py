"""The examples of a page: its fenced blocks, run in order.

A `python` block is executed; all of a page share one namespace. Of an `sh` block the lines that begin with `dfz` are
executed, in this process; `# exit code N` at the end of a line says how one ends, else it is 0. A block whose first
line is a comment with the name of a file, `# NAME.yaml` or `# NAME.py`, is that file. A block marked `long` after its
language is left out, unless long ones are asked for. Blocks of other languages, or of none, are not run.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from support.command_line import dfz

FENCE = re.compile(r"^```(\w+)( long)?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FILE = re.compile(r"# ([\w-]+\.(?:yaml|py))\n")
EXIT_CODES = re.compile(r"# exit code (\d)(?: or (\d))?")


@dataclass(frozen=True)
class Block:
    """One fenced block."""

    language: str
    is_long: bool
    text: str
    line: int


def blocks_of(page: Path) -> list[Block]:
    """The fenced blocks of a page that name a language."""
    text = page.read_text()
    return [
        Block(found[1], bool(found[2]), found[3], text.count("\n", 0, found.start()) + 2)
        for found in FENCE.finditer(text)
    ]


def run_examples(page: Path, long: bool = False) -> int:
    """Run the examples of a page in the working directory; returns how many blocks did something."""
    namespace: dict[str, Any] = {"__name__": "__main__"}
    count = 0
    for block in blocks_of(page):
        if block.is_long and not long:
            continue
        if file := FILE.match(block.text):
            Path(file[1]).write_text(block.text)
        elif block.language == "python":
            code = "\n" * (block.line - 1) + block.text  # so that a traceback has the page's line
            exec(compile(code, str(page), "exec"), namespace)  # noqa: S102  the page is ours
        elif block.language == "sh":
            run_commands(page, block)
        else:
            continue
        count += 1
    return count


def run_commands(page: Path, block: Block) -> None:
    """Run the lines of a block that begin with `dfz`."""
    for number, line in enumerate(block.text.splitlines(), block.line):
        program, *words = shlex.split(line, comments=True) or [""]
        if program == "dfz":
            stated = EXIT_CODES.search(line)
            expected = {int(code) for code in stated.groups() if code} if stated else {0}
            code = dfz(*words)
            assert code in expected, f"{page.name}:{number}: {line}: exit code {code}"
