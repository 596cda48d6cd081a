"""The tasks of a block of `generate`: each is made when it is accessed, so that millions take no memory."""

from __future__ import annotations

import bisect
import itertools
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, overload

from dfz_ray.specs.parameter_checks import CheckedParameters, Draw, ParameterChecks
from dfz_ray.specs.policy import Policy
from dfz_ray.specs.task import SeedSource, Task

MADE_TOGETHER = 1_000
"""The number of tasks that are made together while all of them are gone through."""


@dataclass(frozen=True)
class GeneratedTasks(Sequence[Task]):
    """Tasks that differ in their ids, in their seeds, and in the parameters that are drawn.

    What is drawn follows from the batch's seed and the task's id alone, so a task is the same whenever it is made.
    """

    prefix: str
    """Of the ids: the prefix, a hyphen, and the position."""
    size: int
    domain: str
    description: str
    policy: Policy
    given: Mapping[str, Any]
    draw: Draw | None
    """Draws the parameters that are not given; None: every task has the given ones alone."""
    seeds: SeedSource
    checks: ParameterChecks

    def __len__(self) -> int:
        return self.size

    def __iter__(self) -> Iterator[Task]:
        for first in range(0, self.size, MADE_TOGETHER):
            yield from self.make(range(first, min(self.size, first + MADE_TOGETHER)))

    @overload
    def __getitem__(self, index: int) -> Task: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Task]: ...
    def __getitem__(self, index: int | slice) -> Task | Sequence[Task]:
        found = range(self.size)[index]
        return self.make([found])[0] if isinstance(found, int) else self.make(found)

    def make(self, positions: Sequence[int]) -> list[Task]:
        """The tasks at these positions.

        Raises:
            Exception: their parameters are wrong, or can't be checked in the quick way.
        """
        ids = [f"{self.prefix}-{position}" for position in positions]
        seeds = list(map(self.seeds.derive, ids))
        checked = [self._check_given()] * len(ids) if self.draw is None else self._draw(self.draw, ids)
        domain, shape, description, policy = self.domain, self.checks.shape, self.description, self.policy
        # As Task(...), without the Python function in a NamedTuple's constructor.
        return [
            tuple.__new__(Task, (task_id, domain, kind, seed, shape, parameters, description, policy))
            for task_id, seed, (parameters, kind) in zip(ids, seeds, checked, strict=True)
        ]

    def _check_given(self) -> CheckedParameters:
        return self.checks.check(dict(self.given))

    def _draw(self, draw: Draw, ids: Sequence[str]) -> list[CheckedParameters]:
        rng = random.Random()  # noqa: S311 - no secret is drawn
        begin = super(random.Random, rng).seed  # `rng.seed` takes an int as this does, a microsecond later
        derive, check, given = self.seeds.derive, self.checks.check_drawn, self.given
        checked = []
        for task_id in ids:
            begin(derive(f"draw:{task_id}"))
            rng.gauss_next = None  # type: ignore[attr-defined]
            checked.append(check({**draw(rng, given), **given}))
        return checked


class JoinedTasks(Sequence[Task]):
    """Tasks in several sequences, one after the other."""

    def __init__(self, parts: Sequence[Sequence[Task]]) -> None:
        self._parts = [part for part in parts if part]
        self._ends = list(itertools.accumulate(map(len, self._parts)))

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def __iter__(self) -> Iterator[Task]:
        return itertools.chain.from_iterable(self._parts)

    @overload
    def __getitem__(self, index: int) -> Task: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Task]: ...
    def __getitem__(self, index: int | slice) -> Task | Sequence[Task]:
        if isinstance(index, int):
            return self._slice(range(len(self))[index], 1)[0]
        begin, end, step = index.indices(len(self))
        if step != 1:
            return [self[position] for position in range(begin, end, step)]
        return self._slice(begin, max(0, end - begin))

    def examples(self) -> Iterator[Task]:
        """One task of each generated block, whose tasks all have its domain and its resources; and all other tasks."""
        for part in self._parts:
            yield from part[:1] if isinstance(part, GeneratedTasks) else part

    def _slice(self, begin: int, count: int) -> list[Task]:
        found: list[Task] = []
        for at in range(bisect.bisect_right(self._ends, begin), len(self._parts)):
            part = self._parts[at]
            first = self._ends[at] - len(part)
            if begin + count <= first:
                break
            found.extend(part[max(0, begin - first) : begin + count - first])
        return found
