"""`dfz cluster slurm`."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from importlib import resources
from pathlib import Path

import click

from dfz_ray.errors import ClusterUnusable, InvalidInput, Problem

TIME = re.compile(r"(\d+-)?\d+(:\d+){0,2}")
"""The times that Slurm understands: minutes, minutes:seconds, hours:minutes:seconds, or days before these."""


HERE = Path(sys.executable).parent
"""The programs of this Python's environment, which come first on the PATH of the job."""


@click.command("slurm")
@click.option("--nodes", type=click.IntRange(min=1), default=1, metavar="N", help="The number of nodes [1].")
@click.option(
    "--time", "time_limit", default="1:00:00", metavar="TIME", help="The time limit, as for sbatch [1:00:00]."
)
@click.option("--cpus", type=click.IntRange(min=1), metavar="N", help="CPUs of each node [as Slurm gives them].")
@click.option("--sbatch", "options", multiple=True, metavar="OPTION", help="One more option of sbatch, such as -pgpu.")
@click.option("--submit", is_flag=True, help="Submit the job instead of printing it.")
@click.argument("command", nargs=-1, required=True)
def slurm(
    nodes: int, time_limit: str, cpus: int | None, options: tuple[str, ...], submit: bool, command: tuple[str, ...]
) -> None:
    """Print a Slurm job that starts Ray on its nodes, runs COMMAND, and ends Ray; or submit it.

    Two minutes before its time limit the job is queued again, and the command goes on where it was. Examples:

    \b
        dfz cluster slurm --nodes 4 --time 2:00:00 -- dfz run batch.yaml
        dfz cluster slurm --nodes 4 --cpus 16 --sbatch=--partition=long --submit -- dfz run batch.yaml
        dfz cluster slurm --time 30 -- python benchmarks/scale.py --domain maze > study.sbatch
    """
    _check(time_limit, options, command)
    given = [f"--nodes={nodes}", f"--time={time_limit}", *([f"--cpus-per-task={cpus}"] if cpus else []), *options]
    script = _write_script(given, command)
    if not submit:
        click.echo(script, nl=False)
        return
    if shutil.which("sbatch") is None:
        raise ClusterUnusable(
            "no sbatch is on PATH: this machine submits no Slurm jobs; without --submit it is printed"
        )
    # By stdin, so that no file is left; the options of the command line come from the script's own lines.
    done = subprocess.run(["sbatch"], input=script, text=True, capture_output=True)  # noqa: S607, PLW1510
    if done.returncode:
        raise ClusterUnusable(f"sbatch refuses the job: {' '.join(done.stderr.split())}")
    click.echo(done.stdout, nl=False)


def _write_script(given: list[str], command: tuple[str, ...]) -> str:
    """The job's script: the one of cluster/slurm, with its options and its command in it."""
    text = resources.files("dfz_ray.cli").joinpath("dfz.sbatch").read_text()
    names = {option.partition("=")[0] for option in given}
    head, mark, body = text.partition("\nset -u\n")
    lines = [line for line in head.splitlines() if line.removeprefix("#SBATCH ").partition("=")[0] not in names]
    last = max(number for number, line in enumerate(lines) if line.startswith("#SBATCH"))
    lines[last + 1 : last + 1] = [f"#SBATCH {option}" for option in given]
    return "\n".join([*lines, f"{mark}PATH={shlex.quote(str(HERE))}:$PATH", f"set -- {shlex.join(command)}", body])


def _check(time_limit: str, options: tuple[str, ...], command: tuple[str, ...]) -> None:
    """Refuse what the job would fail of, hours after it was submitted. Raises InvalidInput."""
    problems = []
    if not TIME.fullmatch(time_limit):
        problems.append(
            Problem(
                "--time", repr(time_limit), "a time as for sbatch", "minutes, or hours:minutes:seconds, or days-hours"
            )
        )
    for option in options:
        if not option.startswith("-") or not option.isprintable():
            problems.append(
                Problem("--sbatch", repr(option), "an option of sbatch", "for example --sbatch=--exclusive")
            )
    if shutil.which(command[0], path=os.pathsep.join([str(HERE), os.environ.get("PATH", "")])) is None:
        problems.append(Problem("COMMAND", repr(command[0]), "a program on PATH", "for example dfz run batch.yaml"))
    if problems:
        raise InvalidInput(problems, "command line")
