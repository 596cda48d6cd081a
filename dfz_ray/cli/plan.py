"""`dfz plan`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, TextIO

import click

from dfz_ray.cli import EXIT_CAN_NEVER_RUN, FiniteRange, take_stdout
from dfz_ray.cli.options import address_option, config_option, import_option
from dfz_ray.cli.printing import safe_line
from dfz_ray.specs.settings import WORKERS_LIMIT, Settings, read_settings

if TYPE_CHECKING:
    from dfz_ray.scaling.batch_plan import BatchPlan


@click.command("plan")
@click.argument("batch")
@click.option(
    "--max-workers",
    type=click.IntRange(1, WORKERS_LIMIT),
    metavar="N",
    help="Plan for so many tasks at once [max_workers of --config, or as many as the cluster holds].",
)
@click.option("--price", type=FiniteRange(0), metavar="P", help="The price of a core-hour, in any currency.")
@click.option(
    "--seconds",
    type=FiniteRange(0, min_open=True),
    default=3.0,
    metavar="S",
    help="Try tasks for so long [3]; of each kind one is tried in any case.",
)
@address_option
@import_option
@config_option
@click.option("--json", "as_json", is_flag=True, help="Print the plan as JSON on stdout.")
def plan(batch: str, **options: Any) -> int:
    """Tell what BATCH, a YAML or JSON file, needs: whether it can run here, how long it will take, and what it costs.

    A few tasks of each kind are tried in one process, for some seconds; nothing of it is kept. The times are those of
    the tasks that were tried: `dfz scale` measures instead. Examples:

    \b
        dfz plan configs/sorting.yaml
        dfz plan my_batch.yaml --max-workers 64 --address 10.0.0.1:6379 --price 0.05
        dfz plan coins.yaml --import coins.py --json

    The exit code is 3 if a task can never run on this cluster.
    """
    from dfz_ray.cli.domain_modules import ship_domain_modules
    from dfz_ray.domains.registry import REGISTRY
    from dfz_ray.driver.connection import connect
    from dfz_ray.scaling.batch_plan import plan_batch
    from dfz_ray.scaling.pilot import expected_niceness, run_pilot
    from dfz_ray.scaling.sequential import SequentialProgram, make_job
    from dfz_ray.specs.batch_checks import read_batch

    ship_domain_modules(options["modules"])
    settings = read_settings(options["config"])
    checked = read_batch(batch, REGISTRY, settings.resources, settings.policy)
    out = take_stdout()
    with SequentialProgram(make_job(checked, expected_niceness())) as program:
        # The program warms up meanwhile. No worker may start while tasks are tried: they would share the cores.
        connect(options["address"] or settings.address, boots_workers=False)
        pilot = run_pilot(checked, program, options["seconds"])
    found = plan_batch(checked, pilot, find_max_workers(options["max_workers"], settings), options["price"])
    if options["as_json"]:
        click.echo(json.dumps(found.to_dict(), allow_nan=False), file=out)
    else:
        _print(found, out)
    for reason in found.infeasible:
        click.echo(safe_line(f"can never run: {reason}"), err=True)
    return EXIT_CAN_NEVER_RUN if found.infeasible else 0


def find_max_workers(given: int | None, settings: Settings) -> int | None:
    """The cap on tasks at once: the option's, else the configuration's; None with `auto`, which begins without one."""
    if given is None and isinstance(settings.max_workers, int):
        return settings.max_workers
    return given


def _print(found: BatchPlan, out: TextIO) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(file=out, emoji=False, markup=False, soft_wrap=True)
    table = Table(box=None, padding=(0, 1), pad_edge=False, header_style="dim")
    for title in ("Domain", "Kind", "Shape", "Tasks", "Tried", "Mean", "Longest", "CPUs used"):
        table.add_column(title)
    for kind in found.pilot.kinds:
        cells = (kind.domain, kind.kind, kind.resources.describe(), str(kind.count), str(kind.tried))
        times = (f"{kind.wall_s:.3g} s", f"{kind.longest_s:.3g} s")
        used = f"{kind.cpu_s / kind.wall_s:.2f}" if kind.wall_s else "-"
        table.add_row(*map(safe_line, cells), *times, used)
    console.print(table)
    for line in found.describe():
        console.print(safe_line(line))
