"""`dfz run` and `dfz resume`."""

from __future__ import annotations

import dataclasses
import json
import shlex
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import click

from dfz_ray.cli import EXIT_CAN_NEVER_RUN, EXIT_SOME_FAILED, PATH, take_stdout
from dfz_ray.cli.options import address_option, config_option, import_option
from dfz_ray.cli.printing import marked, safe_line, tell_place
from dfz_ray.cli.run_argument import complete_run
from dfz_ray.specs.run_config import RunConfig
from dfz_ray.specs.settings import MaxWorkers, Settings, check_max_workers, read_settings
from dfz_ray.specs.states import UNSUCCESSFUL

if TYPE_CHECKING:
    from dfz_ray.results import Results
    from dfz_ray.specs.batch import Batch


def _read_workers(_: click.Context, __: click.Parameter, text: str | None) -> MaxWorkers:
    given = int(text) if text is not None and text.isascii() and text.isdigit() else text
    return check_max_workers(given, "--max-workers")


_WORK_OPTIONS = (
    click.option(
        "--max-workers",
        callback=_read_workers,
        metavar="N|auto",
        help="How many tasks may execute at once; auto: as many as pay [max_workers of --config, or as many as the "
        "cluster holds].",
    ),
    click.option("--use-threads", is_flag=True, help="Tasks share processes, on threads: for work that waits."),
    address_option,
    import_option,
    config_option,
    click.option("--json", "as_json", is_flag=True, help="Print counts, metrics and digest as JSON on stdout."),
)


