"""Everything that dfz_ray raises on purpose.

DfzError
├── InvalidInput        the input can't be run: every problem at once
├── MissingExtra        a domain's libraries are not installed
├── RunFolderRefused    the folder can't hold this run
├── TasksFailed         Results.values() was called, but some tasks did not complete
├── CallFailed          a call failed without an exception, or its exception can't be pickled
│   └── CallTimedOut    a call overran its deadline; a TimeoutError, too
├── InfrastructureLost  Ray, or the manager of the run, is gone
│   └── ManagerLost     only the manager is gone: another one can continue the run
├── ClusterUnusable     no Ray at the address, or one that can't be used for this run
├── JournalDamaged      the journal of a run can't be read, or differs from what was written
├── EpochSuperseded     another manager has taken over the run
├── Unserializable      a value that can't be stored or sent
├── IllegalTransition   an event that the lifecycle does not allow: a defect of dfz_ray
└── IllegalMessage      a message that the lease protocol does not allow: a defect of dfz_ray
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


class DfzError(Exception):
    """The root: `except DfzError` catches everything that dfz_ray raises on purpose, and nothing else."""


@dataclass(frozen=True)
class Problem:
    """One problem of an input."""

    where: str
    """Path of the field, e.g. `tasks[3].parameters.num_qubits`."""
    found: str
    """The value that was found there, as a short text."""
    expected: str
    """The values that would be right there."""
    hint: str = ""
    """The nearest known name, or how to solve the problem."""

    def __str__(self) -> str:
        hint = f" ({self.hint})" if self.hint else ""
        return f"{self.where}: found {self.found}; expected {self.expected}{hint}"


class InvalidInput(DfzError):
    """The input can't be run; nothing was started.

    Args:
        problems: all of them, in the order of the input.
        source: the file or the argument that holds the input.
    """

    def __init__(self, problems: Sequence[Problem], source: str = "input") -> None:
        super().__init__(tuple(problems), source)
        self.problems = tuple(problems)
        self.source = source

    SHOWN = 20

    def __str__(self) -> str:
        if len(self.problems) == 1:
            only = str(self.problems[0])
            is_file_itself = self.problems[0].where in (self.source, self.source.rpartition("/")[2])
            return only if is_file_itself else f"{self.source}: {only}"
        lines = [f"{self.source}: {len(self.problems)} problems", *(f"  {p}" for p in self.problems[: self.SHOWN])]
        if len(self.problems) > self.SHOWN:
            lines.append(f"  ... and {len(self.problems) - self.SHOWN} more")
        return "\n".join(lines)


class MissingExtra(DfzError):
    """A domain's libraries are not installed; the message says what to install."""

    def __init__(self, what: str, module: str, extra: str) -> None:
        super().__init__(what, module, extra)
        self.what = what
        self.module = module
        self.extra = extra

    def __str__(self) -> str:
        return f"{self.what} needs the module {self.module!r}: pip install 'dfz_ray[{self.extra}]'"


class RunFolderRefused(DfzError):
    """The folder can't hold this run."""


class InfrastructureLost(DfzError):
    """Ray, or the manager of the run, is gone; everything committed is in the run folder."""


class ManagerLost(InfrastructureLost):
    """The manager of the run is gone, but Ray is not: another manager can continue the run."""


class ClusterUnusable(DfzError):
    """No Ray at the address, or one that can't be used for a run."""


class JournalDamaged(DfzError):
    """The journal of a run can't be read or written, or differs from what was written."""


class EpochSuperseded(DfzError):
    """Another manager has opened the run since: this one may not commit any more."""


class Unserializable(DfzError):
    """A value that can't be stored or sent."""


class TasksFailed(DfzError):
    """Some tasks of the run did not complete.

    Args:
        counts: tasks per state.
        example: id and error text of the first failed task.
        run_dir: the run folder, which has all of them.
    """

    def __init__(self, counts: dict[str, int], example: tuple[str, str] | None = None, run_dir: str = "") -> None:
        super().__init__(counts, example, run_dir)
        self.counts = counts
        self.example = example
        self.run_dir = run_dir

    def __str__(self) -> str:
        total = sum(self.counts.values())
        failed = total - self.counts.get("completed", 0)
        first = f"; {self.example[0]}: {self.example[1]}" if self.example else ""
        where = f" (all of them: dfz results {self.run_dir})" if self.run_dir else ""
        return f"{failed} of {total} tasks did not complete{first}{where}"


class CallFailed(DfzError):
    """A call failed: its worker died, it overran its deadline, or its exception can't be pickled.

    Args:
        reason: as in the run's journal: exception, worker_crashed, timeout, out_of_memory, ...
        message: the reason as a sentence, or type and text of the exception.
        traceback: of the exception, as text; None without an exception.
    """

    def __init__(self, reason: str, message: str, traceback: str | None = None) -> None:
        super().__init__(reason, message, traceback)
        self.reason = reason
        self.message = message
        self.traceback = traceback

    def __str__(self) -> str:
        return self.message if self.reason == "exception" else f"{self.reason}: {self.message}"


class CallTimedOut(CallFailed, TimeoutError):
    """A call overran its deadline, `timeout_s`; the reason is `timeout`."""

    def __reduce__(self) -> tuple[type[CallTimedOut], tuple[str, str, str | None]]:
        return type(self), (self.reason, self.message, self.traceback)  # an OSError keeps two of three arguments


class RemoteTraceback(Exception):
    """The `__cause__` of a call's exception: the traceback on its worker, as text."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text

    def __str__(self) -> str:
        return f'\n"""\n{self.text}"""'


class IllegalTransition(DfzError):
    """An event that is not in the lifecycle's table for the task's state: a defect of dfz_ray, not of its user.

    The task keeps its state. `history` is all that is known of the task so far.
    """

    def __init__(self, task: int, state: str, transition: str, history: Any = ()) -> None:
        super().__init__(task, state, transition, history)
        self.task = task
        self.state = state
        self.transition = transition
        self.history = history

    def __str__(self) -> str:
        return f"task {self.task} is {self.state}: {self.transition!r} can't happen to it; history: {self.history!r}"


class IllegalMessage(DfzError):
    """A message that is not in the lease protocol's table for the lease's state: a defect of dfz_ray, not of its user.

    The lease keeps its state.
    """

    def __init__(self, lease: int, state: str, message: str) -> None:
        super().__init__(lease, state, message)
        self.lease = lease
        self.state = state
        self.message = message

    def __str__(self) -> str:
        return f"lease {self.lease} is {self.state}: no message {self.message!r} may come now"
