"""Requests to cancel tasks: files in the run folder, which the manager picks up; and cancelling without a manager.

A request needs no Ray, works on a run at rest, and outlives the manager that should have met it.
"""

from __future__ import annotations

import itertools
import json
import logging
import os
import stat
import time
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dfz_ray.errors import InvalidInput, Problem, RunFolderRefused
from dfz_ray.journal.folder import REQUESTS, RunFolder, write_whole
from dfz_ray.journal.journal_file import roll_back_cut_off
from dfz_ray.journal.lock import is_held
from dfz_ray.journal.reader import JournalReader
from dfz_ray.journal.recovery import OpenedJournal, open_for_work
from dfz_ray.journal.regular_file import SMALL_BYTES, read_small, refuse_irregular
from dfz_ray.journal.writer import Group
from dfz_ray.specs.problems import nearest, show
from dfz_ray.specs.states import State

logger = logging.getLogger("dfz_ray")

HINT_TASKS = 10_000
"""The most ids among which the hint looks for a similar one."""


@dataclass(frozen=True)
class CancelRequest:
    """A request to cancel tasks, as far as they are open."""

    tasks: tuple[str, ...] = ()
    """By id."""
    batches: tuple[str, ...] = ()
    """All tasks of these batches."""
    whole_run: bool = False

    @property
    def scope(self) -> str:
        """The tasks to be cancelled, in a few words."""
        if self.whole_run:
            return "run"
        words = [f"batch {name}" for name in self.batches]
        if self.tasks:
            words.append(f"{len(self.tasks)} task{'s' if len(self.tasks) > 1 else ''}")
        return ", ".join(words)


def file_request(folder: Path, request: CancelRequest) -> Path:
    """Ask the manager of a run, which removes the file once it has carried out the request.

    Raises RunFolderRefused if the folder can't be written, or the request is too long.
    """
    path = folder / REQUESTS / f"{uuid.uuid4().hex}.json"
    content = json.dumps({"cancel": asdict(request)}).encode()
    if len(content) > SMALL_BYTES:
        raise RunFolderRefused(
            f"the request has {len(content)} bytes; expected at most {SMALL_BYTES}: name fewer tasks"
        )
    try:
        RunFolder(folder).refuse_irregular(writes=True)
        path.parent.mkdir(mode=0o700, exist_ok=True)
        write_whole(path, content, mode=0o600)
    except OSError as error:
        raise RunFolderRefused(f"{path.parent} can't be written: {error.strerror or error}") from None
    return path


def read_requests(folder: Path) -> list[tuple[Path, CancelRequest]]:
    """Read the waiting requests, the oldest first. The caller removes the file of a request once it is carried out.

    A file that is no request is removed and logged. Raises RunFolderRefused if a link takes the place of the folder.
    """
    try:
        refuse_irregular(folder / REQUESTS, (folder / REQUESTS).lstat(), writes=True, is_folder=True)
        with os.scandir(folder / REQUESTS) as entries:
            paths = [Path(entry.path) for entry in entries if entry.name.endswith(".json")]
    except FileNotFoundError:
        return []
    found = []
    for path in paths:
        try:
            status = path.lstat()
            if stat.S_ISDIR(status.st_mode):
                continue
            is_file = stat.S_ISREG(status.st_mode) and status.st_size <= SMALL_BYTES
            request = _parse(read_small(path)) if is_file else None
            if request is None:
                logger.warning("%s is no request, and has been removed", path)
                path.unlink()
            else:
                found.append((status.st_mtime_ns, path, request))
        except FileNotFoundError:  # the request was withdrawn
            continue
        except OSError as error:
            logger.warning("%s can't be read: %s", path, error.strerror or error)
    return [(path, request) for _, path, request in sorted(found, key=lambda one: one[:2])]


def _parse(content: bytes) -> CancelRequest | None:
    try:
        request = json.loads(content)["cancel"]
        tasks, batches, whole_run = request["tasks"], request["batches"], request["whole_run"]
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    if not (_are_texts(tasks) and _are_texts(batches) and isinstance(whole_run, bool)):
        return None
    return CancelRequest(tuple(tasks), tuple(batches), whole_run) if tasks or batches or whole_run else None


def _are_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def resolve(folder: Path, request: CancelRequest) -> set[int]:
    """The numbers of the tasks that a request names, in any state. Raises InvalidInput if it names unknown ones.

    A commit that a crash cut off is rolled back first.
    """
    roll_back_cut_off(RunFolder(folder))
    with JournalReader(folder) as journal:
        if request.whole_run:
            return set(range(journal.count_tasks()))
        numbers = journal.numbers_of(request.tasks)
        problems = [unknown_task(journal, task_id) for task_id in request.tasks if task_id not in numbers]
        known = journal.batches() if request.batches else []
        problems += [_unknown_batch(name, known) for name in request.batches if name not in known]
        if problems:
            raise InvalidInput(problems, str(folder))
        return set(numbers.values()).union(*map(journal.batch_tasks, request.batches))


def unknown_task(journal: JournalReader, task_id: str) -> Problem:
    """The problem of an id that the run does not have."""
    some = itertools.islice(journal.ids(), HINT_TASKS)
    return Problem("TASK_ID", show(task_id), "the id of a task of the run", nearest(task_id, some))


def _unknown_batch(name: str, known: Sequence[str]) -> Problem:
    shown = ", ".join(map(show, known[:10])) + (", ..." if len(known) > 10 else "")
    return Problem("--batch", show(name), f"the name of a batch of the run: {shown}", nearest(name, known))


def cancel_at_rest(folder: Path, request: CancelRequest) -> int:
    """Cancel open tasks of a run that no live process works on.

    Returns:
        The number of tasks that were open and are cancelled now.

    Raises:
        InvalidInput: the request names a task or a batch that the run does not have; nothing was done.
        RunFolderRefused: a live process works on the run, or the folder can't be written.
        JournalDamaged: the journal can't be read or written.
    """
    asked_at = time.time()
    targets = resolve(folder, request)
    if is_held(folder):  # don't wait for it to end: it can be asked itself
        raise RunFolderRefused(f"another process works on the run in {folder}")
    try:
        opened = open_for_work(folder, {})
    except OSError as error:
        raise RunFolderRefused(f"{folder} can't be written: {error.strerror or error}") from None
    try:
        open_tasks = sorted(targets - opened.recovered.settled.keys())
        if open_tasks:
            opened.writer.commit(_cancellation(opened, request, open_tasks, asked_at))
    finally:
        opened.writer.close()
        opened.lock.close()
    return len(open_tasks)


def _cancellation(opened: OpenedJournal, request: CancelRequest, numbers: Iterable[int], asked_at: float) -> Group:
    epoch = opened.writer.epoch
    message = f"on request ({request.scope}), while no process worked on the run"
    rows = [(number, State.CANCELLED, None, "cancelled", message, None) for number in numbers]
    return Group(outcomes=rows, cancels=[(opened.recovered.next_cancel, epoch, asked_at, request.scope, len(rows))])