def _work_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options of all commands that work on a run."""
    for option in reversed(_WORK_OPTIONS):
        command = option(command)
    return command


@click.command("run")
@click.argument("batch", type=PATH)
@click.option("--run-dir", metavar="DIR", type=PATH, help="The folder of the run; else a new one is made under runs/.")
@_work_options
def run_batch(batch: str, run_dir: str | None, **options: Any) -> int:
    """Run the tasks of BATCH, a YAML or JSON file, to their end.

    The run is written to a folder, which `dfz results last` reads; in the folder of the same batch the run goes on.
    Examples:

    \b
        dfz run configs/sorting.yaml
        dfz run my_batch.yaml --max-workers 8 --run-dir runs/first
        dfz run coins.yaml --import coins.py --json
    """
    from dfz_ray.cli.domain_modules import ship_domain_modules
    from dfz_ray.domains.registry import REGISTRY
    from dfz_ray.specs.batch_checks import read_batch

    imports = ship_domain_modules(options["modules"], Path(run_dir) if run_dir else None)
    settings = read_settings(options["config"])
    checked = read_batch(batch, REGISTRY, settings.resources, settings.policy)
    folder = Path(run_dir) if run_dir else _new_folder(settings, checked.name)
    config = ("--config", str(Path(options["config"]).absolute())) if options["config"] else ()
    command = ("dfz", "run", str(Path(batch).absolute()), *config)
    run_config = _configure(settings, folder, options, command=command, imports=imports)
    return _work(checked, folder, run_config, options["as_json"])


@click.command("resume")
@click.argument("run", type=PATH, shell_complete=complete_run)
@click.option(
    "--accept-domain-versions",
    is_flag=True,
    help="Run the tasks that are left under the versions of their domains that are here; the journal notes it.",
)
@click.option("--retry-failed", is_flag=True, help="Make failed tasks due again; the journal notes it.")
@_work_options
def resume(run: str, **options: Any) -> int:
    """Go on with RUN, a run folder or `last`, whatever ended it; no task with a committed result runs again.

    The modules that the run was begun with are imported again, if you began it in this folder. If they are elsewhere
    now, or the folder comes from somebody else, from another machine or place, name them with --import.
    Examples:

    \b
        dfz resume last
        dfz resume runs/first --retry-failed
        dfz resume runs/coins --import elsewhere/coins.py
    """
    from dfz_ray.cli.domain_modules import ship_domain_modules
    from dfz_ray.journal.last_run import find_run

    settings = read_settings(options["config"])
    folder = find_run(run, settings)
    imports = ship_domain_modules(options["modules"], folder)
    return _work(None, folder, _configure(settings, folder, options, imports=imports), options["as_json"])


def _configure(settings: Settings, folder: Path, options: dict[str, Any], **others: Any) -> RunConfig:
    config = RunConfig.of(
        settings,
        run_dir=folder,
        max_workers=options["max_workers"],
        address=options["address"],
        use_threads=options["use_threads"],
        accept_domain_versions=options.get("accept_domain_versions", False),
        retry_failed=options.get("retry_failed", False),
    )
    return dataclasses.replace(config, becomes_last=True, **others)


def _work(batch: Batch | None, folder: Path, config: RunConfig, as_json: bool) -> int:
    from dfz_ray.cli.remembered_imports import remember_imports
    from dfz_ray.client import run_checked
    from dfz_ray.journal.sending import find_unsent

    remember_imports(folder, config.imports)
    tell_place(folder)
    out = take_stdout()
    results = run_checked(batch, config)
    if as_json:
        from dfz_ray.journal.record import json_value

        summary = {
            "run_dir": results.run_dir,
            "counts": results.counts,
            "metrics": json_value(results.metrics),
            "digest": results.digest,
        }
        click.echo(json.dumps(summary), file=out)
    else:
        _print_summary(results, out)
    code = report_failures(results)
    for unsent in find_unsent(folder):
        print(safe_line(f"incomplete: {unsent.describe(folder)}"), file=sys.stderr)
        code = code or EXIT_SOME_FAILED
    return code


def _new_folder(settings: Settings, name: str) -> Path:
    stem = "".join(letter if letter.isascii() and (letter.isalnum() or letter in "-_") else "-" for letter in name)[:40]
    base = Path(settings.journal.runs_folder) / f"{time.strftime('%Y%m%d-%H%M%S')}-{stem}"
    candidates = [base, *(base.with_name(f"{base.name}-{number}") for number in range(2, 1000))]
    return next(path for path in candidates if not path.exists())


def _print_summary(results: Results, out: TextIO) -> None:
    from rich.console import Console
    from rich.table import Table

    counts, metrics = results.counts, results.metrics
    table = Table.grid(padding=(0, 2))
    table.add_row("tasks", ", ".join(f"{count} {state}" for state, count in counts.items() if count))
    if metrics["total_duration"] is not None:
        table.add_row("makespan", f"{metrics['total_duration']:.3f} s, {metrics['throughput'] or 0:.1f} tasks/s")
        table.add_row(
            "concurrency",
            f"{metrics['avg_concurrency'] or 0:.2f} on average, {metrics['max_concurrency']} at most; "
            f"slots {100 * (metrics['utilization'] or 0):.0f} % busy",
        )
        took = f"{metrics['avg_duration']:.4f} s on average, {metrics['max_duration']:.4f} s at most"
        table.add_row("a task takes", took)
    table.add_row("digest", results.digest)
    table.add_row("run folder", marked(str(results.run_dir)))
    Console(file=out, soft_wrap=True, emoji=False).print(table)


def report_failures(results: Results) -> int:
    """Print one line on stderr that groups the failures; returns the exit code."""
    failures = [record for state in UNSUCCESSFUL for record in results.select(state=state.label)]
    if not failures:
        return 0
    groups = Counter(record.error.reason if record.error else record.status for record in failures)
    reasons = ", ".join(f"{count} {reason}" for reason, count in groups.most_common())
    first = failures[0]
    message = first.error.message.splitlines()[0][:200] if first.error and first.error.message else first.status
    noun = "task" if len(failures) == 1 else "tasks"
    where = f" (all of them: dfz failures {shlex.quote(str(results.run_dir))})" if results.run_dir else ""
    line = f"{len(failures)} {noun} did not complete: {reasons}; first {first.task_id}: {message}{where}"
    print(safe_line(line), file=sys.stderr)
    return EXIT_CAN_NEVER_RUN if groups["infeasible"] else EXIT_SOME_FAILED
