"""`dfz failures`: groups thousands of failures by a few signatures."""

from __future__ import annotations

import functools
import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click

from dfz_ray.cli.printing import safe, safe_line
from dfz_ray.cli.run_argument import run_argument
from dfz_ray.journal.failure_signature import MEMORY, normalise
from dfz_ray.journal.record import Record
from dfz_ray.specs.states import UNSUCCESSFUL, State

SHOWN_GROUPS = 20
SHOWN_LINES = 12
"""The most lines of an example's traceback that are shown, from its end."""

_FRAME = re.compile(r'File "(?P<file>[^"\n]+)", line (?P<line>\d+), in (?P<function>.+)')
_BEFORE_FRAME = " |+-"
"""The characters before a frame on its line, also in an exception group."""
_NOT_THE_USERS = re.compile(
    r"[/\\](?:site|dist)-packages[/\\]|[/\\]lib[/\\]python\d|^<frozen"
    r"|[/\\]dfz_ray[/\\](?:domains|execution|executor|worker|specs)[/\\]"
)
"""Files that are not the user's: of the standard library, of installed packages, and ours."""


@dataclass
class FailureGroup:
    """Failures with one signature."""

    reason: str
    domain: str
    signature: str
    frame: str
    example: Record
    count: int = 0
    kinds: Counter[str] = field(default_factory=Counter)

    def to_dict(self) -> dict[str, Any]:
        """The group as plain JSON data."""
        error = self.example.error
        return {
            "count": self.count,
            "reason": self.reason,
            "domain": self.domain,
            "kinds": dict(self.kinds.most_common()),
            "signature": self.signature,
            "frame": self.frame or None,
            "example": {
                "task_id": self.example.task_id,
                "message": error.message if error else "",
                "traceback": error.traceback if error else None,
            },
        }


def group_failures(failed: Iterable[Record]) -> list[FailureGroup]:
    """Group failures that have the same reason, place and words; the largest group first."""
    groups: dict[tuple[str, str, str, str], FailureGroup] = {}
    for record in failed:
        error = record.error
        message, traceback = (error.message or "", error.traceback or "") if error else ("", "")
        key = (error.reason if error else "", record.domain, normalise(message), find_frame(traceback))
        group = groups.get(key)
        if group is None:
            reason, domain, signature, frame = key
            group = groups[key] = FailureGroup(reason, domain, signature, frame, record)
        group.count += 1
        group.kinds[record.kind] += 1
    return sorted(groups.values(), key=lambda group: -group.count)


@functools.lru_cache(MEMORY)
def find_frame(traceback: str) -> str:
    """The innermost frame in the user's code, as `file.py:12 in function`; else the innermost frame; else ''.

    The file is named without its folder, which differs between nodes.
    """
    innermost = ""
    position = len(traceback)
    while (position := traceback.rfind('File "', 0, position)) >= 0:
        found = _FRAME.match(traceback, position)
        before = traceback[traceback.rfind("\n", 0, position) + 1 : position]
        if found is None or before.strip(_BEFORE_FRAME):
            continue
        name = found["file"].replace("\\", "/").rpartition("/")[2]
        frame = f"{name}:{found['line']} in {found['function']}"
        if not _NOT_THE_USERS.search(found["file"]):
            return frame
        innermost = innermost or frame
    return innermost


@click.command("failures")
@run_argument
@click.option("--limit", type=click.IntRange(1), metavar="N", help="How many groups to show: 20, and all with --json.")
@click.option("--verbose", "-v", is_flag=True, help="Show the end of each example's traceback.")
@click.option("--json", "as_json", is_flag=True, help="Print the counts and the groups as one JSON object.")
def failures(folder: Path, limit: int | None, verbose: bool, as_json: bool) -> int:
    """Show why tasks of RUN, a run folder or `last`, failed: one entry for each cause, however many tasks it hit.

    Failures are of one cause where reason, domain, place in the code and message are the same, but for numbers, ids,
    quoted texts and paths in the message. Examples:

    \b
        dfz failures last
        dfz failures runs/first --limit 3 -v
        dfz failures last --json
    """
    from dfz_ray.journal.reader import JournalReader

    with JournalReader(folder) as journal:
        records = journal.records()
        states = records.counts
        groups = group_failures(record for record in records.unsuccessful() if record.status != "cancelled")
    if as_json:
        shown = [group.to_dict() for group in groups[:limit]]
        click.echo(json.dumps({**{state.label: states[state.label] for state in UNSUCCESSFUL}, "groups": shown}))
        return 0
    limit = limit or SHOWN_GROUPS
    for group in groups[:limit]:
        _print_group(group, verbose)
    _print_rest(groups[limit:], len(groups), states)
    return 0


def _print_group(group: FailureGroup, verbose: bool) -> None:
    kinds = ", ".join(kind for kind, _ in group.kinds.most_common(3))
    more = f" and {len(group.kinds) - 3} more kinds" if len(group.kinds) > 3 else ""
    kinds_shown = "" if kinds == group.domain else f" ({safe_line(kinds)}{more})"
    frame = f", at {safe_line(group.frame)}" if group.frame else ""
    click.echo(f"{group.count:,} x {group.reason} in {safe_line(group.domain)}{kinds_shown}{frame}")
    click.echo(f"    {safe_line(group.signature)}")
    error = group.example.error
    message = safe(error.message if error else "").replace("\n", "\n        ")
    click.echo(f"    e.g. {safe_line(group.example.task_id)}: {message}")
    if verbose and error is not None and error.traceback:
        for line in error.traceback.splitlines()[-SHOWN_LINES:]:
            click.echo(f"        {safe(line)}")
    click.echo()


def _print_rest(hidden: list[FailureGroup], causes: int, states: Mapping[str, int]) -> None:
    if hidden:
        count = sum(group.count for group in hidden)
        click.echo(f"... and {count:,} more, of {len(hidden):,} causes: --limit {causes} shows them")
    labels = [state.label for state in UNSUCCESSFUL if state != State.CANCELLED and states[state.label]]
    if not labels:
        click.echo("no task failed")
    else:
        counts = ", ".join(f"{states[label]:,} {label}" for label in labels)
        click.echo(f"{counts}, of {causes:,} {'cause' if causes == 1 else 'causes'}")
    if states["cancelled"]:
        click.echo(f"{states['cancelled']:,} cancelled")
