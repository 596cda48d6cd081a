"""`run`: a batch goes in, Results come out; `submit`: the same in the background."""

from __future__ import annotations

import contextlib
import logging
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dfz_ray.domains.registry import REGISTRY
from dfz_ray.errors import InvalidInput, Problem, RunFolderRefused
from dfz_ray.handle import BatchHandle
from dfz_ray.journal.folder import RunFolder
from dfz_ray.journal.reader import JournalReader
from dfz_ray.progress import Tell, show_progress
from dfz_ray.results import Results
from dfz_ray.specs.batch import Batch
from dfz_ray.specs.batch_checks import read_batch
from dfz_ray.specs.encoding import plain
from dfz_ray.specs.problems import show
from dfz_ray.specs.settings import AUTO, MaxWorkers, Settings, read_settings
from dfz_ray.specs.states import STATES

if TYPE_CHECKING:
    from dfz_ray.driver.manager_client import ManagerClient
    from dfz_ray.protocol.submission import ShippedDomain

logger = logging.getLogger("dfz_ray")

POLL_S = 0.5
"""How often the bar moves; the end is told at once."""

Source = str | Path | Mapping[str, Any] | Iterable[Any]


def run(
    batch: Source,
    *,
    max_workers: MaxWorkers = None,
    run_dir: str | Path | None = None,
    address: str | None = None,
    use_threads: bool = False,
    progress: bool | Tell | None = None,
    retry_failed: bool = False,
    config: str | Path | Mapping[str, Any] | Settings | None = None,
) -> Results:
    """Run a batch to its end.

    With the folder of a run that has not ended, whatever ended it, this goes on with it: tasks that have an outcome are
    not run again, and those of the batch that the run does not know yet are added to it.

    Args:
        batch: the path of a YAML or JSON file, the same as a dict, or a list of tasks.
        max_workers: how many tasks may execute at once; None: as many as the cluster holds; `auto`: by what pays.
        run_dir: the folder of the run; None: a temporary one, which is kept only if a task does not complete.
        address: which Ray: host:port, `auto`, or `local` for an embedded one; None looks for one.
        use_threads: tasks share the processes that the cluster holds, on threads: for work that waits.
        progress: None shows a bar where stderr is a terminal, True and False say so; a callable receives the counts.
        retry_failed: make the failed tasks of a run that goes on due again.
        config: a configuration file, the same as a dict, or Settings.

    Returns:
        Results. A task that fails is a record with an error, never an exception.

    Raises:
        InvalidInput: with all that is wrong; nothing was started.
        RunFolderRefused: the folder holds something else, other tasks of the same ids, or a run that a live process
            works on.
        ClusterUnusable: there is no Ray at the address.
        InfrastructureLost: the run could not go on.
        KeyboardInterrupt: what had ended is committed, and in the run folder.
    """
    settings = config if isinstance(config, Settings) else read_settings(config)
    slots = check_slots(max_workers if max_workers is not None else settings.max_workers)
    checked = read_batch(batch, REGISTRY, settings.resources, settings.policy)
    return run_checked(
        checked,
        settings,
        slots=slots,
        run_dir=run_dir,
        address=address,
        use_threads=use_threads,
        progress=progress,
        retry_failed=retry_failed,
    )


def submit(
    batch: Source,
    *,
    max_workers: MaxWorkers = None,
    run_dir: str | Path | None = None,
    address: str | None = None,
    use_threads: bool = False,
    progress: bool | Tell | None = False,
    retry_failed: bool = False,
    config: str | Path | Mapping[str, Any] | Settings | None = None,
) -> BatchHandle:
    """Run a batch in the background: as `run`, but this returns at once.

    A process that exits before the end interrupts the run, which can be gone on with.

    Args:
        batch: as for `run`, and so are the others.
        max_workers: how many tasks may execute at once.
        run_dir: the folder of the run.
        address: which Ray.
        use_threads: whether tasks share processes, on threads.
        progress: True shows a bar; a callable receives the counts, in a thread of its own.
        retry_failed: make the failed tasks of a run that goes on due again.
        config: a configuration file, the same as a dict, or Settings.

    Returns:
        A handle, by which the tasks are watched, waited for and cancelled.

    Raises:
        InvalidInput: with all that is wrong; nothing was started.
    """
    settings = config if isinstance(config, Settings) else read_settings(config)
    slots = check_slots(max_workers if max_workers is not None else settings.max_workers)
    checked = read_batch(batch, REGISTRY, settings.resources, settings.policy)
    shown = contextlib.ExitStack()
    tell = shown.enter_context(show_progress(progress))
    given = (settings, slots, run_dir, address, use_threads, retry_failed)
    return _start(checked, *given, tells=True, tell=tell, on_end=shown.close)


