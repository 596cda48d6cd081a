"""`dfz scale`, which is also benchmarks/scale.py."""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import click

from dfz_ray.cli import EXIT_INTERRUPTED, EXIT_SOME_FAILED, PATH, FiniteRange, take_stdout
from dfz_ray.cli.options import address_option, config_option, import_option
from dfz_ray.cli.printing import tell_place
from dfz_ray.cli.scale_screen import print_study, show_progress, tell_forecast
from dfz_ray.errors import DfzError, InvalidInput, Problem
from dfz_ray.specs.settings import AUTO, WORKERS_LIMIT, Settings, read_settings
from dfz_ray.specs.task import SEED_LIMIT

if TYPE_CHECKING:
    from dfz_ray.scaling.measurement import Measurement, Mode, Scaling
    from dfz_ray.scaling.pilot import Pilot
    from dfz_ray.scaling.sequential import SequentialProgram
    from dfz_ray.scaling.stopping import Stopping
    from dfz_ray.scaling.study import Study
    from dfz_ray.scaling.study_plan import StudyPlan
    from dfz_ray.specs.batch import Batch

DEFAULT_COUNT = 20
ALSO_LATER = ("address", "time_limit", "efficiency", "price", "deadline")
"""Options that may be given, or given anew, as a study goes on: they change none of its trials. So may `--import`, for
modules of the study that are elsewhere now, or that somebody else has begun it with."""
NOT_KEPT = ("address", "output", "resume", "time_limit")
"""Options that are of one start of a study, not of its plan."""
NOT_OF_HOST = ("seed", "plan", "settings")
"""Facts that the trials of a study must share, and that say nothing about the host."""


