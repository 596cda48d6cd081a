"""Jobs on a real Slurm: they start a Ray of their own, go on where their time limit ended them, and leave nothing."""

from __future__ import annotations

import contextlib
import json
import os
import re
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from support.driver import completed, wait_until
from support.slurm_site import SlurmSite

from dfz_ray.journal.reader import JournalReader

ROOT = Path(__file__).parents[2]
SBATCH = str(ROOT / "cluster/slurm/dfz.sbatch")
SLOW = """
import time
from pathlib import Path
from dfz_ray import domain

@domain("slow")
def slow(gate: str = "", *, seed: int):
    time.sleep(0.1)
    while gate and not Path(gate).exists():
        time.sleep(0.05)
    return {"seed": seed}
"""
START_S = 240.0
"""Seconds in which a job has begun its command, also on a busy machine."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a batch, from which jobs are submitted."""
    (tmp_path / "slow.py").write_text(SLOW)
    (tmp_path / "slow.yaml").write_text("generate: [{domain: slow, count: 60}]")
    (tmp_path / "short.yaml").write_text("generate: [{domain: slow, count: 8}]")
    return tmp_path


class Job:
    """A job that was submitted."""

    def __init__(self, site: SlurmSite, folder: Path, number: str) -> None:
        self._site, self._folder, self.number = site, folder, number
        self._nodes = site.folder / f"dfz-{os.getuid()}"

    @property
    def output(self) -> str:
        """Its output, of all its starts."""
        path = self._folder / f"slurm-{self.number}.out"
        return path.read_text() if path.exists() else ""

    def fact(self, name: str) -> str:
        """What Slurm knows about it."""
        told = self._site.call("scontrol", "show", "job", "--oneliner", self.number)
        return dict(word.partition("=")[::2] for word in told.split()).get(name, "")

    def wait_until(self, condition: Callable[[], object], what: str, deadline_s: float = START_S) -> None:
        """Wait for a condition, with the output if it does not come."""
        try:
            wait_until(condition, what, deadline_s, each_s=0.2)
        except AssertionError as error:
            raise AssertionError(f"{error}; {self.fact('JobState')}; {self.output}") from None

    def wait_for_end(self, deadline_s: float = START_S) -> str:
        """Its final state."""
        ends = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL")
        self.wait_until(lambda: self.fact("JobState") in ends, "it has ended", deadline_s)
        return self.fact("JobState")

    def listening(self) -> set[str]:
        """The addresses at which its nodes listen."""
        found = set()
        for process in psutil.process_iter(["cmdline"]):
            if f"{self._nodes}/{self.number}-" in " ".join(process.info["cmdline"] or []):
                with contextlib.suppress(psutil.Error):
                    connections: list[Any] = process.net_connections("inet")
                    found |= {one.laddr.ip for one in connections if one.status == psutil.CONN_LISTEN}
        assert found
        return found

    def assert_nothing_left(self) -> None:
        """No process of it, no folder of its nodes on this machine, and no token beside its output."""

        def has_process() -> bool:
            return any(f"{self._nodes}/{self.number}-" in " ".join(args) for args in command_lines())

        self.wait_until(lambda: not has_process(), "its processes are gone", 30)
        assert not [*self._nodes.glob(f"{self.number}-*")], self.output
        assert not (self._folder / f".dfz-{self.number}").exists()


def command_lines() -> list[list[str]]:
    return [process.info["cmdline"] or [] for process in psutil.process_iter(["cmdline"])]


def submit(site: SlurmSite, folder: Path, *arguments: str) -> Job:
    """Submit a job whose nodes have no dashboard, which would take half a minute of this machine."""
    site.environment["DFZ_NODE_OPTIONS"] = "--no-dashboard"
    number = site.call("sbatch", "--parsable", "--cpus-per-task=1", *arguments, cwd=folder)
    return Job(site, folder, number)


