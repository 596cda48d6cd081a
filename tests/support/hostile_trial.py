"""Runs a few hostile tasks among many good ones, and checks that nobody but they has noticed.

`Trial(...)` says which, `HostileCluster` runs trials on one Ray, in a process of its own with all that it starts, and
makes a new one after a trial that failed. tests/ray/test_hostile.py has a telling part of all trials, tests/hostile.py
all of them.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import random
import shutil
import signal
import tempfile
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from dfz_ray.cli.printing import to_json
from dfz_ray.journal.reader import JournalReader
from dfz_ray.journal.record import Record
from dfz_ray.journal.run_audit import audit_run
from support.attempt_rows import charged_tasks
from support.audit_checker import check
from support.command_line import children_of_session
from support.driver import wait_until
from support.hostile_guest import expected_word
from support.hostile_tasks import all_deeds
from support.hostile_tasks.deed import COMPLETED

GOOD = 80
AT_ONCE = 3
"""So many hostile tasks are in a trial."""
LOGICAL_CPUS = 4
SLOTS = {False: 4, True: 8}
"""Slots with processes, and with threads."""
LIMIT_S = 180.0
"""A run of less than two seconds of work, whose every worker may die a few times, ends within this on any machine."""
START_S = 180.0
PATIENT_S = 120.0
"""The deadline of good tasks, where they have one."""


class Trial(NamedTuple):
    """Hostile tasks, and where they are tried."""

    names: tuple[str, ...]
    on_threads: bool
    seed: int = 0

    def __str__(self) -> str:
        return f"{'+'.join(self.names)} on {'threads' if self.on_threads else 'processes'}"


class End(NamedTuple):
    """The end of a trial."""

    became: dict[str, str]
    """By hostile task: completed, or the reason of its failure."""
    violations: list[str]
    took_s: float


def draw_trials(
    seed: int, modes: Sequence[bool], at_once: int = AT_ONCE, names: Sequence[str] | None = None
) -> list[Trial]:
    """Trials in which each hostile task is tried once with processes and once with threads."""
    trials = []
    for on_threads in modes:
        chosen = sorted(all_deeds()) if names is None else list(names)
        if names is None:
            random.Random(f"{seed} {on_threads}").shuffle(chosen)  # noqa: S311 - no secret
        starts = range(0, len(chosen), at_once)
        trials += [Trial(tuple(chosen[start : start + at_once]), on_threads, seed) for start in starts]
    return trials


def make_batch(trial: Trial) -> dict[str, Any]:
    """The batch of a trial: good tasks of some milliseconds, and the hostile ones somewhere among them."""
    draw = random.Random(f"{trial} {trial.seed}")  # noqa: S311 - no secret
    defaults = {"max_attempts": 2, "backoff": {"first_s": 0.05, "most_s": 0.2}}
    patient: dict[str, Any] = {"timeout_s": PATIENT_S} if draw.random() < 0.5 else {}
    tasks: list[dict[str, Any]] = []
    for number in range(GOOD):
        parameters = {"number": number, "ms": draw.randrange(2, 20)}
        tasks.append({"id": f"good-{number}", "parameters": parameters, "policy": patient})
    for name in trial.names:
        deadline_s = all_deeds()[name].deadline_s
        policy = patient if deadline_s is None else {"timeout_s": deadline_s}
        tasks.insert(draw.randrange(GOOD // 2), {"id": name, "parameters": {"deed": name}, "policy": policy})
    for task in tasks:
        task |= {"domain": "guest", "seed": draw.randrange(2**63)}
    return {"defaults": {"policy": defaults}, "tasks": tasks}


def make_settings(trial: Trial) -> dict[str, Any]:
    """The configuration of a trial: in some, leases are so short that a worker has several in a run."""
    draw = random.Random(f"settings of {trial} {trial.seed}")  # noqa: S311 - no secret
    return {"chunking": {"lease_s": draw.choice((0.1, 2.0))}}


class HostileCluster:
    """A Ray for trials, in a session of its own. It is started when it is needed, and anew after a failure."""

    def __init__(self, limit_s: float = LIMIT_S) -> None:
        self._limit_s = limit_s
        self._process: Any = None
        self._scratch = ""
        """The folder for its temporary files, Ray's among them; sockets are in it, so its name is short."""
        self._connection: Connection | None = None
        self._calm: dict[bool, Any] = {}
        self.before: list[Trial] = []
        """The trials that the workers of this Ray may have seen."""

    def run(self, trial: Trial, folder: Path) -> End:
        """Run a trial in a folder, which is new."""
        if self._connection is None:
            self._start()
        if trial.on_threads not in self._calm:
            self._learn_calm(trial.on_threads, folder.with_name(f"{folder.name}-calm"))
        calm, begun = self._calm[trial.on_threads], time.monotonic()
        told = self._ask(trial, folder)
        took_s = time.monotonic() - begun
        became, violations = look_at(folder, trial, calm)
        if told:
            violations.insert(0, told)
        if violations:
            self._replace_workers()
        else:
            self.before.append(trial)
        return End(became, violations, took_s)

    def _replace_workers(self) -> None:
        """Kill all workers, so that the next trial has new ones: those that there are may be harmed."""
        self.before = []
        if self._process is None:
            return
        for process in children_of_session(self._process.pid):
            with contextlib.suppress(psutil.Error):
                if "".join(process.cmdline()).startswith(("ray::dfz lease guest", "ray::IDLE")):
                    process.kill()

    def close(self) -> None:
        """End this Ray, with all that is left of it."""
        if self._process is None:
            return
        session = self._process.pid

        def left() -> list[psutil.Process]:
            for process in children_of_session(session):
                with contextlib.suppress(psutil.Error):
                    process.send_signal(signal.SIGKILL)
            return children_of_session(session)

        wait_until(lambda: not left(), "all processes of the session are gone")
        self._process.join()
        self._process = self._connection = None
        self._calm.clear()
        self.before = []
        shutil.rmtree(self._scratch, ignore_errors=True)

    def _start(self) -> None:
        self._scratch = tempfile.mkdtemp(prefix="dfz-h-")
        context = multiprocessing.get_context("spawn")
        self._connection, other = context.Pipe()
        self._process = context.Process(target=serve, args=(other, self._scratch), daemon=True)
        self._process.start()
        other.close()
        assert self._connection.poll(START_S), f"no Ray within {START_S:g} s"
        self._connection.recv()

    def _ask(self, trial: Trial, folder: Path) -> str:
        """Let the other process run the batch of a trial; returns what went wrong, if anything."""
        assert self._connection is not None
        options = {"use_threads": trial.on_threads, "max_workers": SLOTS[trial.on_threads]}
        self._connection.send((make_batch(trial), {**options, "run_dir": str(folder), "config": make_settings(trial)}))
        told = f"it did not end within {self._limit_s:g} s"
        try:
            if self._connection.poll(self._limit_s):
                return str(self._connection.recv())
        except EOFError:
            told = "its driver died"
        self.close()
        return told

    def _learn_calm(self, on_threads: bool, folder: Path) -> None:
        """Run good tasks alone: what they feel is what all good tasks must feel."""
        told = self._ask(Trial((), on_threads), folder)
        assert not told, f"without any hostile task: {told}"
        with JournalReader(folder) as journal:
            felt = [record.result["felt"] for record in journal.records()]
        assert all(one == felt[0] for one in felt), f"good tasks feel different things without any hostile one: {felt}"
        self._calm[on_threads] = felt[0]
        shutil.rmtree(folder)


