"""`run`: a batch goes in, Results come out; `submit`: the same in the background."""

from __future__ import annotations

import contextlib
import logging
import shlex
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dfz_ray.domains.registry import REGISTRY
from dfz_ray.driver.listener import CountsListener
from dfz_ray.errors import DfzError, RunFolderRefused
from dfz_ray.handle import BatchHandle
from dfz_ray.journal.reader import JournalReader
from dfz_ray.journal.sending import read_unsent
from dfz_ray.progress import show_progress
from dfz_ray.results import Results
from dfz_ray.specs.batch import Batch
from dfz_ray.specs.batch_checks import read_batch
from dfz_ray.specs.run_config import ConfigSource, RunConfig
from dfz_ray.specs.settings import MaxWorkers

if TYPE_CHECKING:
    import numpy as np

    from dfz_ray.protocol.submission import ShippedDomain

logger = logging.getLogger("dfz_ray")

POLL_S = 0.5
"""Seconds between two moves of the bar; the end is noticed at once."""

Source = str | Path | Mapping[str, Any] | Iterable[Any]
"""A batch as users give it: a file, the same as a dict, or a list of tasks."""


def run(
    batch: Source,
    *,
    max_workers: MaxWorkers = None,
    run_dir: str | Path | None = None,
    address: str | None = None,
    use_threads: bool = False,
    progress: bool | CountsListener | None = None,
    retry_failed: bool = False,
    config: ConfigSource = None,
    shared: Mapping[str, np.ndarray[Any, Any]] | None = None,
) -> Results:
    """Run a batch to its end.

    In the folder of a run that was interrupted, the run goes on: tasks that have ended are not run again, and tasks of
    the batch that the run does not have yet are added to it.

    Args:
        batch: the path of a YAML or JSON file, the same as a dict, or a list of tasks.
        max_workers: how many tasks may execute at once; None: as many as the cluster holds; `auto`: as many as pay.
        run_dir: the run folder; None: a temporary one, which is kept only if a task does not complete.
        address: which Ray: host:port, `auto`, or `local` for an embedded one; None looks for one.
        use_threads: tasks share the processes that the cluster holds, on threads: for work that waits.
        progress: True shows a bar, False none, None one where stderr is a terminal; a callable receives the counts.
        retry_failed: the failed tasks of a run that goes on become due again.
        config: a configuration file, the same as a dict, or Settings.
        shared: arrays of NumPy by name, which tasks read with `get_shared(name)`. Each is written to the run folder,
            so that a run that goes on has it, and is once in the memory of each node. Do not change one before the end.

    Returns:
        Results. A task that fails is a record with an error, never an exception.

    Raises:
        InvalidInput: with everything that is wrong; nothing was started.
        RunFolderRefused: the folder holds something else, other tasks of the same ids, other shared arrays of the same
            names, or a run that a live process works on.
        ClusterUnusable: there is no Ray at the address.
        InfrastructureLost: the run could not go on.
        KeyboardInterrupt: the user interrupted it; tasks that had ended are in the run folder.
    """
    run_config = RunConfig.of(
        config,
        max_workers=max_workers,
        run_dir=run_dir,
        address=address,
        use_threads=use_threads,
        retry_failed=retry_failed,
        shared=shared,
    )
    return run_checked(_check(batch, run_config), run_config, progress=progress)


def submit(
    batch: Source,
    *,
    max_workers: MaxWorkers = None,
    run_dir: str | Path | None = None,
    address: str | None = None,
    use_threads: bool = False,
    progress: bool | CountsListener | None = False,
    retry_failed: bool = False,
    config: ConfigSource = None,
    shared: Mapping[str, np.ndarray[Any, Any]] | None = None,
) -> BatchHandle:
    """Run a batch in the background: as `run`, but this returns at once.

    A process that exits before the end interrupts the run, which can be resumed; it says so on stderr.

    Args:
        batch: the tasks, as for `run`.
        max_workers, run_dir, address, use_threads, retry_failed, config, shared: as for `run`.
        progress: True shows a bar; a callable receives the counts, in a thread of its own.

    Returns:
        A handle to watch the tasks, wait for them and cancel them.

    Raises:
        InvalidInput: with everything that is wrong; nothing was started.
    """
    run_config = RunConfig.of(
        config,
        max_workers=max_workers,
        run_dir=run_dir,
        address=address,
        use_threads=use_threads,
        retry_failed=retry_failed,
        shared=shared,
    )
    checked = _check(batch, run_config)
    shown = contextlib.ExitStack()
    on_counts = shown.enter_context(show_progress(progress))
    return BatchHandle(checked, run_config, on_counts=on_counts, on_end=shown.close)


def run_checked(batch: Batch | None, config: RunConfig, *, progress: bool | CountsListener | None = None) -> Results:
    """`run`, with a batch and a configuration that have been checked; without a batch the folder's run goes on."""
    handle = begin_checked(batch, config)
    folder = Path(handle.run_dir)
    try:
        return wait_for_results(handle, progress=progress)
    except BaseException as error:  # also a second Ctrl-C: the run is closed while the interpreter exits
        if not isinstance(error, RunFolderRefused) and (rest := _describe_rest(folder)):
            word = "interrupted" if isinstance(error, KeyboardInterrupt) else "the run did not end"
            print(f"{word}; what was committed is in {folder}, and {rest}", file=sys.stderr)
        raise


def begin_checked(batch: Batch | None, config: RunConfig) -> BatchHandle:
    """Begin the run of `run_checked`."""
    if batch is None:
        _check_resumable(config.run_dir or Path())
    # A domain that can't travel is refused before anything starts.
    domains = None if batch is None else shipped_domains(batch)
    return BatchHandle(batch, config, domains=domains, has_listener=logger.isEnabledFor(logging.DEBUG))


def wait_for_results(handle: BatchHandle, *, progress: bool | CountsListener | None = None) -> Results:
    """Wait until a run has ended; whatever interrupts that closes the run."""
    try:
        with show_progress(progress) as show:
            while not handle.wait(POLL_S):
                show(handle.counts)
            show(handle.counts)
            return handle.results()
    except BaseException:
        handle.interrupt()
        raise


def _describe_rest(folder: Path) -> str:
    """How a run goes on after its driver has failed; empty if there is no run, or none of its tasks is lacking."""
    with contextlib.suppress(DfzError), JournalReader(folder) as journal:
        if unsent := read_unsent(journal.query):
            return "; ".join(batch.describe(folder) for batch in unsent)
        if journal.counts()["pending"]:
            return f"goes on with: dfz resume {shlex.quote(str(folder))}"
    return ""


def _check(batch: Source, config: RunConfig) -> Batch:
    return read_batch(batch, REGISTRY, config.settings.resources, config.settings.policy)


def _check_resumable(folder: Path) -> None:
    """Refuse a run that can't go on before Ray is started: there is none, or it has tasks of an unknown domain."""
    with JournalReader(folder) as journal:
        for name in journal.domains():
            REGISTRY.get(name)


def shipped_domains(batch: Batch) -> dict[str, ShippedDomain]:
    """The domains that a batch names, ready to travel; raises DfzError if one can't."""
    from dfz_ray.driver.domain_shipping import ship

    return {name: ship(REGISTRY.get(name)) for name in batch.domains()}
