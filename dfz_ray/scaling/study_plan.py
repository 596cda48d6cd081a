"""The plan of a study: its batch, and its trials in the order in which they will run."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import inspect
import itertools
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dfz_ray.domains.domain import Domain
from dfz_ray.domains.registry import REGISTRY
from dfz_ray.errors import InvalidInput, MissingExtra, Problem
from dfz_ray.scaling.evidence import WAITS
from dfz_ray.scaling.measurement import Measurement, Mode, Scaling
from dfz_ray.specs.batch import Batch
from dfz_ray.specs.model_texts import ModelTexts
from dfz_ray.specs.problems import show
from dfz_ray.specs.settings import WORKERS_LIMIT
from dfz_ray.specs.task import derive_seed

BASELINE = 0
"""In the place of a number of workers: the sequential program."""

COPY = "~"
"""Stands between the id of a task and the number of its copy."""

MOST_ADDED = 2
"""No more worker counts join where the curve bends."""
BEND = 0.8
"""The share of an ideal gain below which the curve of throughput bends."""
WAITING_PER_CORE = 16
"""Most workers for each core that are chosen for tasks that wait: each is a process."""
LEAST_TASKS = 4
"""With fewer tasks for each worker the study would measure the first and the last tasks alone."""

DEFAULT_STUDY: dict[str, dict[str, Any]] = {
    "quantum": {"domain": "quantum", "count": 16, "parameters": {"noise_level": 0.01}},
    "maze": {"domain": "maze", "count": 10, "parameters": {"size_x": 400, "size_y": 400}},
    "image_classification": {
        "domain": "image_classification",
        "count": 4,
        "parameters": {"epochs": 6, "difficulty": "easy"},
    },
}
"""Circuits, mazes and classifiers, tasks of a tenth of a second and more, three to six seconds of work on one core."""


@dataclass(frozen=True)
class Trial:
    """One run of the batch that is to be measured."""

    workers: int
    """Slots, or BASELINE."""
    repeat: int
    order: int
    """Place among all trials, from 0."""
    mode: Mode = "processes"


@dataclass(frozen=True)
class StudyPlan:
    """A whole study, before it begins."""

    batch: Batch
    worker_counts: tuple[int, ...]
    seed: int
    modes: tuple[Mode, ...] = ("processes",)
    scaling: Scaling = "strong"
    added: tuple[int, ...] = ()
    """Worker counts that joined after the first repeat, where the curve bends; they are measured in it as the last."""

    finds_bend: bool = False
    """True if counts join after the first repeat where the curve bends."""

    def refine(self, measurements: Sequence[Measurement]) -> StudyPlan:
        """The plan with the counts that join after the first repeat, by its throughputs in the first mode."""
        rates = {
            one.workers: one.completed / one.wall_s
            for one in measurements
            if one.repeat == 0 and one.timed and one.mode == self.modes[0]
        }
        return dataclasses.replace(self, added=find_bend(self.worker_counts, rates))

    @property
    def counts(self) -> tuple[int, ...]:
        """All worker counts, in order."""
        return tuple(sorted({*self.worker_counts, *self.added}))

    def batch_for(self, workers: int) -> Batch:
        """The batch of a trial. With weak scaling each worker brings the same tasks once more, under other ids."""
        if self.scaling == "strong" or workers <= 1:
            return self.batch
        copies = (
            task if copy == 0 else task._replace(id=f"{task.id}{COPY}{copy}")
            for copy in range(workers)
            for task in self.batch.tasks
        )
        return dataclasses.replace(self.batch, tasks=tuple(copies))

    @property
    def cpus_per_task(self) -> float:
        """The most CPUs that a task of the batch declares."""
        return max(task.resources.cpus for task in self.batch.tasks)

    def repeat(self, number: int) -> list[Trial]:
        """A repeat: the baseline and every worker count in each mode once, in an order drawn for it.

        If the machine becomes slower or faster meanwhile, it does so for all of them (Hoefler and Belli, SC'15). The
        order depends on the seed and the repeat alone, so a study that goes on has the order that it would have had.
        """
        draw = random.Random(derive_seed(self.seed, f"repeat {number}"))  # noqa: S311 - no secret is drawn
        points = [(BASELINE, self.modes[0]), *[(count, mode) for mode in self.modes for count in self.worker_counts]]
        added = [(count, mode) for mode in self.modes for count in self.added]
        if number:
            points += added
        draw.shuffle(points)
        if not number:
            draw.shuffle(added)
            points += added
        first = number * len(points)
        return [Trial(workers, number, first + place, mode) for place, (workers, mode) in enumerate(points)]

    @property
    def tasks_digest(self) -> str:
        """SHA-256 over what the tasks compute: studies with an equal one are of the same batch."""
        tasks = [(task.id, task.domain, task.seed, task.parameters) for task in self.batch.tasks]
        return hashlib.sha256(repr(tasks).encode()).hexdigest()

    @functools.cached_property
    def digest(self) -> str:
        """SHA-256 over the plan, and the code of its domains: a study goes on only with an equal one."""
        texts = ModelTexts()
        tasks = [
            (task.id, task.domain, task.seed, task.parameters, task.resources.key(), texts[task.policy])
            for task in self.batch.tasks
        ]
        code = [(name, _source_digest(REGISTRY.get(name))) for name in sorted(self.batch.domains())]
        plan = (tasks, code, self.worker_counts, self.seed, self.modes, self.scaling)
        return hashlib.sha256(repr(plan).encode()).hexdigest()


def _source_digest(domain: Domain) -> str:
    """SHA-256 of the file that defines what a domain computes; empty if there is none."""
    try:
        path = inspect.getsourcefile(inspect.unwrap(domain.compute))
        return hashlib.sha256(Path(path or "").read_bytes()).hexdigest()
    except (TypeError, OSError):
        return ""


def find_bend(counts: Sequence[int], rates: Mapping[int, float]) -> tuple[int, ...]:
    """The numbers in the middle between counts before and after the one where throughput stops to follow the workers.

    That is the first step in which throughput gains less than BEND of what the workers gain.
    """
    known = [count for count in sorted(counts) if rates.get(count)]
    for position, (less, more) in enumerate(itertools.pairwise(known)):
        if rates[more] / rates[less] - 1 < BEND * (more / less - 1):
            around = known[max(0, position - 1) : position + 2]
            return tuple(sorted({(low + high) // 2 for low, high in itertools.pairwise(around)} - set(counts)))
    return ()


def auto_worker_counts(cores: int, tasks: int, cpu_share: float, cpus_per_task: float = 1.0) -> list[int]:
    """1, 2, 4, ... to the workers that the cores hold, and these.

    For tasks that wait so far beyond them as the cores have time for, and tasks last.
    """
    held = max(1, int(cores / max(cpus_per_task, 1.0)))
    most = held
    if cpu_share < WAITS:
        most = max(held, min(WAITING_PER_CORE * held, int(held / max(cpu_share, 1e-9)), tasks // LEAST_TASKS))
    powers = itertools.takewhile(lambda count: count <= most, (2**power for power in itertools.count()))
    return sorted({*powers, held})


def default_worker_counts(cores: int) -> list[int]:
    """1, 2, 4 ... to the first that is twice the cores or more: more workers than cores gain nothing. Eight at most."""
    counts = [1]
    while counts[-1] < 2 * cores and len(counts) < 8:
        counts.append(counts[-1] * 2)
    return counts


def parse_worker_counts(
    text: str, option: str = "--max-workers", most: int = WORKERS_LIMIT, other: str = "; or auto"
) -> list[int]:
    """The worker counts of `--max-workers 1,2,4`, or of another option, in order. `other` is what else it takes.

    Raises InvalidInput unless the text is a list of different positive whole numbers.
    """
    counts = []
    for part in text.split(","):
        number = part.strip()
        if not number.isascii() or not number.isdigit() or not 1 <= int(number) <= most:
            expected = f"whole numbers from 1 to {most} with commas, such as 1,2,4,8{other}"
            raise InvalidInput([Problem(option, show(part), expected)], "command line")
        counts.append(int(number))
    if len(set(counts)) < len(counts):
        raise InvalidInput([Problem(option, show(text), "each number once")], "command line")
    return sorted(counts)


def default_batch(seed: int) -> tuple[dict[str, Any], list[str]]:
    """The default study's batch, of the domains whose libraries are installed; and why others are left out."""
    blocks, left_out = [], []
    for name, block in DEFAULT_STUDY.items():
        domain: Domain = REGISTRY.get(name)
        try:
            domain.require_libraries()
        except MissingExtra as error:
            left_out.append(str(error))
        else:
            blocks.append(block)
    return {"name": "default study", "seed": seed, "generate": blocks}, left_out
