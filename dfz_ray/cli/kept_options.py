"""The options of a study that goes on, as its folder has kept them: somebody may have edited the file."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import click

from dfz_ray.errors import InvalidInput, Problem
from dfz_ray.scaling.study_folder import COUNTS, PLAN
from dfz_ray.specs.problems import show


def check_kept_options(
    command: click.Command, kept: Mapping[str, Any], not_kept: Collection[str], folder: Path
) -> None:
    """Raise InvalidInput with each option that is missing in the plan of a study, or that its command does not take."""
    problems = []
    for option in command.params:
        name = str(option.name)
        if name not in not_kept and (name not in kept or not _takes(option, kept[name], click.Context(command))):
            problems.append(Problem(f"options.{name}", show(kept.get(name)), f"a value that {option.opts[0]} takes"))
    if not isinstance(kept.get("command"), str):
        problems.append(Problem("options.command", show(kept.get("command")), "the command that began the study"))
    counts = kept[COUNTS]
    if not (isinstance(counts, tuple) and counts and all(type(count) is int and count > 0 for count in counts)):
        problems.append(Problem(COUNTS, show(counts), "whole numbers from 1 on"))
    if problems:
        raise InvalidInput(problems, str(folder / PLAN))


def _takes(option: click.Parameter, value: Any, context: click.Context) -> bool:
    """True if an option takes a value, and leaves it as it is."""
    if option.multiple:
        return isinstance(value, tuple) and all(isinstance(one, str) for one in value)
    is_flag = bool(getattr(option, "is_flag", False))
    if is_flag or isinstance(value, bool):
        return is_flag and isinstance(value, bool)
    if isinstance(value, int | float) and not isinstance(option.type, click.IntRange | click.FloatRange):
        return False
    try:
        return bool(option.type_cast_value(context, value) == value)
    except (click.UsageError, TypeError, ValueError, OverflowError):
        return False
