"""The command line, `dfz`; each command is imported when it is called, so that `dfz --help` is quick."""

from __future__ import annotations

import contextlib
import errno
import importlib
import io
import logging
import math
import os
import signal
import sys
from typing import Any, TextIO

import click

COMMANDS = {
    "run": ("dfz_ray.cli.run:run_batch", "Run a batch of tasks to its end."),
    "resume": ("dfz_ray.cli.run:resume", "Go on with a run that did not end."),
    "status": ("dfz_ray.cli.status:status", "Show the progress of a run, also while it goes on."),
    "top": ("dfz_ray.cli.top:top", "Watch runs on a live screen."),
    "results": ("dfz_ray.cli.results:results", "Show the results of a run."),
    "failures": ("dfz_ray.cli.failures:failures", "Show why tasks failed: one entry for each cause."),
    "trace": ("dfz_ray.cli.trace:trace", "Write which slot executed which task when, for Perfetto."),
    "replay": ("dfz_ray.cli.replay:replay", "Run one task again, here, under a debugger if you like."),
    "cancel": ("dfz_ray.cli.cancel:cancel", "Cancel tasks of a run, a batch of it, or all of it."),
    "audit": ("dfz_ray.cli.audit:audit", "Prove from the journal that nothing was lost or doubled."),
    "scale": ("dfz_ray.cli.scale:scale", "Measure how a batch scales with the number of workers."),
    "plan": ("dfz_ray.cli.plan:plan", "Tell whether a batch can run here, how long it takes, what it costs."),
    "predict": ("dfz_ray.cli.predict:predict", "Predict how a measured batch runs on other numbers of workers."),
    "compare": ("dfz_ray.cli.compare:compare", "Say whether scaling has changed between two studies."),
    "cluster": ("dfz_ray.cli.cluster:cluster", "Start a cluster: on this machine, or in a Slurm job."),
    "examples": ("dfz_ray.cli.examples:examples", "Write the example batches and settings into a folder."),
    "domains": ("dfz_ray.cli.domains:domains", "Show the known kinds of work, and their parameters."),
}
"""By name: the module and the function of the command, and one line for `dfz --help`."""


class _NotEmptyPath(click.Path):
    """A path; an empty text, as an unset variable of a shell gives it, is refused: it would mean the working folder."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value == "":
            from dfz_ray.errors import InvalidInput, Problem

            name = param.opts[0] if isinstance(param, click.Option) else getattr(param, "human_readable_name", "path")
            problem = Problem(name.strip("[]."), "''", "a name that is not empty", "is a variable of the shell unset?")
            raise InvalidInput([problem], "command line")
        return super().convert(value, param, ctx)


PATH = _NotEmptyPath(readable=False)
"""The type of arguments that name files or folders, for completion; whether one can be read is checked later."""

EXIT_SOME_FAILED = 1
"""Some tasks failed or were cancelled, or not all that were meant were ever sent."""
EXIT_BAD_INPUT = 2
EXIT_CAN_NEVER_RUN = 3
EXIT_INTERRUPTED = 130


class FiniteRange(click.FloatRange):
    """A number in a range that is neither infinite nor NaN."""

    name = "number"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:  # noqa: D102 - as click has it
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value} is no finite number.", param, ctx)
        return number


class _LazyGroup(click.Group):
    """A group whose commands are imported when they are called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name][0].partition(":")
        command: click.Command = getattr(importlib.import_module(module), name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary) for name, (_, summary) in COMMANDS.items()])

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            from dfz_ray.specs.problems import nearest

            hint = nearest(args[0], COMMANDS)
            ctx.fail(f"No such command {args[0]!r}." + (f" {hint.capitalize()}" if hint else ""))
        return super().resolve_command(ctx, args)


@click.group(
    cls=_LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Exit codes: 0 all completed; 1 some failed, were cancelled or never sent, or Ray was lost, or a comparison "
    "found worse scaling; 2 bad usage or input, nothing started; 3 some can never run here (`dfz run`: the others "
    "ran); 4 audit violation; 130 interrupted.",
)
@click.version_option(package_name="dfz_ray")
def group() -> None:
    """Run thousands of independent tasks on Ray, lose none, and know how many workers are worth paying for. Examples:

    \b
        dfz examples
        dfz run configs/sorting.yaml
        dfz status last --watch
        dfz results last
        dfz scale

    Completion of commands, options and runs by the Tab key: add this line to ~/.bashrc (for zsh: zsh_source, ~/.zshrc):

    \b
        eval "$(_DFZ_COMPLETE=bash_source dfz)"
    """


def take_stdout() -> TextIO:
    """Take stdout for the output of a command. Everything else that writes to stdout from now on goes to stderr.

    Ray prints notices of dead workers to stdout, from another thread, and scripts read our stdout.
    """
    out = sys.stdout
    sys.stdout = sys.stderr
    return out


def main(arguments: list[str] | None = None) -> None:
    """The entry point: run a command, and end with its exit code."""
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors in ("strict", "surrogateescape"):
        sys.stdout.reconfigure(errors="backslashreplace")  # ids may have letters that its encoding does not
    code = call(group, arguments)
    try:
        if sys.stdout is not None:  # it is None where a shell has closed it
            sys.stdout.flush()
    except OSError as error:
        code = _tell_lost_output(error)
    sys.stdout = sys.stderr  # Ray may print notices as it exits
    sys.exit(code)


def call(command: click.Command, arguments: list[str] | None = None, name: str | None = None) -> int:
    """Run a command. An expected error becomes one clear message on stderr, and an exit code."""
    from dfz_ray.cli.printing import safe
    from dfz_ray.errors import DfzError, InfrastructureLost

    before = sys.stdout
    if logging.lastResort is not None:  # warnings go to stderr, past the progress bar
        logging.getLogger("dfz_ray").addHandler(logging.lastResort)
    with contextlib.suppress(ValueError):  # not the main thread
        signal.signal(signal.SIGTERM, _interrupt)  # batch systems send it: the same as Ctrl-C
    try:
        code = command.main(arguments, prog_name=name or "dfz", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (KeyboardInterrupt, click.Abort):
        return EXIT_INTERRUPTED
    except DfzError as error:
        click.echo(f"error: {safe(str(error))}", err=True)
        return EXIT_SOME_FAILED if isinstance(error, InfrastructureLost) else EXIT_BAD_INPUT
    except OSError as error:
        return _tell_lost_output(error)
    finally:
        sys.stdout = before
    return code if isinstance(code, int) else 0


def _tell_lost_output(error: OSError) -> int:
    """Say which file can't be used, or that the output can't be written; nothing if its reader has gone.

    Raises the error if it is another one.
    """
    from dfz_ray.cli.printing import safe_line

    if error.filename is not None:
        click.echo(f"error: {safe_line(str(error.filename))}: {error.strerror}", err=True)
        return EXIT_BAD_INPUT
    if error.errno not in (errno.EPIPE, errno.ENOSPC, errno.EDQUOT, errno.EIO):
        raise error
    if error.errno != errno.EPIPE:
        click.echo(f"error: the output can't be written: {error.strerror}", err=True)
    if sys.__stdout__ is not None:  # Python tries once more when it exits
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.__stdout__.fileno())
    return EXIT_SOME_FAILED


def _interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt
