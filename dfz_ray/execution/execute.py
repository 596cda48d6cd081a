"""Executes tasks, one after the other, in this process: the same code in a Ray worker and in a sequential program."""

from __future__ import annotations

import contextlib
import os
import sys
import traceback
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from contextvars import copy_context
from hashlib import sha256
from typing import NamedTuple, Protocol, TypeVar

from pydantic import ValidationError

from dfz_ray.domains.domain import Domain
from dfz_ray.errors import Unserializable
from dfz_ray.execution.chunk_clock import ChunkClock
from dfz_ray.execution.failure import Failure, describe_exception, describe_interruption, make_failure
from dfz_ray.execution.interruption import find_cause, forget_interruption, note_exception, pass_on_interruption
from dfz_ray.execution.parameters_reader import ParametersReader
from dfz_ray.execution.thread_pools import find_pools
from dfz_ray.specs.encoding import SCALARS, digest_of, encode
from dfz_ray.specs.input_file import FileShelf

ENDS = 100
"""Something that a task has left behind, such as an alarm, may raise as it is put away: then that is tried again."""


class Work(NamedTuple):
    """A task to execute."""

    number: int
    seed: int
    parameters: bytes
    timeout_s: float | None = None


class Execution(NamedTuple):
    """An executed task. Times are Unix seconds, of one steady clock within a chunk."""

    number: int
    began_at: float
    ended_at: float
    cpu_s: float
    result: bytes | None
    """MessagePack; None if the task failed."""
    digest: bytes | None
    failure: Failure | None


Outcome = tuple[int, bytes | None, bytes | None, Failure | None]
"""The number of a task, its result, digest and failure."""


class Guard(Protocol):
    """Keeps the deadlines of tasks, and ends cancelled ones, by raising an Interruption in them."""

    def begin(self, work: Work) -> bool:
        """A task is about to begin. Returns False if it was cancelled."""

    def go_on(self) -> None:
        """A call of the task has ended, and may have taken the alarm for itself: keep the deadline for the next one."""

    def end(self) -> None:
        """The task has ended, and is not interrupted any more."""


Settle = Callable[[], bool]
"""Puts away what a task, or a call of it, has left behind; returns True if none may follow it in this process."""
R = TypeVar("R")


def thread_budget(threads: int) -> AbstractContextManager[object]:
    """Limit the native thread pools that are loaded (OpenMP, BLAS) to so many threads."""
    limits: AbstractContextManager[object] = find_pools().limit(limits=threads)
    return limits


def execute_chunk(
    domain: Domain,
    works: Iterable[Work],
    threads: int,
    shelf: FileShelf,
    budget_s: float = float("inf"),
    guard: Guard | None = None,
    settle: Settle = lambda: False,
) -> list[Execution]:
    """Execute tasks in order, until all have ended, the budget is used up, or the process is spoiled.

    No exception of a task leaves this function: each becomes the task's failure, as text. Tasks that the guard reports
    as cancelled are left out of the result. If the guard is broken, its exception leaves this function.
    """
    clock, forks = ChunkClock(), count_forks()
    reader = ParametersReader(domain, shelf)
    outcomes: list[Outcome] = []
    is_last = False

    def end() -> bool:
        if guard is not None:
            guard.end()
        return is_last or settle()

    def end_call() -> bool:
        nonlocal is_last
        is_last = settle()
        if guard is not None:
            guard.go_on()
        return is_last

    for work in works:
        if is_last or (outcomes and clock.elapsed_s > budget_s):
            break
        has_begun = guard is None
        try:
            if guard is not None:
                if not guard.begin(work):
                    continue
                has_begun = True
            outcome = execute_task(domain, work, threads, reader, forks, end_call)
            is_last = end()
        except BaseException as error:  # an interruption, or what the task has left behind
            if not has_begun and find_cause(error) is None:
                raise  # a task before it has broken the guard
            outcome, is_last = end_task(work.number, error, end)
        forget_interruption()
        clock.lap()
        outcomes.append(outcome)
    return [
        Execution(number, began_at, ended_at, cpu_s, result, fingerprint, failure)
        for (number, result, fingerprint, failure), (began_at, ended_at, cpu_s) in zip(
            outcomes, clock.laps(), strict=True
        )
    ]


def end_task(number: int, error: BaseException, end: Callable[[], R]) -> tuple[Outcome, R]:
    """End a task that an error has left; returns its outcome, and what `end` returns."""
    for _ in range(ENDS):
        try:
            cause = find_cause(error)
            failure = describe_exception(error) if cause is None else describe_interruption(error, cause)
            return (number, None, None, failure), end()
        except BaseException as another:
            error = another
    raise error


def execute_task(
    domain: Domain, work: Work, threads: int, reader: ParametersReader, forks: int, end_call: Settle
) -> Outcome:
    """Execute one task, in a copy of the context variables. Only an interruption leaves this function by intent.

    If `forks` is no longer `count_forks()` afterwards, this is a child process that the task forked: it is ended. A
    task that is several calls calls `end_call` between them.
    """
    number = work.number
    try:
        parameters = reader.read(work.parameters)
    except ValidationError as error:
        return number, None, None, make_failure("invalid", str(error))
    except BaseException as error:  # validators may do anything
        pass_on_interruption(error)
        return number, None, None, describe_exception(error, skip_frames=1)
    try:
        if domain.compute_calls is None:
            value = copy_context().run(domain.compute, parameters, work.seed, threads)
        else:
            value = copy_context().run(domain.compute_calls, parameters, work.seed, threads, end_call)
    except BaseException as error:  # also SystemExit: a task ends itself, not its worker
        end_child(forks, error)
        pass_on_interruption(error)
        note_exception(error)
        failure = describe_exception(error, skip_frames=1)
        return number, None, None, failure._replace(payload=_pack_error(domain, error))
    if _forks != forks:
        end_child(forks)
    try:
        result = encode(value)
        is_ordered = type(value) in SCALARS  # then its digest is that of the encoded result
        # Of the bytes, for something else in this process may change the value meanwhile.
        fingerprint = sha256(result).digest() if is_ordered else digest_of(result, domain.volatile)
        return number, result, fingerprint, None
    except Unserializable as error:
        return number, None, None, make_failure("unserializable", f"the result: {error}")
    except BaseException as error:  # a value's own methods may do anything
        pass_on_interruption(error)
        return number, None, None, describe_exception(error)


_forks = 0
"""A task may fork, and a child that returns here must end, since only its parent is a worker. Counting forks costs
nothing; asking for the process id before and after each task does.
"""


def count_forks() -> int:
    """The number of forks that have led to this process."""
    return _forks


def _note_fork() -> None:
    global _forks  # noqa: PLW0603 - of this process
    _forks += 1


os.register_at_fork(after_in_child=_note_fork)


def end_child(forks: int, error: BaseException | None = None) -> None:
    """End this process, as Python would after its program returned or raised, if it was forked since `count_forks()`
    was `forks`.
    """
    if _forks == forks:
        return
    with contextlib.suppress(BaseException):
        if error is not None and not isinstance(error, SystemExit):
            traceback.print_exception(error)
        sys.stdout.flush()
        sys.stderr.flush()
    code = error.code if isinstance(error, SystemExit) else int(error is not None)
    _exit(code if isinstance(code, int) else int(code is not None))


_exit = os._exit


def _pack_error(domain: Domain, error: BaseException) -> bytes | None:
    if domain.pack_error is None:
        return None
    try:
        return domain.pack_error(error)
    except BaseException as worse:  # an exception's own methods may do anything
        pass_on_interruption(worse)
        return None
