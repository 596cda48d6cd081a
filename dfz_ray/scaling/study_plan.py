"""The plan of a study: its batch, and its trials in the order in which they will run."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from dfz_ray.domains.domain import Domain
from dfz_ray.domains.registry import REGISTRY
from dfz_ray.errors import InvalidInput, MissingExtra, Problem
from dfz_ray.scaling.measurement import Mode
from dfz_ray.specs.batch import Batch
from dfz_ray.specs.problems import show
from dfz_ray.specs.settings import WORKERS_LIMIT

BASELINE = 0
"""In the place of a number of workers: the sequential program."""

DEFAULT_STUDY: dict[str, dict[str, Any]] = {
    "quantum": {"domain": "quantum", "count": 20, "parameters": {"noise_level": 0.01}},
    "maze": {"domain": "maze", "count": 16, "parameters": {"size_x": 400, "size_y": 400}},
    "image_classification": {
        "domain": "image_classification",
        "count": 8,
        "parameters": {"epochs": 6, "difficulty": "easy"},
    },
}
"""Circuits, mazes and classifiers, tasks of a tenth of a second and more, about six seconds of work on one core."""


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
    trials: tuple[Trial, ...]
    seed: int

    @property
    def modes(self) -> tuple[Mode, ...]:
        """The modes that are measured."""
        return tuple(sorted({trial.mode for trial in self.trials}))

    @property
    def cpus_per_task(self) -> float:
        """The most CPUs that a task of the batch declares."""
        return max(task.resources.cpus for task in self.batch.tasks)


def make_plan(
    batch: Batch, worker_counts: Sequence[int], repeats: int, seed: int, modes: Sequence[Mode] = ("processes",)
) -> StudyPlan:
    """Plan a study: each repeat has the baseline and every worker count in each mode once, in an order drawn for it.

    If the machine becomes slower or faster meanwhile, it does so for all of them (Hoefler and Belli, SC'15).
    """
    rng = random.Random(seed)  # noqa: S311 - no secret is drawn
    trials: list[Trial] = []
    for repeat in range(repeats):
        points = [(BASELINE, modes[0]), *[(workers, mode) for mode in modes for workers in worker_counts]]
        rng.shuffle(points)
        trials.extend(Trial(workers, repeat, order, mode) for order, (workers, mode) in enumerate(points, len(trials)))
    return StudyPlan(batch, tuple(trials), seed)


def default_worker_counts(cores: int) -> list[int]:
    """1, 2, 4 ... up to twice the cores, to show that more workers than cores gain nothing."""
    counts = [1]
    while counts[-1] < 2 * cores and len(counts) < 8:
        counts.append(counts[-1] * 2)
    return counts


def parse_worker_counts(text: str) -> list[int]:
    """The worker counts of `--max-workers 1,2,4`, in order.

    Raises InvalidInput unless the text is a list of different positive whole numbers.
    """
    counts = []
    for part in text.split(","):
        number = part.strip()
        if not number.isascii() or not number.isdigit() or not 1 <= int(number) <= WORKERS_LIMIT:
            expected = f"whole numbers from 1 to {WORKERS_LIMIT} with commas, such as 1,2,4,8"
            problem = Problem("--max-workers", show(part), expected)
            raise InvalidInput([problem], "command line")
        counts.append(int(number))
    if len(set(counts)) < len(counts):
        raise InvalidInput([Problem("--max-workers", show(text), "each number once")], "command line")
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
