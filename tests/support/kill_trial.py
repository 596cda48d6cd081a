"""One process of a run is killed or stopped at one moment; afterwards the run must be whole.

`Trial(...)` says what, `run_trial` does it; tests/ray/test_kills.py has a telling part of all trials, tests/chaos.py
all of them.
"""

from __future__ import annotations

import contextlib
import json
import random
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from dfz_ray.specs.states import FINAL
from support.audit_checker import check
from support.driver import BIN, Glance, Program, glance, wait_until, write_batch
from support.sender import check_incomplete, end_while_sending, send_the_rest

VICTIMS = ("driver", "manager", "worker", "raylet")
SIGNALS = ("SIGKILL", "SIGSTOP", "SIGTERM", "SIGINT")
PHASES = ("dispatching", "running", "committing", "recovering")
SENDING_SIGNALS, SENDING_TASKS = ("SIGKILL", "SIGTERM", "SIGINT"), 400_000
"""The signals that end a driver while it sends, and the tasks of its batch."""
TASKS = 300
STOPPED_S = 3.0
"""How long a process that is stopped stays so."""
ENOUGH = 60
"""From so many outcomes on a run is well under way."""
NOTICED_S = 120.0
"""A driver that has lost its node notices within this."""


class Trial(NamedTuple):
    """One way to disturb a run."""

    victim: str
    signal: str
    phase: str
    seed: int = 0

    def __str__(self) -> str:
        return f"{self.victim}-{self.signal}-{self.phase}-{self.seed}"


class Outcome(NamedTuple):
    """The end of the run that was disturbed."""

    hit_at: Glance
    """The journal when the signal was sent."""
    code: int
    """Exit code of the command that was disturbed."""
    ended_s: float
    """From the signal to the end of that command."""
    resumed: bool


def all_trials(seed: int = 0) -> list[Trial]:
    """The whole matrix."""
    trials = [Trial(victim, sign, phase, seed) for victim in VICTIMS for sign in SIGNALS for phase in PHASES]
    return trials + [Trial("driver", sign, "sending", seed) for sign in SENDING_SIGNALS]


def run_trial(trial: Trial, folder: Path, digest: str) -> Outcome:
    """Disturb a run, let it come to its end, and check that it is whole.

    Args:
        trial: what to do.
        folder: a new one, for the trial.
        digest: of an undisturbed run.

    Raises:
        AssertionError: something was lost, doubled or changed, or the run did not go on as it must.
    """
    if trial.phase == "sending":
        return run_sending_trial(trial, folder)
    draw = random.Random(str(trial))  # noqa: S311 - no secret
    write_batch(folder, TASKS)
    with opened(folder, trial.phase == "recovering") as program:
        target = find_target(program, trial, draw)
        hit_at, begun = glance(program.run), time.monotonic()
        strike(target, trial.signal)
        code = program.wait()
        ended_s = time.monotonic() - begun
        told = program.stderr
        resumed = code != 0
        check_end(trial, code, ended_s, told)
        if not resumed:
            program.close()
        else:
            with contextlib.closing(Program(folder, "resume")) as again:  # at once: the old manager may still live
                assert again.wait() == 0, f"the resume failed: {again.stderr}"
    check_whole(folder, digest)
    return Outcome(hit_at, code, ended_s, resumed)


def run_sending_trial(trial: Trial, folder: Path) -> Outcome:
    """End the driver while it sends; then all say that the run is incomplete, and name the command that mends it."""
    ended = end_while_sending(folder, trial.signal, SENDING_TASKS)
    hit_at, begun = glance(folder / "run"), time.monotonic()
    send_the_rest(folder, check_incomplete(folder, ended.sent, ended.tasks), ended.tasks)
    return Outcome(hit_at, ended.code, time.monotonic() - begun, resumed=True)


@contextlib.contextmanager
def opened(folder: Path, killed_before: bool) -> Iterator[Program]:
    """A run that has begun; or, on wish, the resume of one that was killed, with its whole Ray, in a commit."""
    program = Program(folder, "run")
    try:
        if killed_before:
            reach(program)
            (manager,) = program.find("manager")
            wait_for_commit(program.run)
            manager.kill()
            program.close()
            assert_no_violation(folder)
            program = Program(folder, "resume")
        yield program
    finally:
        program.close()


def find_target(program: Program, trial: Trial, draw: random.Random) -> psutil.Process:
    """Wait for the moment, and choose the process."""
    found: list[psutil.Process] = []

    def is_there() -> bool:
        found[:] = program.find(trial.victim)
        return bool(found)

    if trial.phase == "dispatching":
        reach(program, chunks=1)
    elif trial.phase == "recovering":
        reach(program, epoch=2)
    else:
        reach(program, outcomes=ENOUGH + draw.randrange(100))
    wait_until(is_there, f"there is a {trial.victim}", 120)
    target = draw.choice(sorted(found, key=lambda process: process.pid))
    if trial.phase == "committing":
        wait_for_commit(program.run)
    return target


