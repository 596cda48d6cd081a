"""The folder of a study: its plan, written before the first trial, and its trials, appended as they end."""

from __future__ import annotations

import contextlib
import fcntl
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from dfz_ray.errors import InvalidInput, Problem
from dfz_ray.journal.folder import write_whole
from dfz_ray.scaling.measurement import Measurement

PLAN, TRIALS = "plan.json", "measurements.jsonl"
COUNTS = "worker_counts"
PATHS = ("batch", "config")
"""Options that are paths; they are kept absolute, so that a study can go on from another folder."""


def make_study_folder(
    output: str | None, options: Mapping[str, Any], digest: str, worker_counts: Sequence[int] = ()
) -> Path:
    """Make the folder of a new study, and write down its options, the digest of its plan, and its worker counts.

    The counts are kept because `--max-workers auto` might choose others the next time.

    Raises InvalidInput if the folder holds a study, or can't be made.
    """
    folder = Path(output) if output else Path("studies") / time.strftime("%Y%m%d-%H%M%S")
    check_unused(folder)
    kept = {name: str(Path(value).absolute()) if name in PATHS and value else value for name, value in options.items()}
    kept["modules"] = [
        str(Path(module).absolute()) if module.endswith(".py") else module for module in options["modules"]
    ]
    plan = {"options": kept, "digest": digest, "worker_counts": list(worker_counts)}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / TRIALS).touch()
        write_whole(folder / PLAN, json.dumps(plan, indent=2).encode())
    except OSError as error:
        problem = Problem("--output", repr(str(folder)), f"a folder that can be made ({error.strerror})")
        raise InvalidInput([problem], "command line") from None
    return folder


def check_unused(folder: Path) -> None:
    """Raise InvalidInput if the folder holds a study, or is none."""
    if folder.exists() and not folder.is_dir():
        problem = Problem("--output", repr(str(folder)), "a folder that can be made (it is a file)")
        raise InvalidInput([problem], "command line")
    if any((folder / name).exists() for name in ("summary.json", TRIALS, PLAN)):
        found = f"{str(folder)!r}, which holds a study"
        problem = Problem("--output", found, "a new folder, or --resume", "trials of two studies are never mixed")
        raise InvalidInput([problem], "command line")


def read_plan(folder: Path) -> dict[str, Any]:
    """The options of a study that was begun, and its worker counts. Raises InvalidInput if the folder holds none."""
    try:
        plan = json.loads((folder / PLAN).read_text())
        options = {**plan["options"], COUNTS: plan[COUNTS]}
        return {name: tuple(value) if isinstance(value, list) else value for name, value in options.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        problem = Problem("--resume", repr(str(folder)), "the folder of a study that was begun")
        raise InvalidInput([problem], "command line") from None


@contextlib.contextmanager
def hold_study(folder: Path) -> Iterator[None]:
    """Keep other processes from measuring the same study: each would slow the other's trials, and add its own.

    Raises InvalidInput if one does already.
    """
    with (folder / PLAN).open("rb") as plan:
        try:
            fcntl.flock(plan, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            found = f"{str(folder)!r}, which another process is measuring"
            raise InvalidInput(
                [Problem("--resume", found, "a study that nobody measures now")], "command line"
            ) from None
        except OSError:  # a file system without locks
            pass
        yield


def check_plan(folder: Path, digest: str) -> None:
    """Raise InvalidInput if the plan of a study that goes on has another digest than it was begun with.

    Its trials have the digest, too, but a study that was interrupted before the first one ended has none.
    """
    if json.loads((folder / PLAN).read_text()).get("digest") != digest:
        found = "other tasks, other code of their domains, another seed or other numbers of workers than it began with"
        hint = "put the batch file and the code back as they were, or begin a new study"
        raise InvalidInput([Problem("--resume", found, "the plan of a study, unchanged", hint)], "command line")


def read_trials(folder: Path, facts: Mapping[str, Any]) -> list[Measurement]:
    """The trials of a study that goes on, in the order in which they ran; a line that was cut off is removed.

    Raises InvalidInput if a trial is of another host, version or plan than `facts`, or is damaged.
    """
    path = folder / TRIALS
    lines, is_cut = read_lines(folder)
    if is_cut:
        write_whole(path, b"".join(line + b"\n" for line in lines))
    trials = []
    for number, line in enumerate(lines, 1):
        try:
            trials.append(Measurement(**json.loads(line)))
        except (ValueError, TypeError) as error:
            problem = Problem(f"line {number}", str(error), "a trial")
            raise InvalidInput([problem], str(path)) from None
    _check_same(trials, facts, path)
    _check_once(trials, path)
    return trials


def _check_once(trials: Sequence[Measurement], path: Path) -> None:
    """Raise InvalidInput if a trial is there twice: a repeat that counts twice makes intervals too narrow."""
    seen = set()
    for number, one in enumerate(trials, 1):
        trial = one.workers, one.mode, one.repeat
        if trial in seen:
            found = f"repeat {one.repeat} of {one.workers} workers once more"
            raise InvalidInput([Problem(f"line {number}", found, "each trial once", "remove the line")], str(path))
        seen.add(trial)


def read_lines(folder: Path) -> tuple[list[bytes], bool]:
    """The lines of the trials of a study, each whole; True if the file has another one, which was cut off.

    A process that is killed as it writes leaves such a line. Raises OSError if there is no file.
    """
    whole, _, cut = (folder / TRIALS).read_bytes().rpartition(b"\n")
    return whole.splitlines(), bool(cut)


def _check_same(trials: Sequence[Measurement], facts: Mapping[str, Any], path: Path) -> None:
    now = json.loads(json.dumps(facts))
    for trial in trials:
        before = trial.study or {}
        if different := [name for name in sorted(now.keys() | before.keys()) if now.get(name) != before.get(name)]:
            name = different[0]
            hint = "measurements of different hosts, versions or batches are never mixed; begin a new study"
            problem = Problem(name, f"{before.get(name)!r} in a trial", f"{now.get(name)!r}, as here and now", hint)
            raise InvalidInput([problem], str(path))
