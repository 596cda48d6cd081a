"""A domain: one kind of work, as data."""

from __future__ import annotations

import importlib
import importlib.util
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel, ConfigDict

from dfz_ray.errors import MissingExtra
from dfz_ray.specs.input_file import FileShelf
from dfz_ray.specs.resources import Resources


class Parameters(BaseModel):
    """The parameters of one domain: frozen, of exact types, and without unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


def always_fits(parameters: Any, resources: Resources) -> None:
    """The check of a domain whose tasks need nothing beyond what they declare."""


@dataclass(frozen=True)
class Domain:
    """One kind of work."""

    name: str
    parameters: type[BaseModel]
    """The type that checks a task's parameters; its docstring and fields are what `dfz domains NAME` shows."""
    compute: Callable[[Any, int, int], Any]
    """`compute(parameters, seed, threads) -> dict`: pure, with no global random state, and within its threads."""
    kind: Callable[[Any], str]
    """`kind(parameters)`: tasks of one kind cost about the same, so that their run time can be learned."""
    resources: Resources = Resources()
    """What a task needs that does not say so itself."""
    volatile: frozenset[str] = frozenset()
    """Top-level keys of a result that differ from run to run (times, host names): the digest leaves them out."""
    draw: Callable[[random.Random, Mapping[str, Any]], dict[str, Any]] | None = None
    """`draw(rng, given)`: valid parameters for a generated task; what is given wins. None: the defaults."""
    check: Callable[[Any, Resources], None] = always_fits
    """Raises ValueError, with the expectation as its text, where the declared resources can't hold the task."""
    read: Callable[[bytes, FileShelf], Any] | None = None
    """Reads parameters from their bytes, in the place of the type, where that is too slow; only where no batch can name
    the domain.
    """
    pack_error: Callable[[BaseException], bytes | None] | None = None
    """From what a task has raised to what is handed to who waits for it, beside the text; None where it can't be."""
    exclusive: bool = False
    """Whether a task needs a process of its own, also where others share one: its library runs one thing at a time."""
    libraries: tuple[str, ...] = ()
    """Modules that compute imports: looked for before a run, imported before a worker is timed."""
    extra: str = ""
    """The extra of dfz_ray that brings the libraries."""
    summary: str = field(default="", compare=False)
    """One sentence for `dfz domains`."""

    def require_libraries(self) -> None:
        """Raise where a library is missing, without importing any.

        Raises:
            MissingExtra: with the line that installs it.
        """
        for module in self.libraries:
            if importlib.util.find_spec(module.partition(".")[0]) is None:  # of a submodule it would import the parent
                raise MissingExtra(f"domain {self.name!r}", module, self.extra)

    def load(self) -> None:
        """Import the libraries, so that the first task does not pay for it."""
        for module in self.libraries:
            importlib.import_module(module)
