"""`dfz cancel`."""

from __future__ import annotations

import contextlib
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from dfz_ray.cli.run_argument import run_argument
from dfz_ray.errors import InvalidInput, Problem, RunFolderRefused
from dfz_ray.journal.lock import is_held

if TYPE_CHECKING:
    from dfz_ray.journal.cancel_requests import CancelRequest

POLL_S = 0.1


@click.command("cancel")
@run_argument
@click.argument("task_ids", nargs=-1, metavar="[TASK_ID]...")
@click.option(
    "--batch",
    "batches",
    multiple=True,
    metavar="NAME",
    help="Cancel the tasks of the batch of this name; may be repeated.",
)
@click.option("--all", "whole_run", is_flag=True, help="Cancel all tasks of the run.")
def cancel(folder: Path, task_ids: tuple[str, ...], batches: tuple[str, ...], whole_run: bool) -> int:
    """Cancel tasks of RUN, a run folder or `last`, whether a process works on it or not.

    Tasks that have ended are left as they are. The command ends when the cancellation is on disk. Examples:

    \b
        dfz cancel last task-17 task-18
        dfz cancel runs/first --batch demo
        dfz cancel last --all
    """
    from dfz_ray.journal.cancel_requests import CancelRequest, resolve
    from dfz_ray.journal.reader import JournalReader

    _check(task_ids, batches, whole_run)
    request = CancelRequest(tuple(dict.fromkeys(task_ids)), tuple(dict.fromkeys(batches)), whole_run)
    named = len(resolve(folder, request))
    with JournalReader(folder) as journal:
        before = journal.counts()["cancelled"]
        _cancel(folder, request)
        cancelled = min(named, journal.counts()["cancelled"] - before)
    noun = "task" if cancelled == 1 else "tasks"
    ended = f"; {named - cancelled:,} had ended already, and stay as they are" if named > cancelled else ""
    click.echo(f"{cancelled:,} {noun} cancelled{ended}")
    return 0


def _check(task_ids: tuple[str, ...], batches: tuple[str, ...], whole_run: bool) -> None:
    named = bool(task_ids or batches)
    if named and whole_run:
        problem = Problem("--all", "tasks or a batch beside it", "one of the two")
    elif not named and not whole_run:
        problem = Problem("TASK_ID", "nothing to cancel", "ids of tasks, --batch NAME, or --all for the whole run")
    else:
        return
    raise InvalidInput([problem], "dfz cancel")


def _cancel(folder: Path, request: CancelRequest) -> None:
    """Ask the process that works on the run. If there is none, or it ends meanwhile, cancel the tasks here."""
    from dfz_ray.journal.cancel_requests import cancel_at_rest

    while True:
        if is_held(folder) and _ask_manager(folder, request):
            return
        try:
            cancel_at_rest(folder, request)
        except RunFolderRefused:
            if not is_held(folder):
                raise
        else:
            return


def _ask_manager(folder: Path, request: CancelRequest) -> bool:
    """File the request and wait. Returns False if the process that works on the run ended without carrying it out."""
    from dfz_ray.journal.cancel_requests import file_request

    path: Path | None = None
    try:
        path = file_request(folder, request)
        with _waiting():
            while path.exists():
                if not is_held(folder):
                    return not _withdraw(path)
                time.sleep(POLL_S)
    except KeyboardInterrupt:
        if path is not None:
            _withdraw(path)
        raise
    return True


def _withdraw(path: Path) -> bool:
    """Take a request back. Returns False if it has been carried out."""
    try:
        path.unlink()
    except FileNotFoundError:
        return False
    return True


def _waiting() -> contextlib.AbstractContextManager[object]:
    from dfz_ray.progress import is_terminal

    if not is_terminal(sys.stderr):
        return contextlib.nullcontext()
    from rich.console import Console

    return Console(stderr=True).status("waiting for the process that works on the run; Ctrl-C takes the request back")
