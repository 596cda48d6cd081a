"""Executing tasks, one after the other, in this process: the same code on a Ray worker and in a sequential baseline."""

from __future__ import annotations

import contextlib
import hashlib
import os
import sys
import traceback
from collections.abc import Iterable
from contextlib import AbstractContextManager
from typing import NamedTuple, NoReturn, Protocol

from pydantic import ValidationError
from threadpoolctl import threadpool_limits

from dfz_ray.domains.domain import Domain
from dfz_ray.errors import Unserializable
from dfz_ray.execution.chunk_clock import ChunkClock
from dfz_ray.execution.interruption import Interruption
from dfz_ray.execution.parameters_reader import ParametersReader
from dfz_ray.specs.encoding import SCALARS, digest, encode
from dfz_ray.specs.input_file import FileShelf

MESSAGE_CHARACTERS = 4_000
TRACEBACK_CHARACTERS = 20_000


class Work(NamedTuple):
    """What a worker is handed of a task."""

    number: int
    seed: int
    parameters: bytes
    timeout_s: float | None = None


class Failure(NamedTuple):
    """Why a task failed, as plain text that can be stored anywhere."""

    reason: str
    message: str
    traceback: str | None = None
    payload: bytes | None = None
    """What the domain's `pack_error` has made of the exception: for who waits for the task, and never written down."""


class Execution(NamedTuple):
    """What came of executing a task; times are Unix seconds, of one steady clock within a chunk."""

    number: int
    began_at: float
    ended_at: float
    cpu_s: float
    result: bytes | None
    """MessagePack, of a task that succeeded."""
    digest: bytes | None
    failure: Failure | None


Outcome = tuple[int, bytes | None, bytes | None, Failure | None]
"""Number of the task, result, digest, failure."""


class Warden(Protocol):
    """Watches over the tasks of a chunk: it keeps their deadlines, by raising an Interruption in them."""

    def begin(self, work: Work) -> bool:
        """A task begins; whether it is still wanted."""

    def end(self) -> None:
        """It has ended, and is not interrupted any more."""


def thread_budget(threads: int) -> AbstractContextManager[object]:
    """Hold the native thread pools that are loaded (OpenMP, BLAS) to so many threads."""
    limits: AbstractContextManager[object] = threadpool_limits(limits=threads)
    return limits


def execute_chunk(
    domain: Domain,
    works: Iterable[Work],
    threads: int,
    shelf: FileShelf,
    budget_s: float = float("inf"),
    warden: Warden | None = None,
) -> list[Execution]:
    """Execute tasks in order, until they are done or the budget is used up.

    No exception of a task leaves this function: every one becomes the task's failure, as text.

    Args:
        domain: what they are tasks of.
        works: the tasks.
        threads: how many threads each may use.
        shelf: the files that their parameters name.
        budget_s: after so many seconds no further task is begun.
        warden: watches over the tasks; those that it does not want are left out.

    Returns:
        One entry for each task that was executed, in order.
    """
    clock, forks = ChunkClock(), count_forks()
    reader = ParametersReader(domain, shelf)
    outcomes: list[Outcome] = []
    for work in works:
        if outcomes and clock.elapsed_s > budget_s:
            break
        if warden is None:
            outcome = execute_task(domain, work, threads, reader, forks)
        else:
            try:
                if not warden.begin(work):
                    continue
                outcome = execute_task(domain, work, threads, reader, forks)
                warden.end()
            except Interruption as interruption:
                warden.end()
                outcome = work.number, None, None, describe_interruption(interruption)
        clock.lap()
        outcomes.append(outcome)
    return [
        Execution(number, begun_at, ended_at, cpu_s, result, fingerprint, failure)
        for (number, result, fingerprint, failure), (begun_at, ended_at, cpu_s) in zip(
            outcomes, clock.laps(), strict=True
        )
    ]


