"""The sequential program: the same batch, in one process, without Ray.

`SequentialProgram` starts another process, sends it the batch, and asks it for one timed pass after the other.
Both sides send pickles, over the process's standard input and output.

It stays warm, is as nice as Ray's workers, has the same thread budgets, keeps the deadlines of tasks, and runs the
function that the workers run.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from dfz_ray.client import shipped_domains
from dfz_ray.driver.warm_up import SAMPLES_S, Sample
from dfz_ray.errors import DfzError
from dfz_ray.execution.alarm import keep_deadlines
from dfz_ray.execution.execute import Guard, Work, execute_chunk, thread_budget
from dfz_ray.journal.executions import Executed
from dfz_ray.specs.batch import Batch
from dfz_ray.specs.encoding import run_digest
from dfz_ray.specs.input_file import FileShelf

LAST_WORDS_BYTES = 4096
"""If the process dies, the error quotes the last line within this many bytes at the end of its output."""

POOL_SETTINGS = {
    "openmp": "OMP_NUM_THREADS",
    "openblas": "OPENBLAS_NUM_THREADS",
    "mkl": "MKL_NUM_THREADS",
    "blis": "BLIS_NUM_THREADS",
}
"""The environment variable that caps a pool, by threadpoolctl's name for it."""
MODULE_SETTINGS = {"qiskit": "RAYON_NUM_THREADS", "polars": "POLARS_MAX_THREADS", "numexpr": "NUMEXPR_NUM_THREADS"}
"""The same for pools that threadpoolctl does not know, by the module that brings them."""


@dataclass(frozen=True)
class Part:
    """Tasks of one domain and thread budget, in the order of the batch."""

    pickled_domain: bytes
    threads: int
    samples: Sequence[Work]
    """One task of each kind. They are run first, and not timed."""
    cpus: float = 1.0
    """The CPUs that each task declares."""


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
    domains: dict[str, dict[str, float]]
    """See `Measurement.domains`."""
    thread_settings: list[str]
    executed: Sequence[Executed]
    """In the order of their beginning; also those that failed."""
    queued_s: float = 0.0
    """The part of `busy_s` in which the process waited for a free core."""


class TriedTask(NamedTuple):
    """A task that was tried, to learn how long such tasks take."""

    position: int
    """In the batch, from 0."""
    wall_s: float
    cpu_s: float
    completed: bool
    queued_s: float = 0.0
    """The part of `wall_s` in which the process waited for a free core."""
    failure: str = ""
    """The reason why it did not complete."""


def take_samples(batch: Batch) -> list[Sample]:
    """One task of each kind, by domain and shape."""
    domains = shipped_domains(batch)
    firsts: dict[tuple[Any, ...], dict[str, Work]] = {}
    shapes = {}
    for number, task in enumerate(batch.tasks):
        key = (task.domain, task.resources.key())
        shapes[key] = task.resources
        timeout_s = task.policy.timeout_s and max(task.policy.timeout_s, SAMPLES_S)  # the first of a kind imports
        firsts.setdefault(key, {}).setdefault(task.kind, Work(number, task.seed, task.parameters, timeout_s))
    return [
        Sample(
            domains[key[0]].pickled,
            shapes[key],
            tuple(kinds.values()),
            [batch.tasks[work.number].id for work in kinds.values()],
        )
        for key, kinds in firsts.items()
    ]


def make_job(batch: Batch, niceness: int) -> Job:
    """The batch as the sequential program executes it."""
    positions: dict[tuple[Any, ...], int] = {}
    tasks = [
        (
            task.id,
            positions.setdefault((task.domain, task.resources.key()), len(positions)),
            Work(number, task.seed, task.parameters, task.policy.timeout_s),
        )
        for number, task in enumerate(batch.tasks)
    ]
    parts = [
        Part(one.pickled_domain, one.resources.threads, one.works, one.resources.cpus) for one in take_samples(batch)
    ]
    return Job(parts, tasks, dict(batch.files), niceness)