def reach(program: Program, outcomes: int | None = None, chunks: int = 0, epoch: int = 0) -> None:
    """Wait until the journal has got so far; without a word, until the run is well under way."""
    if outcomes is None:
        outcomes = 0 if chunks or epoch else ENOUGH

    def is_reached() -> bool:
        assert program.process.poll() in (None, 0), program.stderr
        now = glance(program.run)
        return now.epoch >= epoch and now.chunks >= chunks and now.outcomes >= outcomes

    what = f"the journal has {outcomes} outcomes, {chunks} chunks, epoch {epoch}"
    wait_until(is_reached, what, 120, each_s=0.005)


def wait_for_commit(run: Path) -> None:
    """Return at the moment when something is written to the journal's log."""
    log = run / "run.sqlite-wal"

    def size() -> tuple[int, int]:
        try:
            status = log.stat()
        except OSError:
            return 0, 0
        return status.st_size, status.st_mtime_ns

    before = size()
    end = time.monotonic() + 30
    while size() == before:  # without a pause: a commit takes milliseconds
        assert time.monotonic() < end, "nothing is committed any more"


def strike(target: psutil.Process, name: str, stopped_s: float = STOPPED_S) -> None:
    """Send a signal; a process that is stopped comes back after a while."""
    target.send_signal(getattr(signal, name))
    if name == "SIGSTOP":
        time.sleep(stopped_s)  # not to wait for something: it is what is done to the process
        with contextlib.suppress(psutil.NoSuchProcess):
            target.send_signal(signal.SIGCONT)


def check_end(trial: Trial, code: int, ended_s: float, told: str) -> None:
    """The command that was disturbed has ended as it must."""
    assert "Traceback" not in told, told
    expected = {0}
    if trial.victim == "driver":
        expected = {"SIGKILL": {-9}, "SIGSTOP": {0}}.get(trial.signal, {130})
    elif trial.victim == "raylet" and trial.signal != "SIGSTOP":
        expected = {0, 1}  # 0 where the raylet takes no notice of the signal
        assert ended_s < NOTICED_S or code == 0, f"the loss of the node was noticed after {ended_s:.0f} s"
    assert code in expected, f"exit code {code}, not {expected}: {told}"
    if code == 1:
        assert "goes on with: dfz resume run" in told, told


def check_whole(folder: Path, digest: str, tasks: int = TASKS) -> None:
    """Every task has completed once, with the result of an undisturbed run, and both audits say so."""
    audit = assert_no_violation(folder)
    found = {check["name"]: check["looked_at"] for check in audit["checks"]}
    assert found["conservation"] == {
        "submitted": tasks,
        **{state.label: 0 for state in FINAL},
        "completed": tasks,
        "open": 0,
    }, found
    assert found["digest"]["digest"] == digest, "the results are not those of an undisturbed run"


def assert_no_violation(folder: Path) -> dict[str, Any]:
    """The audit of a run that no process works on, and the second opinion, find nothing."""
    done = subprocess.run([str(BIN / "dfz"), "audit", "run", "--json"], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, f"the audit says {done.returncode}: {done.stdout}{done.stderr}"
    violations = check(folder / "run")
    assert violations == [], violations
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def measure_undisturbed(folder: Path, tasks: int = TASKS, **options: Any) -> dict[str, Any]:
    """A run of the batch that nobody disturbs: what `dfz run --json` tells of it."""
    write_batch(folder, tasks, **options)
    with contextlib.closing(Program(folder, "run")) as program:
        assert program.wait() == 0, program.stderr
        told = program.summary()
    check_whole(folder, told["digest"], tasks)
    return told


def describe(outcome: Outcome) -> str:
    """An outcome in a line."""
    hit = outcome.hit_at
    after = "resumed" if outcome.resumed else "went on"
    return (
        f"epoch {hit.epoch}, {hit.outcomes} outcomes, {hit.commits} commits; exit code {outcome.code} after "
        f"{outcome.ended_s:.1f} s, {after}"
    )


def count_attempts(folder: Path) -> Counter[str]:
    """How often each task was tried, by `dfz results`."""
    done = subprocess.run([str(BIN / "dfz"), "results", "run", "--json"], cwd=folder, capture_output=True, text=True)
    return Counter({record["task_id"]: record["attempts"] for record in map(json.loads, done.stdout.splitlines())})
