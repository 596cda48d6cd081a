"""`run`: a batch goes in, Results come out."""

from __future__ import annotations

import contextlib
import functools
import logging
import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dfz_ray.domains.registry import REGISTRY
from dfz_ray.errors import DfzError, InvalidInput, ManagerLost, Problem, RunFolderRefused, TasksFailed
from dfz_ray.journal.folder import RunFolder
from dfz_ray.journal.reader import JournalReader
from dfz_ray.journal.record import STATES, Record
from dfz_ray.journal.record_table import RecordTable
from dfz_ray.progress import Tell, show_progress
from dfz_ray.specs.batch import Batch
from dfz_ray.specs.checking import read_batch
from dfz_ray.specs.encoding import plain
from dfz_ray.specs.problems import show
from dfz_ray.specs.resources import Resources
from dfz_ray.specs.settings import Settings, read_settings

if TYPE_CHECKING:
    import pandas

    from dfz_ray.runtime.run_handle import RunHandle
    from dfz_ray.runtime.submission import ShippedDomain

logger = logging.getLogger("dfz_ray")

POLL_S = 0.5
"""How often the bar moves; the end is told at once. Each look takes about 2 ms of a core."""
INTERRUPT_GRACE_S = 2.0
"""After an interrupt, how long running chunks may take to end before their workers are killed."""

MANAGERS_LIMIT = 10
"""When so many managers in a row have died before a task ended, something is wrong that another one will not mend."""

Source = str | Path | Mapping[str, Any] | Iterable[Any]


class Results(Sequence[Record]):
    """What came of a run: records in the order of submission, also by task id.

    Args:
        records: all of the run's.
        slots: how many tasks could execute at once.
        run_dir: the run folder, or None where a temporary one was used and everything completed.
    """

    def __init__(self, records: RecordTable, slots: int, run_dir: str | None) -> None:
        self._records = records
        self._slots = slots
        self.run_dir = run_dir
        self.counts = records.counts

    @functools.cached_property
    def metrics(self) -> dict[str, Any]:
        """How the run went; see `dfz_ray.journal.measures.measure`."""
        from dfz_ray.journal.measures import measure

        return measure(self._records.spans, self.counts, self._slots)

    @functools.cached_property
    def digest(self) -> str:
        """SHA-256 over the completed results, in hex; equal digests mean equal results."""
        return self._records.digest()

    def __contains__(self, key: object) -> bool:
        """Whether there is a task of that id; or a record, as in any sequence."""
        return key in self._records.positions if isinstance(key, str) else key in self._records

    def __len__(self) -> int:
        return len(self._records)

    def __iter__(self) -> Iterator[Record]:
        return iter(self._records)

    def __getitem__(self, key: Any) -> Any:
        """A record by its task's id (KeyError where there is none) or by position; a slice of records."""
        if isinstance(key, str):
            return self._records[self._records.positions[key]]
        return self._records[key]

    def values(self) -> list[Any]:
        """The results alone, in the order of submission.

        Raises:
            TasksFailed: a task did not complete.
        """
        if self.counts["completed"] < len(self):
            first = next(record for record in self._records if record.status != "completed")
            raise TasksFailed(self.counts, (first.task_id, str(first.error or first.status)), self.run_dir or "")
        return self._records.values()

    def to_pandas(self) -> pandas.DataFrame:
        """A table with a row for each task, and a column `result.<key>` for each key of a result."""
        import pandas

        rows = []
        for record in self._records:
            row = record.to_dict()
            result = record.result
            row["error"] = str(record.error) if record.error else None
            row |= {f"result.{key}": value for key, value in result.items()} if isinstance(result, dict) else {}
            if isinstance(result, dict):
                del row["result"]
            rows.append(row)
        return pandas.DataFrame(rows)

    def __repr__(self) -> str:
        told = ", ".join(f"{count} {state}" for state, count in self.counts.items() if count)
        seconds = self.metrics["total_duration"]
        took = f" in {seconds:.2f} s" if seconds is not None else ""
        return f"<Results: {told or 'no tasks'}{took}>"


