"""The sequential program: the same batch, in one process, without Ray.

`SequentialProgram` starts another process, sends it the batch, and asks it for one timed pass after the other.
Both sides send pickles, over the process's standard input and output.

It stays warm, is as nice as Ray's workers, has the same thread budgets, and runs the function that the workers run.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from dfz_ray.errors import DfzError
from dfz_ray.execution.execute import Work, execute_chunk, thread_budget
from dfz_ray.journal.executions import Executed
from dfz_ray.specs.encoding import run_digest
from dfz_ray.specs.input_file import FileShelf

LAST_WORDS_BYTES = 4096
"""If the process dies, the error quotes the last line within this many bytes at the end of its output."""


@dataclass(frozen=True)
class Part:
    """Tasks of one domain and thread budget, in the order of the batch."""

    pickled_domain: bytes
    threads: int
    samples: Sequence[Work]
    """One task of each kind. They are run first, and not timed."""


@dataclass(frozen=True)
class Job:
    """The batch, as it is sent to the process."""

    parts: Sequence[Part]
    tasks: Sequence[tuple[str, int, Work]]
    """Id, position of its part, and the work, in the order of submission."""
    files: dict[str, bytes]
    niceness: int


@dataclass(frozen=True)
class Pass:
    """One timed pass over the batch."""

    wall_s: float
    busy_s: float
    cpu_s: float
    completed: int
    failed: int
    digest: str
    executed: Sequence[Executed]
    """In the order of their beginning; also those that failed."""


class SequentialProgram:
    """The process, once it is warm; a context manager.

    Raises DfzError with the last line of the process's output if the process dies.
    """

    def __init__(self, job: Job) -> None:
        command = [sys.executable, "-c", "from dfz_ray.scaling.sequential import serve; serve()"]
        self._words = tempfile.TemporaryFile()  # no pipe: the output of tasks would fill it  # noqa: SIM115 - closed below
        self._process = subprocess.Popen(  # noqa: S603 - our own module
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._words
        )
        begun = time.perf_counter()
        self._ask(job)
        self.warm_up_s = time.perf_counter() - begun

    def run(self) -> Pass:
        """Run the batch once, from the first task to the last."""
        answer: Pass = self._ask("run")
        return answer

    def __enter__(self) -> SequentialProgram:
        return self

    def __exit__(self, *exception: object) -> None:
        self._process.kill()
        self._process.communicate()
        self._words.close()

    def _ask(self, question: Any) -> Any:
        stdin, stdout = self._process.stdin, self._process.stdout
        if stdin is None or stdout is None:
            raise DfzError("the sequential program has no pipes")
        try:
            pickle.dump(question, stdin)
            stdin.flush()
            return pickle.load(stdout)  # noqa: S301 - our own process wrote it
        except (EOFError, BrokenPipeError, pickle.UnpicklingError):
            self._process.communicate()
            self._words.seek(max(0, self._words.seek(0, os.SEEK_END) - LAST_WORDS_BYTES))
            words = self._words.read().decode(errors="replace").strip()
            last = words.splitlines()[-1:] or ["it printed nothing"]
            raise DfzError(f"the sequential program died (exit code {self._process.returncode}): {last[0]}") from None


def serve() -> None:
    """Run the process: read a Job, warm up, and make one pass for each question."""
    stdin, stdout = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # the output of tasks must not mix with the answers

    def answer(value: Any) -> None:
        pickle.dump(value, stdout)
        stdout.flush()

    job: Job = pickle.load(stdin)  # noqa: S301 - our parent wrote it
    os.nice(job.niceness - os.nice(0))
    domains = [pickle.loads(part.pickled_domain) for part in job.parts]  # noqa: S301 - our parent wrote it
    shelf = FileShelf(contents=job.files)
    for part, domain in zip(job.parts, domains, strict=True):
        domain.load()
        with thread_budget(part.threads):
            execute_chunk(domain, part.samples, part.threads, shelf)
    answer("warm")
    while True:
        try:
            pickle.load(stdin)  # noqa: S301 - our parent wrote it
        except EOFError:
            return
        answer(_pass(job, domains, shelf))


def _pass(job: Job, domains: Sequence[Any], shelf: FileShelf) -> Pass:
    busy_s, cpu_s, failed = 0.0, 0.0, 0
    digests: list[tuple[str, bytes]] = []
    executed: list[Executed] = []
    budget = None
    begun = time.perf_counter()
    for task_id, part, work in job.tasks:
        threads = job.parts[part].threads
        if threads != budget:
            # Held until the next part needs another budget: setting it takes longer than a small task.
            thread_budget(threads)
            budget = threads
        (execution,) = execute_chunk(domains[part], [work], threads, shelf)
        busy_s += execution.ended_at - execution.began_at
        cpu_s += execution.cpu_s
        executed.append(Executed(work.number, (0, 0), execution.began_at, execution.ended_at, execution.cpu_s))
        if execution.digest is None:
            failed += 1
        else:
            digests.append((task_id, execution.digest))
    wall_s = time.perf_counter() - begun
    return Pass(wall_s, busy_s, cpu_s, len(digests), failed, run_digest(digests), executed)