def execute_task(domain: Domain, work: Work, threads: int, reader: ParametersReader, forks: int) -> Outcome:
    """Execute one task; only an Interruption leaves this function.

    Args:
        domain: what it is a task of.
        work: the task.
        threads: how many threads it may use.
        reader: of its parameters.
        forks: what `count_forks` said before: a child that comes back here ends.
    """
    number = work.number
    try:
        parameters = reader.read(work.parameters)
    except ValidationError as error:
        return number, None, None, Failure("invalid", _shorten(clean(str(error)), MESSAGE_CHARACTERS))
    except BaseException as error:  # validators may do anything
        pass_on_interruption(error)
        return number, None, None, describe_exception(error, skip_frames=1)
    try:
        value = domain.compute(parameters, work.seed, threads)
    except BaseException as error:  # also SystemExit: a task ends itself, not its worker
        if _forks != forks:
            _end_child(error)
        pass_on_interruption(error)
        failure = describe_exception(error, skip_frames=1)
        return number, None, None, failure._replace(payload=_pack_error(domain, error))
    if _forks != forks:
        _end_child(None)
    try:
        result = encode(value)
        is_ordered = type(value) in SCALARS  # then its digest is that of what was just made
        fingerprint = hashlib.sha256(result).digest() if is_ordered else digest(value, domain.volatile)
        return number, result, fingerprint, None
    except Unserializable as error:
        return number, None, None, Failure("unserializable", clean(f"the result: {error}"))
    except BaseException as error:  # a value's own methods may do anything
        pass_on_interruption(error)
        return number, None, None, describe_exception(error)


_forks = 0
"""How many forks have led to this process. A task may fork; where the child comes back here it ends, for only its
parent is a worker. To count costs nothing, and to ask for the number of the process, before and after each task, does.
"""


def count_forks() -> int:
    """How many forks have led to this process."""
    return _forks


def _note_fork() -> None:
    global _forks  # noqa: PLW0603 - of this process
    _forks += 1


os.register_at_fork(after_in_child=_note_fork)


def _end_child(error: BaseException | None) -> NoReturn:
    """End this process as Python would end one whose program returned, or raised."""
    with contextlib.suppress(BaseException):
        if error is not None and not isinstance(error, SystemExit):
            traceback.print_exception(error)
        sys.stdout.flush()
        sys.stderr.flush()
    code = error.code if isinstance(error, SystemExit) else int(error is not None)
    os._exit(code if isinstance(code, int) else int(code is not None))


def _pack_error(domain: Domain, error: BaseException) -> bytes | None:
    if domain.pack_error is None:
        return None
    try:
        return domain.pack_error(error)
    except BaseException as worse:  # an exception's own methods may do anything
        pass_on_interruption(worse)
        return None


def pass_on_interruption(error: BaseException) -> None:
    """Raise the interruption that an error is, or came of: what a task raises as it cleans up does not hide why."""
    seen: set[int] = set()
    came_of: list[BaseException | None] = [error]
    while came_of:
        cause = came_of.pop()
        if cause is None or id(cause) in seen:
            continue
        seen.add(id(cause))
        if issubclass(type(cause), Interruption):
            raise cause
        came_of += [read(cause) for read in _ORIGINS]  # past what the error's own class may do


_ORIGINS = [BaseException.__dict__[name].__get__ for name in ("__context__", "__cause__")]


def describe_exception(error: BaseException, skip_frames: int = 0) -> Failure:
    """An exception as plain text; whatever its class does in `__str__` or `__repr__`."""
    name = type(error).__name__
    try:
        text = str.__str__(str(error))  # a subclass of str, too, may do anything
    except BaseException as worse:
        text = f"(its __str__ raises {type(worse).__name__})"
    try:
        frames = error.__traceback__
        for _ in range(skip_frames):
            frames = frames.tb_next if frames else None
        lines = "".join(traceback.format_exception(type(error), error, frames))
    except BaseException as worse:
        lines = f"(its traceback can't be formatted: {type(worse).__name__})"
    message = _shorten(f"{name}: {text}" if text else name, MESSAGE_CHARACTERS)
    return Failure("exception", clean(message), clean(_shorten(lines, TRACEBACK_CHARACTERS)))


def describe_interruption(interruption: Interruption) -> Failure:
    """Where the task was when it was interrupted: the frames of its own, without those of who interrupted it."""
    stack = traceback.extract_tb(interruption.__traceback__)
    del stack[len(stack) - interruption.frames :]
    here = describe_interruption.__code__.co_filename
    frames = stack[max([number for number, frame in enumerate(stack, 1) if frame.filename == here], default=0) :]
    lines = "".join(["Traceback (most recent call last):\n", *traceback.format_list(frames)])
    return Failure(interruption.reason, interruption.message, clean(_shorten(lines, TRACEBACK_CHARACTERS)))


def _shorten(text: str, limit: int) -> str:
    half = limit // 2
    if len(text) <= limit:
        return text
    return f"{text[:half]}\n  ... {len(text) - 2 * half} characters left out ...\n{text[-half:]}"


def clean(text: str) -> str:
    """The text with lone surrogates escaped, which no database and no terminal takes."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
