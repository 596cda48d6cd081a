"""The tasks that are submitted together, as frozen data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

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

    def shapes(self) -> list[Resources]:
        """The shapes of its tasks, each once."""
        distinct = {id(task.resources): task.resources for task in self.tasks}  # equal tasks mostly share the object
        return list({shape.key(): shape for shape in distinct.values()}.values())
