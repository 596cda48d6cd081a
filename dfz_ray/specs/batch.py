"""The tasks that are submitted together, as frozen data."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from dfz_ray.specs.generated_tasks import JoinedTasks
from dfz_ray.specs.resources import Resources
from dfz_ray.specs.task import Task


@dataclass(frozen=True)
class Batch:
    """Tasks that are submitted together, in the order of submission; their ids are unique."""

    name: str
    seed: int
    tasks: Sequence[Task]
    """A tuple; of a large batch with `generate`, a sequence that makes its tasks when they are accessed."""
    files: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    """The contents of the files that parameters name, by SHA-256 in hex."""
    calls: Sequence[int] = ()
    """The numbers in their run of calls whose arguments are in its folder, for they are large."""

    def shapes(self) -> list[Resources]:
        """The shapes of its tasks, each once."""
        distinct = {id(task.resources): task.resources for task in self._examples()}  # equal tasks mostly share it
        return list({shape.key(): shape for shape in distinct.values()}.values())

    def domains(self) -> set[str]:
        """The names of the domains of its tasks."""
        return {task.domain for task in self._examples()}

    def speculating(self) -> set[str]:
        """The names of the domains of those of its tasks that may get a second attempt."""
        return {task.domain for task in self._examples() if task.policy.speculate}

    def _examples(self) -> Iterable[Task]:
        """Its tasks, or of those that are made when they are accessed one of each block: it stands for the others."""
        return self.tasks.examples() if isinstance(self.tasks, JoinedTasks) else self.tasks
