"""The tasks that are submitted together, as frozen data; and what their checking asks of the domains."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from pydantic import BaseModel

from dfz_ray.specs.resources import Resources
from dfz_ray.specs.task import Task


class KnownDomain(Protocol):
    """What checking a task needs to know of its domain."""

    @property
    def name(self) -> str: ...  # noqa: D102 - the attributes of dfz_ray.domains.domain.Domain
    @property
    def parameters(self) -> type[BaseModel]: ...  # noqa: D102
    @property
    def kind(self) -> Callable[[Any], str]: ...  # noqa: D102
    @property
    def resources(self) -> Resources: ...  # noqa: D102
    @property
    def draw(self) -> Callable[[random.Random, Mapping[str, Any]], dict[str, Any]] | None: ...  # noqa: D102
    @property
    def check(self) -> Callable[[Any, Resources], None]: ...  # noqa: D102
    def require_libraries(self) -> None: ...  # noqa: D102


class KnownDomains(Protocol):
    """The domains that a batch may name."""

    def find(self, name: str) -> KnownDomain | None:
        """The domain of that name, or None."""

    def names(self) -> list[str]:
        """All names."""


@dataclass(frozen=True)
class Batch:
    """Tasks that are submitted together, in the order of submission; their ids are unique."""

    name: str
    seed: int
    tasks: tuple[Task, ...]
    files: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    """The files that parameters name: SHA-256 in hex, content."""

    def shapes(self) -> list[Resources]:
        """What its tasks ask for, each shape once."""
        distinct = {id(task.resources): task.resources for task in self.tasks}  # tasks that are alike share the object
        return list({shape.key(): shape for shape in distinct.values()}.values())