def run(
    batch: Source,
    *,
    max_workers: int | None = None,
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
        max_workers: how many tasks may execute at once; None: as many as the cluster holds.
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
    slots = check_max_workers(max_workers if max_workers is not None else settings.max_workers)
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


def run_checked(
    batch: Batch | None,
    settings: Settings,
    *,
    slots: int | None = None,
    run_dir: str | Path | None = None,
    address: str | None = None,
    use_threads: bool = False,
    progress: bool | Tell | None = None,
    retry_failed: bool = False,
) -> Results:
    """`run`, with a batch that has been checked; None goes on with the run of the folder as it is."""
    from dfz_ray.runtime.connection import connect

    domains = shipped_domains(batch) if batch is not None else {}
    temporary = run_dir is None
    folder = Path(tempfile.mkdtemp(prefix="dfz-run-")) if run_dir is None else Path(run_dir)
    if batch is None:
        _check_resumable(folder)
    try:
        connect(address or settings.address)
        with show_progress(progress) as tell:
            slots = _work_until_done(folder, batch, domains, settings, slots, tell, retry_failed, use_threads)
    except BaseException as error:
        begun = RunFolder(folder).holds_run()
        if begun and not isinstance(error, RunFolderRefused):
            word = "interrupted" if isinstance(error, KeyboardInterrupt) else "the run did not end"
            print(f"{word}; what was committed is in {folder}, and goes on with: dfz resume {folder}", file=sys.stderr)
        elif temporary:
            shutil.rmtree(folder, ignore_errors=True)
        raise
    return read_results(folder, slots, temporary)


def _work_until_done(
    folder: Path,
    batch: Batch | None,
    domains: Mapping[str, ShippedDomain],
    settings: Settings,
    slots: int | None,
    tell: Tell,
    retry_failed: bool,
    use_threads: bool,
) -> int:
    """Open the run, submit the batch and wait for the end; where the manager dies, do it again: there is no other way.

    Returns:
        The number of slots.
    """
    from dfz_ray.runtime.run_handle import RunHandle, boot_workers, count_slots, share_slots

    managers, ended = 0, -1
    while True:
        handle = None
        try:
            shapes, tasks = _shapes_of(folder, batch)
            name, seed = (batch.name, batch.seed) if batch else ("", 0)
            given, width = slots or count_slots(shapes, tasks), 1
            if use_threads:
                given, width = share_slots(slots, shapes, tasks)
            handle = RunHandle(folder, name, given, settings, retry_failed, seed, width)
            if batch is not None:
                handle.submit(batch, domains)
            wait_for_end(handle, tell)
            handle.close()
            return handle.slots
        except ManagerLost as error:
            before, ended, retry_failed = ended, _count_ended(folder), False
            managers = managers + 1 if ended == before else 1
            if managers >= MANAGERS_LIMIT:
                raise
            logger.warning("%s; another one goes on with the run", error)
            if handle is not None:
                boot_workers(handle.slots)
        except BaseException:
            if handle is not None:
                with contextlib.suppress(DfzError):  # the manager may be what was lost
                    handle.close(INTERRUPT_GRACE_S)
            raise


def _count_ended(folder: Path) -> int:
    """How many tasks of a run are in a final state."""
    if not RunFolder(folder).holds_run():
        return 0
    with JournalReader(folder) as journal:
        return sum(list(journal.counts().values())[2:])


def _check_resumable(folder: Path) -> None:
    """Refuse what can't go on before Ray is started: a folder without a run, or with tasks of an unknown domain."""
    with JournalReader(folder) as journal:
        for name in journal.domains():
            REGISTRY.get(name)


def _shapes_of(folder: Path, batch: Batch | None) -> tuple[list[Resources], int]:
    """The shapes of a run's tasks, and how many tasks there are."""
    if batch is not None:
        shapes = {id(task.resources): task.resources for task in batch.tasks}  # tasks that are alike share the object
        return list({shape.key(): shape for shape in shapes.values()}.values()), len(batch.tasks)
    with JournalReader(folder) as journal:
        return [Resources.model_validate_json(shape) for shape in journal.shapes()], sum(journal.counts().values())


def check_max_workers(value: Any) -> int | None:
    """The number of slots that was asked for.

    Raises:
        InvalidInput: it is no positive whole number.
    """
    number = plain(value)
    if number is not None and (not isinstance(number, int) or isinstance(number, bool) or number < 1):
        raise InvalidInput([Problem("max_workers", show(value), "a whole number of at least 1")], "max_workers")
    return number


def shipped_domains(batch: Batch) -> dict[str, ShippedDomain]:
    """The domains that a batch names, ready to travel.

    Raises:
        DfzError: one can't travel.
    """
    from dfz_ray.runtime.run_handle import ship

    return {name: ship(REGISTRY.get(name)) for name in {task.domain for task in batch.tasks}}


def wait_for_end(handle: RunHandle, tell: Tell) -> None:
    """Wait until all tasks of a run are in a final state."""
    counts: list[int] = []
    while sum(counts[2:]) < handle.tasks:
        counts = handle.progress(POLL_S)
        tell(dict(zip(STATES, counts, strict=True)))


def read_results(folder: Path, slots: int | None = None, temporary: bool = False) -> Results:
    """The results of a run that has ended, from its folder; a temporary one is removed if all tasks completed."""
    with JournalReader(folder) as journal:
        records, all_slots = journal.table(), slots or int(journal.meta["slots"])
    keep = not temporary or records.counts["completed"] < len(records)
    if not keep:
        records.load()
    results = Results(records, all_slots, str(folder) if keep else None)
    if not keep:
        shutil.rmtree(folder, ignore_errors=True)
    elif temporary:
        print(f"not all tasks completed; the run is kept in {folder}", file=sys.stderr)
    return results