def run_checked(
    batch: Batch | None,
    settings: Settings,
    *,
    slots: MaxWorkers = None,
    run_dir: str | Path | None = None,
    address: str | None = None,
    use_threads: bool = False,
    progress: bool | Tell | None = None,
    retry_failed: bool = False,
) -> Results:
    """`run`, with a batch that has been checked; None goes on with the run of the folder as it is."""
    if batch is None:
        _check_resumable(Path(run_dir or "."))
    tells = logger.isEnabledFor(logging.DEBUG)
    domains = shipped_domains(batch) if batch is not None else None  # what can't travel is told before anything starts
    given = (settings, slots, run_dir, address, use_threads, retry_failed)
    handle = _start(batch, *given, tells=tells, domains=domains)
    folder = Path(handle.run_dir)
    try:
        with show_progress(progress) as tell:
            while not handle.wait(POLL_S):
                tell(handle.counts)
            tell(handle.counts)
            return handle.results()
    except BaseException as error:
        handle.interrupt()
        if RunFolder(folder).holds_run() and not isinstance(error, RunFolderRefused):
            word = "interrupted" if isinstance(error, KeyboardInterrupt) else "the run did not end"
            print(f"{word}; what was committed is in {folder}, and goes on with: dfz resume {folder}", file=sys.stderr)
        raise


def _start(
    batch: Batch | None,
    settings: Settings,
    slots: MaxWorkers,
    run_dir: str | Path | None,
    address: str | None,
    use_threads: bool,
    retry_failed: bool,
    *,
    tells: bool,
    domains: Mapping[str, ShippedDomain] | None = None,
    tell: Tell | None = None,
    on_end: Callable[[], None] = lambda: None,
) -> BatchHandle:
    return BatchHandle(
        batch,
        settings,
        Path(tempfile.mkdtemp(prefix="dfz-run-")) if run_dir is None else Path(run_dir),
        is_temporary=run_dir is None,
        domains=domains,
        slots=slots,
        address=address,
        use_threads=use_threads,
        retry_failed=retry_failed,
        tells=tells,
        tell=tell,
        on_end=on_end,
    )


def _check_resumable(folder: Path) -> None:
    """Refuse what can't go on before Ray is started: a folder without a run, or with tasks of an unknown domain."""
    with JournalReader(folder) as journal:
        for name in journal.domains():
            REGISTRY.get(name)


def check_max_workers(value: Any) -> int | None:
    """The number of slots that was asked for.

    Raises:
        InvalidInput: it is no positive whole number.
    """
    number = plain(value)
    if number is not None and (not isinstance(number, int) or isinstance(number, bool) or number < 1):
        raise InvalidInput([Problem("max_workers", show(value), "a whole number of at least 1")], "max_workers")
    return number


def check_slots(value: Any) -> MaxWorkers:
    """The number of slots that was asked for, or `auto`.

    Raises:
        InvalidInput: it is neither.
    """
    if isinstance(value, str) and value != AUTO:
        raise InvalidInput([Problem("max_workers", show(value), f"a whole number, or {AUTO}")], "max_workers")
    return AUTO if isinstance(value, str) else check_max_workers(value)


def shipped_domains(batch: Batch) -> dict[str, ShippedDomain]:
    """The domains that a batch names, ready to travel.

    Raises:
        DfzError: one can't travel.
    """
    from dfz_ray.driver.domain_shipping import ship

    return {name: ship(REGISTRY.get(name)) for name in {task.domain for task in batch.tasks}}


def wait_for_end(handle: ManagerClient, tell: Tell) -> None:
    """Wait until all tasks of a run are in a final state."""
    counts: list[int] = []
    while sum(counts[2:]) < handle.tasks:
        counts = handle.progress(POLL_S)
        tell(dict(zip(STATES, counts, strict=True)))
