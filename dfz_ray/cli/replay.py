"""`dfz replay`: one task again, in this process, where a debugger can look at it."""

from __future__ import annotations

import bdb
import sys
import traceback
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import click

from dfz_ray.cli import EXIT_SOME_FAILED, take_stdout
from dfz_ray.cli.options import import_option
from dfz_ray.cli.printing import safe, to_json
from dfz_ray.cli.run_argument import reading, run_to_execute_argument
from dfz_ray.errors import InvalidInput, Unserializable

if TYPE_CHECKING:
    from dfz_ray.domains.domain import Domain
    from dfz_ray.journal.inputs import RunInputs
    from dfz_ray.journal.reader import StoredTask

_OURS = (__name__, "dfz_ray.domains.user_domain")
"""The modules whose frames precede the user's code."""


@click.command("replay")
@run_to_execute_argument
@click.argument("task_id")
@import_option
@click.option("--debug", is_flag=True, help="Look at an exception with the debugger, where it was raised.")
def replay(folder: Path, task_id: str, modules: tuple[str, ...], debug: bool) -> int:
    """Run one task of RUN, a run folder or `last`, again: here in this process, without Ray, as often as it takes.

    It gets the same parameters, files, seed and number of threads; no deadline is applied, and nothing is written to
    the run. A breakpoint() in the code works. The result is printed as JSON. Modules of a run that you did not begin in
    this folder are named with --import. Examples:

    \b
        dfz replay last task-17
        dfz replay last task-17 --debug
        dfz replay runs/coins toss-3 --import elsewhere/coins.py
    """
    from dfz_ray.cli.domain_modules import import_domain_modules
    from dfz_ray.domains.registry import REGISTRY
    from dfz_ray.execution.execute import thread_budget
    from dfz_ray.execution.shared import sharing
    from dfz_ray.journal.record import json_value
    from dfz_ray.progress import is_terminal
    from dfz_ray.specs.encoding import decode, digest_of, encode
    from dfz_ray.specs.input_file import FileShelf
    from dfz_ray.specs.resources import Resources

    task, recorded, files = _read(folder, task_id)
    import_domain_modules(modules, folder)
    domain = REGISTRY.get(task.domain)
    domain.require_libraries()
    domain.load()
    parameters = _parameters(domain, task, files)
    threads = Resources.model_validate_json(task.resources).threads
    out = sys.stdout if is_terminal(sys.stdout) else take_stdout()  # the output of the task is not its result
    try:
        with thread_budget(threads), sharing(FileShelf(contents=files)):
            value = domain.compute(parameters, task.seed, threads)
    except bdb.BdbQuit:
        print("left in the debugger", file=sys.stderr)
        return EXIT_SOME_FAILED
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a run has these as failures of the task, too: asyncio.CancelledError, SystemExit
        return _print_exception(error, debug)
    try:
        own = digest_of(encode(value), domain.volatile)
        click.echo(to_json(json_value(decode(encode(value)))), file=out)
    except Unserializable as error:
        print(safe(f"the result: {error}"), file=sys.stderr)
        return EXIT_SOME_FAILED
    return _compare(own, recorded)


def _read(folder: Path, task_id: str) -> tuple[StoredTask, bytes | None, RunInputs]:
    """The task, the digest of its result in the run, and the run's files."""
    from dfz_ray.journal.cancel_requests import unknown_task
    from dfz_ray.journal.inputs import RunInputs
    from dfz_ray.journal.reader import JournalReader

    with reading(folder), JournalReader(folder) as journal:
        try:
            task = journal.task(task_id)
        except KeyError:
            raise InvalidInput([unknown_task(journal, task_id)], str(folder)) from None
        return task, journal.digest_of(task.number), RunInputs(folder, journal.meta, journal.files())


def _parameters(domain: Domain, task: StoredTask, files: RunInputs) -> Any:
    from pydantic import ValidationError

    from dfz_ray.specs.encoding import decode
    from dfz_ray.specs.input_file import FileShelf
    from dfz_ray.specs.problems import find_problems

    try:
        return domain.parameters.model_validate(decode(task.parameters), context=FileShelf(contents=files))
    except ValidationError as error:  # the domain has changed since
        problems = find_problems(error, domain.parameters, "parameters")
        raise InvalidInput(problems, "the task, as the run has it") from None


def _print_exception(error: BaseException, debug: bool) -> int:
    frames = _from_users_code(error.__traceback__)
    text = "".join(traceback.format_exception(type(error), error, frames))
    print(safe(text), end="", file=sys.stderr)
    if debug:
        import pdb

        pdb.post_mortem(frames)
    return EXIT_SOME_FAILED


def _from_users_code(frames: TracebackType | None) -> TracebackType | None:
    while frames is not None and frames.tb_next is not None and frames.tb_frame.f_globals.get("__name__") in _OURS:
        frames = frames.tb_next
    return frames


def _compare(own: bytes, recorded: bytes | None) -> int:
    if recorded is None:
        print("the run has no result of this task", file=sys.stderr)
        return 0
    if own == recorded:
        print("same result as in the run", file=sys.stderr)
        return 0
    print(f"the result differs from the run's: its digest is {own.hex()}, not {recorded.hex()}", file=sys.stderr)
    return EXIT_SOME_FAILED