@click.command("scale", context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option("--domain", metavar="NAME", help="Generated tasks of this domain [circuits, mazes and classifiers].")
@click.option("--count", type=click.IntRange(min=1), metavar="N", help=f"The number of these tasks [{DEFAULT_COUNT}].")
@click.option("--batch", metavar="FILE", type=PATH, help="The tasks of a batch file instead.")
@click.option("--workers", type=click.IntRange(1, WORKERS_LIMIT), metavar="N", help="Measure this number of workers.")
@click.option("--scaling-test", is_flag=True, help="Measure several numbers of workers (the default).")
@click.option(
    "--max-workers",
    metavar="N,N,...|auto",
    help="The numbers, such as 1,2,4,8; or auto [1,2,4 and so on to twice the cores, 128 at most].",
)
@click.option("--weak", is_flag=True, help="Weak scaling: each worker brings the whole batch once more.")
@click.option("--use-processes", is_flag=True, help="Each task that runs has a process (the default).")
@click.option("--use-threads", is_flag=True, help="Tasks share processes, on threads; with both, both are compared.")
@import_option
@click.option(
    "--repeats",
    type=click.IntRange(1, 1000),
    metavar="N",
    help="Measure each point so often [4 to 15 times, at least 5 with four points: until --target is reached].",
)
@click.option(
    "--target",
    type=FiniteRange(0, 100, min_open=True),
    metavar="PERCENT",
    help="Half the width of the 95 % interval at which repeats end [5]; outweighs study.repeats of --config.",
)
@click.option(
    "--time-limit",
    type=FiniteRange(0, min_open=True),
    metavar="SECONDS",
    help="Begin no trial that would end later than so many seconds after the first one began; numbers of workers that "
    "were never measured are named.",
)
@click.option(
    "--seed",
    type=click.IntRange(0, SEED_LIMIT - 1),
    metavar="N",
    help="Seed of the tasks and of the order of trials [0].",
)
@click.option(
    "--efficiency",
    type=FiniteRange(0, 100, min_open=True),
    metavar="PERCENT",
    help="Name the most workers that reach this efficiency [80].",
)
@click.option("--price", type=FiniteRange(0), metavar="P", help="The price of a core-hour, in any currency.")
@click.option(
    "--deadline",
    type=FiniteRange(0, min_open=True),
    metavar="SECONDS",
    help="Name the cheapest number of workers whose every repeat ends within it.",
)
@address_option
@click.option("--output", metavar="DIR", type=PATH, help="Where the files go [studies/<time>].")
@click.option("--resume", metavar="DIR", type=PATH, help="Go on with the interrupted study in this folder.")
@config_option
def scale(**options: Any) -> int:
    """Measure how a batch scales with the number of workers, and say how many are worth paying for.

    The same batch (with --weak, a batch that grows with the workers) is run by a sequential program without Ray and by
    every number of workers, several times, in a random order. Without options: a small study of circuits, mazes and
    classifiers, of some minutes. Examples:

    \b
        dfz scale --time-limit 150
        dfz scale --domain quantum --count 20 --workers 4
        dfz scale --domain quantum --count 20 --scaling-test --max-workers 1,2,4,8
        dfz scale --domain maze --count 20 --max-workers auto --price 0.05 --deadline 60
        dfz scale --domain maze --count 20 --weak
        dfz scale --batch my_batch.yaml --repeats 10 --output studies/mine
        dfz scale --resume studies/mine

    `--max-workers` lists the numbers to measure. With `auto` they are 1, 2, 4, ... to as many as the cores hold,
    beyond them for tasks that wait, and then numbers between, where the curve bends. `dfz run --max-workers auto` is
    something else: it finds a number while the tasks run, and proves nothing. `dfz plan` tells what a batch needs,
    without a study.
    """
    from dfz_ray.cli.domain_modules import ship_domain_modules
    from dfz_ray.cli.remembered_imports import remember_imports
    from dfz_ray.scaling.host import host_facts
    from dfz_ray.scaling.study_folder import TRIALS, check_plan, hold_study, make_study_folder, read_trials

    options, resumed = _check_options(options)
    imports = ship_domain_modules(options["modules"])
    settings = read_settings(options["config"])
    batch, seed = _read_batch(options, settings)
    host = host_facts()
    program, pilot, cores, out = None, None, 1, take_stdout()
    if not resumed:
        cores = _find_cores(options["address"] or settings.address)
        program, pilot = _try_batch(batch)
    with program or contextlib.nullcontext():
        plan, stopping = _make_plan(options, settings, batch, seed, pilot, cores)
        if resumed:
            check_plan(resumed, plan.digest)
        facts = {**host, "seed": plan.seed, "plan": plan.digest, "settings": _digest(settings)}
        options.setdefault("command", make_command(sys.argv))
        kept = {name: value for name, value in options.items() if name not in NOT_KEPT}
        folder = resumed or make_study_folder(options["output"], kept, plan.digest, plan.worker_counts)
        remember_imports(folder, imports)
        tell_place(folder)
        if pilot:
            tell_forecast(plan, stopping, pilot, cores, options["time_limit"])

        from dfz_ray.scaling.study import Study

        with hold_study(folder), Study(plan, settings, facts, options["address"], program, pilot) as study:
            measurements = read_trials(resumed, study.facts) if resumed else []
            ended = _measure(study, stopping, folder / TRIALS, measurements, options["time_limit"])
            if measurements:
                _write_and_print(measurements, study, folder, out, options)
            elif ended:
                found = f"{options['time_limit']:g} s, in which no trial ends"
                hint = f"{study.remarks[-1]}; go on: {_resume_command(folder)} --time-limit SECONDS"
                raise InvalidInput([Problem("--time-limit", found, "a longer one", hint)], "command line")
    return _conclude(ended, folder, measurements)


def _check_options(options: dict[str, Any]) -> tuple[dict[str, Any], Path | None]:
    """The options of the study, and its folder if it goes on.

    Everything that can be wrong with them is found here, before a task is tried, or Ray is started.
    """
    from dfz_ray.cli.domain_modules import find_trusted_modules
    from dfz_ray.cli.kept_options import check_kept_options
    from dfz_ray.scaling.study_folder import check_unused, read_plan
    from dfz_ray.scaling.study_plan import parse_worker_counts

    _check_together(options)
    resumed = _find_resumed(options)
    if resumed:
        now = {name: options[name] for name in ALSO_LATER if options[name] is not None}
        kept = read_plan(resumed)
        check_kept_options(scale, kept, NOT_KEPT, resumed)
        modules = find_trusted_modules(resumed, kept["modules"], options["modules"])
        return {**kept, "address": None, "time_limit": None, **now, "modules": modules}, resumed
    if options["max_workers"] not in (None, AUTO):
        parse_worker_counts(options["max_workers"])
    if options["output"]:
        check_unused(Path(options["output"]))
    return options, None


def make_command(argv: Sequence[str]) -> str:
    """The command that makes a study again, in a folder of its own."""
    words = ["dfz", *(["scale"] if "scale.py" in argv[0] else []), *argv[1:]]
    places = [at for at, word in enumerate(words) if word == "--output"]
    kept = [word for at, word in enumerate(words) if at not in places and at - 1 not in places]
    return shlex.join(word for word in kept if not word.startswith("--output="))


def _digest(settings: Settings) -> str:
    """SHA-256 of the settings that the trials of a study share."""
    return hashlib.sha256(settings.model_dump_json(exclude={"study", "address"}).encode()).hexdigest()


def _conclude(ended: bool, folder: Path, measurements: list[Measurement]) -> int:
    """The exit code of a study; where the user has interrupted it, say how it goes on."""
    if not ended:
        again = _resume_command(folder)
        click.echo(f"interrupted after {len(measurements)} trials; they are in {folder}; go on: {again}", err=True)
        return EXIT_INTERRUPTED
    return EXIT_SOME_FAILED if any(one.error or one.failed for one in measurements) else 0


def _resume_command(folder: Path) -> str:
    return shlex.join(["dfz", "scale", "--resume", str(folder)])


def _measure(
    study: Study, stopping: Stopping, trials: Path, measurements: list[Measurement], limit_s: float | None
) -> bool:
    """Add the trials that are due, with a progress bar; returns False if the user has interrupted them."""
    try:
        with show_progress(study, stopping) as show:
            for measurement in study.measure(trials, stopping, measurements, limit_s):
                measurements.append(measurement)
                show(measurement)
    except KeyboardInterrupt:
        return False
    return True


def _find_resumed(options: dict[str, Any]) -> Path | None:
    """The folder of the study to go on with: that of --resume, or that of a Slurm job that was queued again."""
    from dfz_ray.scaling.study_folder import PLAN

    if options["resume"]:
        return Path(options["resume"])
    is_again = os.environ.get("SLURM_RESTART_COUNT", "0") not in ("", "0")
    if is_again and options["output"] and (Path(options["output"]) / PLAN).exists():
        return Path(options["output"])
    return None


def _check_together(options: dict[str, Any]) -> None:
    """Refuse options that exclude or need each other."""
    problems = []
    given = {name for name, value in options.items() if value not in (None, False, ())}
    if "workers" in given and given & {"scaling_test", "max_workers"}:
        problems.append(Problem("--workers", "a scaling test beside it", "one of the two"))
    if {"batch", "domain"} <= given:
        problems.append(Problem("--batch", "--domain beside it", "one of the two"))
    if "count" in given and "domain" not in given:
        problems.append(Problem("--count", "no --domain", "the domain whose tasks are to be generated"))
    if {"weak", "deadline"} <= given:
        problems.append(Problem("--deadline", "--weak beside it", "one of the two", "a batch that grows has no end"))
    if {"repeats", "target"} <= given:
        problems.append(Problem("--target", "--repeats beside it", "one of the two"))
    if "resume" in given and (others := given - {"resume", "modules", *ALSO_LATER}):
        found = ", ".join(f"--{name.replace('_', '-')}" for name in sorted(others))
        problems.append(Problem("--resume", f"{found} beside it", "--resume alone", "the study has its options"))
    if problems:
        raise InvalidInput(problems, "command line")


def _read_batch(options: dict[str, Any], settings: Settings) -> tuple[Batch, int]:
    """The batch of the study, and the seed of the study."""
    from dfz_ray.domains.registry import REGISTRY
    from dfz_ray.scaling.study_plan import default_batch
    from dfz_ray.specs.batch_checks import read_batch

    seed = settings.study.seed if options["seed"] is None else options["seed"]
    source: Any = options["batch"]
    if options["domain"] is not None:
        block = {"domain": options["domain"], "count": options["count"] or DEFAULT_COUNT}
        source = {"name": options["domain"], "seed": seed, "generate": [block]}
    elif source is None:
        source, left_out = default_batch(seed)
        for reason in left_out:
            click.echo(f"left out: {reason}", err=True)
    return read_batch(source, REGISTRY, settings.resources, settings.policy), seed


def _find_cores(address: str | None) -> int:
    """The cores that the workers will have: those of the cluster, if one runs, else those that this process may use."""
    from dfz_ray.driver.connection import connect_to_running
    from dfz_ray.driver.cores import usable_cores
    from dfz_ray.manager.nodes import cpus_by_host
    from dfz_ray.scaling.hosts import count_cores

    own = usable_cores()
    return count_cores(cpus_by_host(), platform.node(), own) if connect_to_running(address) else own


def _try_batch(batch: Batch) -> tuple[SequentialProgram | None, Pilot | None]:
    """The program that will measure the baseline, and what it has found; nothing if the tasks end its process."""
    from dfz_ray.scaling.pilot import expected_niceness, run_pilot
    from dfz_ray.scaling.sequential import SequentialProgram, make_job

    program = None
    try:
        program = SequentialProgram(make_job(batch, expected_niceness()))
        return program, run_pilot(batch, program)
    except DfzError as error:
        click.echo(f"the pilot failed: {error}", err=True)
    except BaseException:
        if program is not None:
            program.__exit__()
        raise
    return None, None


def _make_plan(
    options: dict[str, Any], settings: Settings, batch: Batch, seed: int, pilot: Pilot | None, cores: int
) -> tuple[StudyPlan, Stopping]:
    from dfz_ray.scaling.study_plan import (
        MOST_ADDED,
        StudyPlan,
        auto_worker_counts,
        default_worker_counts,
        parse_worker_counts,
    )

    is_auto = options["max_workers"] == AUTO
    if options.get("worker_counts"):
        counts = list(options["worker_counts"])
    elif options["workers"]:
        counts = [options["workers"]]
    elif is_auto:
        cpus = max(task.resources.cpus for task in batch.tasks)
        counts = auto_worker_counts(cores, len(batch.tasks), pilot.cpu_share if pilot else 1.0, cpus)
    elif options["max_workers"] is not None:
        counts = parse_worker_counts(options["max_workers"])
    else:
        counts = default_worker_counts(cores)
    modes: list[Mode] = ["processes"] if options["use_processes"] or not options["use_threads"] else []
    modes += ["threads"] if options["use_threads"] else []
    scaling: Scaling = "weak" if options["weak"] else "strong"
    plan = StudyPlan(batch, tuple(counts), seed, tuple(modes), scaling, finds_bend=is_auto)
    compared = len(modes) * (len(counts) + (MOST_ADDED if is_auto else 0))
    return plan, make_stopping(options["repeats"], options["target"], settings.study.repeats, compared)


def make_stopping(repeats: int | None, target: float | None, configured: int | None, compared: int) -> Stopping:
    """The rule that ends a study of so many points, by the options (the target in percent) and configured repeats.

    A target that was given is a wish for this study, and outweighs the configuration.
    """
    from dfz_ray.scaling.estimate import repeats_to_compare
    from dfz_ray.scaling.stopping import Stopping

    least = max(Stopping.least, repeats_to_compare(compared))
    fixed = repeats or (None if target else configured)
    if fixed is None:
        return Stopping(least, target=target / 100 if target else Stopping.target)
    if fixed < least:
        points = f"any of {compared} points" if compared > 1 else "the only point"
        made = f"{fixed} repeat{'s' if fixed > 1 else ''}"
        click.echo(f"{made} can't tell whether {points} is faster by chance; {least} can", err=True)
    return Stopping(fixed, fixed)


def _write_and_print(
    measurements: list[Measurement], study: Study, folder: Path, out: TextIO, options: dict[str, Any]
) -> None:
    from dfz_ray.scaling.choices import Goals
    from dfz_ray.scaling.report import write_study
    from dfz_ray.scaling.summary import build_summary

    plan = study.plan
    efficiency = options["efficiency"] / 100 if options["efficiency"] else Goals.efficiency
    summary = build_summary(
        host={name: fact for name, fact in study.facts.items() if name not in NOT_OF_HOST},
        batch={
            "domains": sorted({task.domain for task in plan.batch.tasks}),
            "count": len(plan.batch.tasks),
            "tasks_digest": plan.tasks_digest,
        },
        mode=" and ".join(plan.modes),
        measurements=measurements,
        physical_cores=study.physical_cores,
        cpus_per_task=plan.cpus_per_task,
        seed=plan.seed,
        why_ended=study.why_ended,
        command=options["command"],
        scaling=plan.scaling,
        goals=Goals(efficiency, options["price"], options["deadline"]),
        remarks=study.remarks,
    )
    print_study(summary, write_study(folder, summary, measurements), folder, out)
