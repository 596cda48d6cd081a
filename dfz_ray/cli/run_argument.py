"""RUN, the argument of the commands that read or change a run: a run folder, or `last`."""

from __future__ import annotations

import contextlib
import functools
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

from dfz_ray.cli import PATH
from dfz_ray.errors import JournalDamaged


def complete_run(_: click.Context, __: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The words that a shell offers for RUN: `last` and the runs of this folder, else any folder."""
    runs = sorted(str(database.parent) for database in Path("runs").glob("*/run.sqlite"))
    fitting = [CompletionItem(name) for name in ("last", *runs) if name.startswith(incomplete)]
    return fitting or [CompletionItem(incomplete, type="dir")]


def run_argument(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command that reads a run the argument RUN; what it can't read there is told as damage."""

    @functools.wraps(command)
    def read(folder: Path, **options: Any) -> Any:
        with reading(folder):
            return command(folder=folder, **options)

    return run_to_execute_argument(read)


def run_to_execute_argument(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the argument RUN and the option `--config`; it is called with `folder` instead of these.

    It executes users' code, whose errors are no damage of the run.
    """

    @click.argument("run", type=PATH, shell_complete=complete_run)
    @click.option("--config", metavar="FILE", type=PATH, help="Settings; they say where `last` is looked for.")
    @functools.wraps(command)
    def with_folder(run: str, config: str | None, **options: Any) -> Any:
        return command(folder=_find_folder(run, config), **options)

    return with_folder


@contextlib.contextmanager
def reading(folder: Path) -> Iterator[None]:
    """Raise JournalDamaged where what a journal holds is of another sort, out of range, or no number.

    SQLite finds damaged pages, but not a value that somebody has changed; only `dfz audit` compares the checksums.
    """
    try:
        yield
    except UnicodeEncodeError:  # the output's
        raise
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        found = f"{type(error).__name__}: {' '.join(str(error).split()):.200}"
        hint = f"`dfz audit {shlex.quote(str(folder))}` says what was changed"
        raise JournalDamaged(f"what the journal in {folder} holds can't be read ({found}); {hint}") from error


def _find_folder(run: str, config: str | None) -> Path:
    if run != "last" and config is None:
        return Path(run)  # without reading the settings, which takes longer than most commands
    from dfz_ray.journal.last_run import find_run
    from dfz_ray.specs.settings import read_settings

    return find_run(run, read_settings(config))
