"""`dfz top`: a live screen of runs, read from their folders alone."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dfz_ray.cli import PATH
from dfz_ray.cli.run_argument import reading
from dfz_ray.errors import DfzError, RunFolderRefused
from dfz_ray.journal.folder import STATUS, RunFolder
from dfz_ray.journal.lock import LOCK, is_held
from dfz_ray.journal.reader import JournalReader
from dfz_ray.journal.run_activity import count_activity
from dfz_ray.journal.run_status import RunStatus, find_status
from dfz_ray.journal.sending import find_unsent

if TYPE_CHECKING:
    from dfz_ray.cli.top_screen import RunView

REFRESH_S = 1.0
"""The managers write their status once a second."""
PAPER_LINES = 60
"""Lines of a screen that is printed once."""


@click.command("top")
@click.argument("runs", metavar="[RUN]...", nargs=-1, type=PATH)
@click.option("--once", is_flag=True, help="Print one screen and end; so it is where the output is no terminal.")
@click.option("--config", metavar="FILE", type=PATH, help="Settings; they say where runs, and `last`, are looked for.")
def top(runs: tuple[str, ...], once: bool, config: str | None) -> int:
    """Watch runs on a live screen: each RUN, a run folder or `last`; without one, the runs at work, or else the last.

    It shows progress and the time left by domain and kind (`left` is a kind's share of it), failures by cause as they
    come, what each process does, and the load of the manager. It reads the run folders alone, which costs the runs
    nothing. Ctrl-C ends it. Examples:

    \b
        dfz top
        dfz top runs/first runs/second
        dfz top last --once
    """
    from rich.console import Console

    from dfz_ray.cli.top_screen import render

    console = Console(emoji=False, highlight=False, markup=False)
    find_folders = _make_finder(runs, config)
    screen = _Screen(find_folders)
    views = screen.look()
    if all(view.status is None for view in views):
        raise RunFolderRefused("; ".join(view.problem for view in views))
    if once or not console.is_terminal or console.is_dumb_terminal:
        console.print(render(views, console.width, PAPER_LINES * len(views), time.time()))
        return 0
    from rich.live import Live

    try:
        with Live(console=console, auto_refresh=False, screen=True) as live:
            while True:
                live.update(render(views, console.width, console.height, time.time()), refresh=True)
                time.sleep(REFRESH_S)
                views = screen.look()
    except KeyboardInterrupt:
        console.print(render(views, console.width, console.height, time.time()))
    return 0


def _make_finder(runs: Sequence[str], config: str | None) -> Callable[[], list[Path]]:
    """A function that finds the folders to show now."""
    if runs and "last" not in runs and config is None:
        named = list(map(Path, runs))  # without reading the settings, which takes longer than most commands
        return lambda: named
    from dfz_ray.journal.last_run import find_run
    from dfz_ray.specs.settings import read_settings

    settings = read_settings(config)
    if runs:
        named = [find_run(run, settings) for run in runs]
        return lambda: named
    base = Path(settings.journal.runs_folder)

    def find_at_work() -> list[Path]:
        found = sorted(path.parent for path in base.glob(f"*/{LOCK}") if is_held(path.parent))
        return found or [find_run("last", settings)]

    return find_at_work


class _Screen:
    """The runs that are shown; a run that is there no more keeps its last numbers."""

    def __init__(self, find_folders: Callable[[], list[Path]]) -> None:
        self._find_folders = find_folders
        self._watchers: dict[Path, _RunWatcher] = {}

    def look(self) -> list[RunView]:
        """The runs now."""
        folders = list(dict.fromkeys(self._find_folders()))
        return [self._watchers.setdefault(folder, _RunWatcher(folder)).look() for folder in folders]


class _RunWatcher:
    """Reads one run, as little as possible: of a run at work the status file, of another one the journal, once."""

    def __init__(self, folder: Path) -> None:
        from dfz_ray.cli.top_screen import RunView

        self._folder = folder
        self._view = RunView(folder, None)
        self._seen: Any = None

    def look(self) -> RunView:
        """The run now."""
        try:
            is_working, files = is_held(self._folder), self._stat()
            if is_working or files != self._seen or self._view.problem:
                with reading(self._folder):
                    self._view = self._read()
                self._seen = None if is_working else files
        except (DfzError, OSError) as error:
            self._view, self._seen = replace(self._view, problem=str(error)), None
        return self._view

    def _read(self) -> RunView:
        status = find_status(self._folder)
        unsent = () if status.working else tuple(one.describe(self._folder) for one in find_unsent(self._folder))
        return replace(self._view, status=self._complete(status), problem="", unsent=unsent)

    def _complete(self, status: RunStatus) -> RunStatus:
        """The status with an activity, which the journal gives if nobody works on the run."""
        if status.working or status.activity is not None:
            return status
        with JournalReader(self._folder) as journal:
            return replace(status, activity=count_activity(journal))

    def _stat(self) -> list[tuple[int, int] | None]:
        """Times and sizes of the files: another read of the same ones would find the same."""
        database = RunFolder(self._folder).database
        found: list[tuple[int, int] | None] = []
        for path in (database, database.with_name(f"{database.name}-wal"), self._folder / STATUS):
            try:
                about = path.stat()
            except OSError:  # opening the run will report it
                about = None
            # A reader leaves an empty log behind.
            found.append((about.st_mtime_ns, about.st_size) if about is not None and about.st_size else None)
        return found
