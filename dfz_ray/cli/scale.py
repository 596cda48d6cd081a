"""`dfz scale`, which is also benchmarks/scale.py."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import click

from dfz_ray.cli import EXIT_INTERRUPTED, EXIT_SOME_FAILED, PATH, take_stdout
from dfz_ray.cli.printing import tell_place
from dfz_ray.errors import InvalidInput, Problem
from dfz_ray.specs.settings import WORKERS_LIMIT, Settings, read_settings
from dfz_ray.specs.task import SEED_LIMIT

if TYPE_CHECKING:
    from dfz_ray.scaling.measurement import Measurement, Mode
    from dfz_ray.scaling.stopping import Stopping
    from dfz_ray.scaling.study import Study
    from dfz_ray.scaling.study_plan import StudyPlan

DEFAULT_COUNT = 20


@click.command("scale", context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option("--domain", metavar="NAME", help="Generated tasks of this domain; without it, and --batch, all three.")
@click.option("--count", type=click.IntRange(min=1), metavar="N", help=f"The number of these tasks [{DEFAULT_COUNT}].")
@click.option("--batch", metavar="FILE", type=PATH, help="The tasks of a batch file instead.")
@click.option("--workers", type=click.IntRange(1, WORKERS_LIMIT), metavar="N", help="Measure this number of workers.")
@click.option("--scaling-test", is_flag=True, help="Measure several numbers of workers (the default).")
@click.option("--max-workers", metavar="N,N,...", help="The numbers, with --scaling-test: 1,2,4,8,16.")
@click.option("--use-processes", is_flag=True, help="Each task that runs has a process (the default).")
@click.option("--use-threads", is_flag=True, help="Tasks share processes, on threads; with both, both are compared.")
@click.option(
    "--import", "modules", multiple=True, metavar="MODULE|FILE.py", type=PATH, help="A module that defines domains."
)
@click.option(
    "--repeats",
    type=click.IntRange(1, 1000),
    metavar="N",
    help="Measure each point so often [4 to 15 times: until the speedup is known to --target percent].",
)
@click.option(
    "--target",
    type=click.FloatRange(0, 100, min_open=True),
    metavar="PERCENT",
    help="Half the width of the 95 % interval at which repeats end [5].",
)
@click.option(
    "--time-limit",
    type=click.FloatRange(0, min_open=True),
    metavar="SECONDS",
    help="Begin no trial that would end later than so many seconds after the first one began.",
)
@click.option(
    "--seed",
    type=click.IntRange(0, SEED_LIMIT - 1),
    metavar="N",
    help="Seed of the tasks and of the order of trials [0].",
)
@click.option("--address", metavar="A", help="Which Ray: host:port, auto, or local (an embedded one).")
@click.option("--output", metavar="DIR", type=PATH, help="Where the files go [studies/<time>].")
@click.option("--resume", metavar="DIR", type=PATH, help="Go on with the interrupted study in this folder.")
@click.option("--config", metavar="FILE", type=PATH, help="Settings; configs/default.yaml explains them.")
def scale(**options: Any) -> int:
    """Measure how a batch scales with the number of workers, and say how many are worth paying for.

    The same batch is run by a sequential program without Ray and by every number of workers, several times, in a random
    order. Without options: a small study of circuits, mazes and classifiers, in about two minutes. Examples:

    \b
        dfz scale
        dfz scale --domain quantum --count 20 --workers 4
        dfz scale --domain quantum --count 20 --scaling-test --max-workers 1,2,4,8
        dfz scale --batch my_batch.yaml --repeats 10 --output studies/mine
        dfz scale --resume studies/mine

    `--max-workers` lists the numbers to measure; `dfz run --max-workers auto` is something else: it finds a number
    while the tasks run, and proves nothing.
    """
    from dfz_ray.cli.domain_modules import ship_domain_modules
    from dfz_ray.scaling.host import host_facts
    from dfz_ray.scaling.study_folder import TRIALS, make_study_folder, read_plan, read_trials

    # Everything that can be wrong with the command line is found here, before Ray is started.
    _check_together(options)
    resumed = Path(options["resume"]) if options["resume"] else None
    if resumed:
        options = {**read_plan(resumed), **{name: options[name] for name in ("address", "time_limit")}}
    ship_domain_modules(options["modules"])
    settings = read_settings(options["config"])
    plan, stopping = _make_plan(options, settings)
    facts = {**host_facts(), "seed": plan.seed, "plan": plan.digest}
    measurements = read_trials(resumed, facts) if resumed else []
    kept = {name: value for name, value in options.items() if name not in ("address", "output", "resume", "time_limit")}
    folder = resumed or make_study_folder(options["output"], kept, plan.digest)
    tell_place(folder)

    from dfz_ray.scaling.study import Study

    out = take_stdout()
    interrupted = False
    with Study(plan, settings, facts, options["address"]) as study:
        try:
            with _bar(plan, stopping) as show:
                for measurement in study.measure(folder / TRIALS, stopping, measurements, options["time_limit"]):
                    measurements.append(measurement)
                    show(measurement)
        except KeyboardInterrupt:
            interrupted = True
        if measurements:
            _write_and_print(plan, measurements, study, folder, out)
    if interrupted:
        again = shlex.join(["dfz", "scale", "--resume", str(folder)])
        click.echo(f"interrupted after {len(measurements)} trials; they are in {folder}; go on: {again}", err=True)
        return EXIT_INTERRUPTED
    return EXIT_SOME_FAILED if any(one.error or one.failed for one in measurements) else 0


def _check_together(options: dict[str, Any]) -> None:
    """Refuse options that exclude or need each other."""
    problems = []
    given = {name for name, value in options.items() if value not in (None, False, ())}
    if "max_workers" in given and "scaling_test" not in given:
        problems.append(Problem("--max-workers", "no --scaling-test", "both", "or --workers N for a single point"))
    if "workers" in given and given & {"scaling_test", "max_workers"}:
        problems.append(Problem("--workers", "a scaling test beside it", "one of the two"))
    if {"batch", "domain"} <= given:
        problems.append(Problem("--batch", "--domain beside it", "one of the two"))
    if "count" in given and "domain" not in given:
        problems.append(Problem("--count", "no --domain", "the domain whose tasks are to be generated"))
    if {"repeats", "target"} <= given:
        problems.append(Problem("--target", "--repeats beside it", "one of the two"))
    if "resume" in given and (others := given - {"resume", "address", "time_limit"}):
        found = ", ".join(f"--{name.replace('_', '-')}" for name in sorted(others))
        problems.append(Problem("--resume", f"{found} beside it", "--resume alone", "the study has its options"))
    if problems:
        raise InvalidInput(problems, "command line")


def _make_plan(options: dict[str, Any], settings: Settings) -> tuple[StudyPlan, Stopping]:
    from dfz_ray.domains.registry import REGISTRY
    from dfz_ray.driver.cores import usable_cores
    from dfz_ray.scaling.stopping import Stopping
    from dfz_ray.scaling.study_plan import StudyPlan, default_batch, default_worker_counts, parse_worker_counts
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
    batch = read_batch(source, REGISTRY, settings.resources, settings.policy)
    if options["workers"]:
        counts = [options["workers"]]
    elif options["max_workers"] is not None:
        counts = parse_worker_counts(options["max_workers"])
    else:
        counts = default_worker_counts(usable_cores())
    modes: list[Mode] = ["processes"] if options["use_processes"] or not options["use_threads"] else []
    modes += ["threads"] if options["use_threads"] else []
    repeats = options["repeats"] or settings.study.repeats
    target = options["target"] / 100 if options["target"] else Stopping.target
    stopping = Stopping(repeats, repeats) if repeats else Stopping(target=target)
    return StudyPlan(batch, tuple(counts), seed, tuple(modes)), stopping


def _write_and_print(plan: StudyPlan, measurements: list[Measurement], study: Study, folder: Path, out: TextIO) -> None:
    from rich.console import Console
    from rich.markup import escape

    from dfz_ray.scaling.report import points_table, write_study
    from dfz_ray.scaling.summary import build_summary

    summary = build_summary(
        host={name: fact for name, fact in study.facts.items() if name not in ("seed", "plan")},
        batch={"domains": sorted({task.domain for task in plan.batch.tasks}), "count": len(plan.batch.tasks)},
        mode=" and ".join(plan.modes),
        measurements=measurements,
        physical_cores=study.physical_cores,
        cpus_per_task=plan.cpus_per_task,
        seed=plan.seed,
        why_ended=study.why_ended,
        command=shlex.join(["dfz", "scale", *sys.argv[1:]] if "scale.py" in sys.argv[0] else ["dfz", *sys.argv[1:]]),
    )
    files = write_study(folder, summary, measurements)
    console = Console(file=out, emoji=False)
    console.print(points_table(summary))
    console.print(f"\n[bold]{escape(summary['recommendation']['reason'])}[/bold]\n", highlight=False)
    for path in (files.report, files.figure, files.summary, folder / "measurements.jsonl"):
        click.echo(path, file=out)


@contextmanager
def _bar(plan: StudyPlan, stopping: Stopping) -> Iterator[Callable[[Measurement], None]]:
    """A progress bar, or a line for each trial where stderr is no terminal.

    The bar shows the most repeats that there may be. The first repeat is the pilot: its end tells how long the study
    will take.
    """
    from rich import progress as parts
    from rich.console import Console

    trials = len(plan.repeat(0))
    least, most = trials * stopping.least, trials * stopping.most
    columns = (
        parts.TextColumn("{task.description}", markup=False),
        parts.BarColumn(),
        parts.TaskProgressColumn(),
        parts.TimeElapsedColumn(),
        parts.TextColumn("at most"),
        parts.TimeRemainingColumn(elapsed_when_finished=False),
    )
    console = Console(stderr=True)
    begun = time.monotonic()
    with parts.Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        bar = progress.add_task("study", total=most)

        def show(measurement: Measurement) -> None:
            count, done = measurement.workers, measurement.order + 1
            name = f"{count} worker{'s' if count > 1 else ''}" if count else "sequential"
            name += f" ({measurement.mode})" if count and len(plan.modes) > 1 else ""
            took = measurement.error or f"{measurement.wall_s:.2f} s"
            shown = f"{done}/{most}" if least == most else f"{done}/{least} to {most}"
            words = f"{shown}  {name}: {took}"
            progress.update(bar, completed=done, description=words)
            if not console.is_terminal:
                click.echo(words, err=True)
            if done == trials and most > trials:
                repeat_s = time.monotonic() - begun
                span = " to ".join(f"{repeat_s * count:.0f}" for count in sorted({stopping.least, stopping.most}))
                progress.console.print(f"a repeat takes {repeat_s:.1f} s, so the whole study takes {span} s")

        yield show