def test_two_jobs_at_once_have_a_ray_each(slurm: SlurmSite, folder: Path) -> None:
    """A study and a run are at work at the same time on the same two nodes; both end well, and leave nothing behind."""
    study_command = ("python", str(ROOT / "benchmarks/scale.py"), "--batch", "short.yaml", "--import", "slow.py")
    study = submit(slurm, folder, SBATCH, *study_command, "--workers", "2", "--repeats", "2")
    run = submit(slurm, folder, SBATCH, "dfz", "run", "slow.yaml", "--import", "slow.py", "--run-dir", "run")
    for job in (study, run):
        job.wait_until(lambda job=job: "runs" in job.output, "its command runs")
    heads = re.findall(r"the head at (\S+),", study.output + run.output)

    assert (study.wait_for_end(), run.wait_for_end()) == ("COMPLETED", "COMPLETED"), study.output + run.output
    assert len(set(heads)) == 2
    (point,) = json.loads((folder / f"studies/slurm-{study.number}/summary.json").read_text())["points"]
    assert (point["workers"], point["served"], point["success_rate"]) == (2, 2, 1.0)
    with JournalReader(folder / "run") as journal:
        assert journal.counts()["completed"] == 60
    for job in (study, run):
        assert "on 2 nodes" in job.output
        job.assert_nothing_left()


def test_a_job_goes_on_after_its_time_limit(slurm: SlurmSite, folder: Path) -> None:
    """Before its time limit a job is interrupted and queued again; it goes on with its run, and the audit is fine.

    Meanwhile only its user can read its token, and Ray listens on loopback, since the job has one node.
    """
    gate = folder / "gate"  # most tasks wait for it, so that the time limit is sure to find them
    blocks = [{"domain": "slow", "count": 10}, {"domain": "slow", "count": 50, "parameters": {"gate": str(gate)}}]
    (folder / "slow.yaml").write_text(json.dumps({"generate": blocks}))
    limit = ("--nodes=1", "--time=3", "--signal=B:TERM@90")
    job = submit(slurm, folder, *limit, SBATCH, "dfz", "run", "slow.yaml", "--import", "slow.py")
    run = folder / f"runs/slurm-{job.number}"
    job.wait_until(lambda: completed(run) > 0, "tasks are completed")
    shared = folder / f".dfz-{job.number}"
    modes = [stat.S_IMODE(path.stat().st_mode) for path in (shared, shared / "token", shared / "address")]
    interfaces = job.listening()

    assert modes == [0o700, 0o600, 0o600]
    assert interfaces <= {"127.0.0.1", "::ffff:127.0.0.1", "::1"}
    job.wait_until(lambda: job.fact("Restarts") not in ("", "0"), "it is queued again")
    first = completed(run)
    gate.touch()
    slurm.call("scontrol", "update", f"JobId={job.number}", "TimeLimit=30")
    assert job.wait_for_end() == "COMPLETED", job.output
    assert "goes on then" in job.output
    audit = subprocess.run([sys.executable, "-m", "dfz_ray", "audit", str(run)], capture_output=True, text=True)
    assert audit.returncode == 0, audit.stdout
    assert (0 < first <= 10, completed(run)) == (True, 60)
    with JournalReader(run) as journal:
        assert {record.attempts for record in journal.records()} <= {1, 2}
    job.assert_nothing_left()


def test_a_cancelled_job_stays_cancelled(slurm: SlurmSite, folder: Path) -> None:
    """`dfz cluster slurm --submit` submits a job; `scancel` ends it for good, although that is a SIGTERM, too."""
    dfz = (sys.executable, "-m", "dfz_ray", "cluster", "slurm", "--nodes", "1", "--cpus", "1", "--submit", "--")
    slurm.environment["DFZ_NODE_OPTIONS"] = "--no-dashboard"
    said = slurm.call(*dfz, "dfz", "run", "slow.yaml", "--import", "slow.py", "--run-dir", "run", cwd=folder)
    job = Job(slurm, folder, said.split()[-1])
    job.wait_until(lambda: completed(folder / "run") > 0, "tasks are completed")
    slurm.call("scancel", job.number)

    assert job.wait_for_end() == "CANCELLED"
    job.wait_until(lambda: "slurmd" not in slurm.call("squeue", "--noheader"), "its processes have ended")
    assert job.fact("Restarts") == "0"