class SequentialProgram:
    """The process, which warms up by itself from here on; a context manager.

    Raises DfzError with the last line of the process's output if the process dies.
    """

    def __init__(self, job: Job) -> None:
        command = [sys.executable, "-c", "from dfz_ray.scaling.sequential import serve; serve()"]
        self.niceness = job.niceness
        self._words = tempfile.TemporaryFile()  # no pipe: the output of tasks would fill it  # noqa: SIM115 - closed below
        self._process = subprocess.Popen(  # noqa: S603 - our own module
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._words
        )
        if self._process.stdin is None or self._process.stdout is None:
            raise DfzError("the sequential program has no pipes")
        self._stdin, self._stdout = self._process.stdin, self._process.stdout
        self._begun = time.perf_counter()
        self._warm_up_s: float | None = None
        self._say(job)

    def warm_up(self) -> float:
        """Wait until the process is warm; returns how many seconds it took."""
        if self._warm_up_s is None:
            self._hear()
            self._warm_up_s = time.perf_counter() - self._begun
        return self._warm_up_s

    def run(self) -> Pass:
        """Run the batch once, from the first task to the last."""
        answer: Pass = self._ask("run")
        return answer

    def try_tasks(self, positions: Sequence[int], budget_s: float) -> list[TriedTask]:
        """Run tasks of the batch in the order given, until the seconds are used up; at least one."""
        tried: list[TriedTask] = self._ask((list(positions), budget_s))
        return tried

    def __enter__(self) -> SequentialProgram:
        return self

    def __exit__(self, *exception: object) -> None:
        if self._words.closed:
            return
        self._process.kill()
        self._process.communicate()
        self._words.close()

    def _ask(self, question: Any) -> Any:
        self.warm_up()
        self._say(question)
        return self._hear()

    def _say(self, words: Any) -> None:
        with self._last_words():
            pickle.dump(words, self._stdin)
            self._stdin.flush()

    def _hear(self) -> Any:
        with self._last_words():
            return pickle.load(self._stdout)  # noqa: S301 - our own process wrote it

    @contextlib.contextmanager
    def _last_words(self) -> Iterator[None]:
        """Raise what the process said last, if it has died."""
        try:
            yield
        except (EOFError, BrokenPipeError, pickle.UnpicklingError):
            self._process.communicate()
            self._words.seek(max(0, self._words.seek(0, os.SEEK_END) - LAST_WORDS_BYTES))
            words = self._words.read().decode(errors="replace").strip()
            last = words.splitlines()[-1:] or ["it printed nothing"]
            died = f"the sequential program died (exit code {self._process.returncode}): {last[0]}"
            hint = "if a task ended its process, such as by os._exit or a crash in native code, `dfz run` names it"
            raise DfzError(f"{died} ({hint})") from None


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
    shelf = FileShelf(contents=dict(job.files))
    for part, domain in zip(job.parts, domains, strict=True):
        domain.load()
        with thread_budget(part.threads), keep_deadlines(part.samples) as guard:
            execute_chunk(domain, part.samples, part.threads, shelf, guard=guard)
    answer("warm")
    while True:
        try:
            question = pickle.load(stdin)  # noqa: S301 - our parent wrote it
        except EOFError:
            return
        with keep_deadlines(work for _, _, work in job.tasks) as guard:
            if question == "run":
                answer(_pass(job, domains, shelf, guard))
            else:
                answer(_try_tasks(job, domains, shelf, guard, *question))


def _pass(job: Job, domains: Sequence[Any], shelf: FileShelf, guard: Guard | None) -> Pass:
    failed = 0
    digests: list[tuple[str, bytes]] = []
    executed: list[Executed] = []
    budget = None
    busy_s, cpu_s = [0.0] * len(job.parts), [0.0] * len(job.parts)
    begun, queued_s = time.perf_counter(), read_queued_s()
    for task_id, part, work in job.tasks:
        threads = job.parts[part].threads
        if threads != budget:
            # Held until the next part needs another budget: setting it takes longer than a small task.
            thread_budget(threads)
            budget = threads
        (execution,) = execute_chunk(domains[part], [work], threads, shelf, guard=guard)
        busy_s[part] += execution.ended_at - execution.began_at
        cpu_s[part] += execution.cpu_s
        executed.append(Executed(work.number, (0, 0), execution.began_at, execution.ended_at, execution.cpu_s))
        if execution.digest is None:
            failed += 1
        else:
            digests.append((task_id, execution.digest))
    wall_s, queued_s = time.perf_counter() - begun, read_queued_s() - queued_s
    by_domain: dict[str, dict[str, float]] = {}
    for each, domain, busy, cpu in zip(job.parts, domains, busy_s, cpu_s, strict=True):
        mine = by_domain.setdefault(domain.name, {"busy_s": 0.0, "cpu_s": 0.0, "declared_cpu_s": 0.0})
        mine["busy_s"] += busy
        mine["cpu_s"] += cpu
        mine["declared_cpu_s"] += busy * each.cpus
    settings = find_thread_settings()
    totals = wall_s, sum(busy_s), sum(cpu_s), len(digests), failed
    in_tasks_s = queued_s * min(1.0, sum(busy_s) / wall_s)  # between tasks it waits for a core as often
    return Pass(*totals, run_digest(digests), by_domain, settings, executed, in_tasks_s)


def _try_tasks(
    job: Job, domains: Sequence[Any], shelf: FileShelf, guard: Guard | None, positions: Sequence[int], budget_s: float
) -> list[TriedTask]:
    tried: list[TriedTask] = []
    ends_at = time.perf_counter() + budget_s
    for position in positions:
        if tried and time.perf_counter() > ends_at:
            break
        _, part, work = job.tasks[position]
        threads = job.parts[part].threads
        thread_budget(threads)
        queued_s = read_queued_s()
        (execution,) = execute_chunk(domains[part], [work], threads, shelf, guard=guard)
        wall_s, queued_s = execution.ended_at - execution.began_at, read_queued_s() - queued_s
        is_completed, failure = execution.digest is not None, execution.failure.message if execution.failure else ""
        tried.append(TriedTask(position, wall_s, execution.cpu_s, is_completed, min(queued_s, wall_s), failure))
    return tried


def read_queued_s() -> float:
    """Seconds for which this thread was ready and waited for a free core; 0 where the kernel keeps no count."""
    try:
        with open("/proc/thread-self/schedstat", "rb") as file:
            return int(file.read().split()[1]) / 1e9
    except (OSError, ValueError, IndexError):
        return 0.0


def find_thread_settings() -> list[str]:
    """The settings that cap the native thread pools which this process has loaded."""
    from threadpoolctl import threadpool_info

    found = {POOL_SETTINGS.get(pool["internal_api"]) for pool in threadpool_info()}
    found |= {name for module, name in MODULE_SETTINGS.items() if module in sys.modules}
    return sorted(name for name in found if name)