def serve(connection: Connection, scratch: str) -> None:
    """Run batches as they are asked for, in a process of its own."""
    os.setsid()
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # `nohup` has all that it starts ignore it: a hostile task sends it
    os.environ.update(TMPDIR=scratch, PYTHONPATH=os.pathsep.join(str(Path(__file__).parents[up]) for up in (1, 2)))
    tempfile.tempdir = None
    out = os.open(Path(scratch, "output"), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(out, stream)
    from dfz_ray import run
    from dfz_ray.driver.connection import connect

    connect("local", logical_cpus=LOGICAL_CPUS)
    connection.send("")
    while True:
        try:
            batch, options = connection.recv()
        except EOFError:  # who asks has ended
            return
        try:
            run(batch, **options)
        except BaseException as error:
            lines = str(error).splitlines()
            connection.send(f"the run ended with {type(error).__name__}: {lines[0]} ... {' '.join(lines[-6:])}")
        else:
            connection.send("")


def look_at(folder: Path, trial: Trial, calm: Any) -> tuple[dict[str, str], list[str]]:
    """The ends of the hostile tasks of a trial, and all that must not be."""
    try:
        with JournalReader(folder) as journal:
            records = {record.task_id: record for record in journal.records()}
    except Exception as error:  # a run that was stopped at once, or whose journal is damaged
        return {}, [f"its journal can't be read: {type(error).__name__}: {error}"]
    became = {name: tell(records[name]) for name in trial.names if name in records}
    return became, [
        *find_harmed(records, make_batch(trial), calm),
        *find_unexpected(records, trial),
        *find_charged(folder, trial),
        *(f"audit: {text}" for one in audit_run(folder).checks for text in one.violations),
        *(f"second audit: {text}" for text in check(folder)),
    ]


def tell(record: Record) -> str:
    """Completed, or the reason why it is not."""
    return record.error.reason if record.error else record.status


def find_harmed(records: dict[str, Record], batch: dict[str, Any], calm: Any) -> list[str]:
    """Good tasks that did not complete, or not with their own result."""
    found: dict[str, list[str]] = {}
    for task in batch["tasks"]:
        if "deed" not in task["parameters"]:
            for text in find_harm(records.get(task["id"]), task, calm):
                found.setdefault(text, []).append(task["id"])
    return [f"{list_some(ids)}: {text}" for text, ids in found.items()]


def list_some(ids: Sequence[str]) -> str:
    """The first ids, and how many more there are."""
    return ", ".join(ids[:3]) + (f" and {len(ids) - 3} more" if len(ids) > 3 else "")


def find_harm(record: Record | None, task: dict[str, Any], calm: Any) -> list[str]:
    """All that is not as it must be with a good task."""
    if record is None or record.status != COMPLETED:
        return ["lost" if record is None else str(record.error or record.status)]
    result = record.result
    word = expected_word(task["parameters"]["number"], task["seed"])
    if not isinstance(result, dict) or result.get("word") != word:
        return [f"has the result {result!r}"]
    felt = {name: value for name, value in result["felt"].items() if value not in ("", calm[name])}
    return [f"felt another {name}: {show_change(calm[name], value)}" for name, value in felt.items()]


def show_change(calm: Any, felt: Any) -> str:
    """Two values; of lists only what differs."""
    if isinstance(calm, list) and isinstance(felt, list) and len(calm) == len(felt):
        pairs = [(was, now) for was, now in zip(calm, felt, strict=True) if was != now]
        calm, felt = [was for was, _ in pairs], [now for _, now in pairs]
    elif isinstance(calm, list) and isinstance(felt, list):
        calm, felt = [one for one in calm if one not in felt], [one for one in felt if one not in calm]
    return f"{felt!r}, not {calm!r}"


def find_unexpected(records: dict[str, Record], trial: Trial) -> list[str]:
    """Hostile tasks of which something became that must not."""
    found = []
    for name in trial.names:
        deed, record = all_deeds()[name], records.get(name)
        end = "lost" if record is None else tell(record)
        if record is None or end not in deed.may:
            why = f" ({str(record.error)[:500]})" if record and record.error else ""
            found.append(f"{name}: {end}, not {' or '.join(sorted(deed.may))}{why}")
        elif end == COMPLETED and not deed.own_result and record.result.get("deed") != name:
            found.append(f"{name} has the result {record.result!r}")
        elif not deed.is_heavy:
            try:
                to_json(record.to_dict())
            except Exception as error:
                found.append(f"{name} can't be shown: {type(error).__name__}: {error}")
    return found


def find_charged(folder: Path, trial: Trial) -> list[str]:
    """Tasks that paid an attempt for what others did."""
    if any(all_deeds()[name].strays for name in trial.names):
        return []
    charged = sorted(set(charged_tasks(folder)).difference(trial.names))
    return [f"{list_some(charged)}: charged an attempt"] if charged else []
