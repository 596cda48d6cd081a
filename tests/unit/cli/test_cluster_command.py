"""`dfz cluster`: the job that it writes, and what it refuses before anything starts."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from support.command_line import dfz

ROOT = Path(__file__).parents[3]


def test_the_job_has_the_options_and_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    """It is the script of cluster/slurm with the given options in place of its own, and a command that bash reads."""
    given = ("--nodes", "4", "--time", "2:00:00", "--cpus", "16", "--sbatch=--partition=long")
    assert dfz("cluster", "slurm", *given, "--", "dfz", "run", "my batch.yaml", "--json") == 0

    script = capsys.readouterr().out
    headers = [line.removeprefix("#SBATCH ") for line in script.splitlines() if line.startswith("#SBATCH ")]
    assert {"--nodes=4", "--time=2:00:00", "--cpus-per-task=16", "--partition=long", "--requeue"} <= {*headers}
    assert len({header.partition("=")[0] for header in headers}) == len(headers)
    assert "\nset -- dfz run 'my batch.yaml' --json\n" in script
    assert not subprocess.run(["bash", "-n"], input=script, text=True, capture_output=True).stderr


def test_the_script_of_the_package_is_the_one_in_cluster() -> None:
    """A wheel and a checkout have one script."""
    assert (ROOT / "cluster/slurm/dfz.sbatch").samefile(ROOT / "dfz_ray/cli/dfz.sbatch")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["slurm", "--time", "2h", "--", "dfz"],
            "--time: found '2h'; expected a time as for sbatch (minutes, or hours:",
        ),
        (["slurm", "--", "no-such-program"], "COMMAND: found 'no-such-program'; expected a program on PATH"),
        (["slurm", "--sbatch", "x\n", "--", "dfz"], r"--sbatch: found 'x\n'; expected an option of sbatch"),
        (["slurm", "--nodes", "2"], "Missing argument 'COMMAND...'"),
        (["local", "--nodes", "0"], "Invalid value for '--nodes': 0 is not in the range"),
        (["node", "shared", "--ports", "1-2"], "--ports: found '1-2'; expected FIRST-LAST"),
        (["node", "shared", "--head", "--bind", "ib9"], "--bind: found 'ib9'; expected an interface of this machine"),
        (["node", "shared", "--bind", "ib9"], "--bind: found 'ib9'; expected an interface of this machine"),  # at once
        (["noed"], "No such command 'noed'"),
    ],
)
def test_what_can_be_wrong_is_refused(
    arguments: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each message names the option, what was found, and what was expected; the exit code is 2."""
    monkeypatch.chdir(tmp_path)
    assert dfz("cluster", *arguments) == 2
    assert message in capsys.readouterr().err


def test_without_slurm_a_job_is_not_submitted(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message says that there is no sbatch; what sbatch refuses is passed on."""
    monkeypatch.setenv("PATH", str(tmp_path))
    assert dfz("cluster", "slurm", "--submit", "--", "dfz", "run", "batch.yaml") == 2
    assert "no sbatch is on PATH" in capsys.readouterr().err
    (tmp_path / "sbatch").write_text("#!/bin/sh\necho sbatch: error: Batch job submission failed >&2\nexit 1\n")
    (tmp_path / "sbatch").chmod(0o755)
    assert dfz("cluster", "slurm", "--submit", "--", "dfz", "run", "batch.yaml") == 2
    assert "sbatch refuses the job: sbatch: error: Batch job submission failed" in capsys.readouterr().err


def test_stop_says_that_nothing_runs(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where no local cluster runs, `--stop` is done at once; a folder too deep, or not one's own, is refused."""
    short = Path("/tmp") / f"d{os.getpid()}"  # noqa: S108 - paths of sockets are short
    short.mkdir()
    try:
        monkeypatch.setenv("RAY_TMPDIR", str(short))
        assert dfz("cluster", "local", "--stop") == 0
        assert capsys.readouterr().out == "no local cluster runs\n"
        for path in (short / f"dfz-{os.getuid()}").iterdir():
            path.unlink()
        (short / f"dfz-{os.getuid()}").rmdir()
        (short / f"dfz-{os.getuid()}").symlink_to("/tmp")  # noqa: S108
        assert dfz("cluster", "local") == 2
        assert f"{short}/dfz-{os.getuid()} is not this user's folder" in capsys.readouterr().err
    finally:
        for path in (short, *short.iterdir()):
            path.unlink() if path.is_symlink() else None
        short.rmdir()
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path / "deep"))
    assert dfz("cluster", "local", "--stop") == 2
    assert "RAY_TMPDIR: found" in capsys.readouterr().err
