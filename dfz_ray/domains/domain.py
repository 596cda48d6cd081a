"""The contract of a domain: one kind of work, as data.

A new domain is a module that ends with `DOMAIN = Domain(...)`. For the least that it needs see `sorting/domain.py`:

1. `class SomeParameters(Parameters)`: the fields of a task's parameters, with limits, defaults and descriptions.
2. `compute(parameters, seed, threads)`: does the work, and returns a dict of plain data. Its result follows from its
   arguments alone, whatever ran before in the process and whatever the number of threads.
3. `kind(parameters)`: a few words that tasks share if they take about as long.

All else in `Domain` has a default. A built-in domain is the package `domains/NAME/` whose module `domain` has the
DOMAIN, and its name stands in `registry.BUILT_IN`; that is all. Libraries that not everyone has are imported inside
of functions, named in `libraries`, and brought by an extra of dfz_ray in pyproject.toml. A package of someone else's
offers its DOMAIN by an entry point (see `registry.ENTRY_POINTS`); a function needs only `@domain` (`user_domain`).
"""

from __future__ import annotations

import importlib
import importlib.util
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict

from dfz_ray.errors import MissingExtra
from dfz_ray.specs.input_file import FileShelf
from dfz_ray.specs.resources import Resources


class Parameters(BaseModel):
    """The parameters of a task: frozen, of exact types, and without unknown keys.

    A field of type `InputFile` takes a path; the file is read when the batch is checked, and travels with the task.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


def _tuple_of_list(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


Pair = Annotated[tuple[int, int], BeforeValidator(_tuple_of_list)]
"""Two whole numbers as a parameter; a batch file has them as a list."""


def always_fits(parameters: Any, resources: Resources) -> None:
    """The check of a domain whose tasks fit any resources."""


@dataclass(frozen=True)
class Domain:
    """One kind of work."""

    # --- what every domain has --------------------------------------------------------------------------------------

    name: str
    """The name of the domain in a batch."""
    parameters: type[BaseModel]
    """The type that checks a task's parameters; `dfz domains NAME` shows its docstring and fields."""
    compute: Callable[[Any, int, int], Any]
    """`compute(parameters, seed, threads)` returns a task's result: plain data, for a built-in domain a dict with the
    key `main_score`. It uses no global random state, no more threads than it is given, and no GPU but
    those that were assigned (`gpus.assigned_gpus`), however many it sees.
    """
    kind: Callable[[Any], str]
    """`kind(parameters)`: tasks of one kind take about as long, so that their run time can be learned."""

    # --- what a domain may have -------------------------------------------------------------------------------------

    summary: str = field(default="", compare=False)
    """One sentence for `dfz domains`."""
    results: Mapping[str, str] = field(default_factory=dict, compare=False)
    """The keys of a result with their meaning, for `dfz domains NAME`."""
    resources: Resources = Resources()
    """The resources of a task that does not declare its own."""
    volatile: frozenset[str] = frozenset()
    """Top-level keys of a result that differ from run to run (times, host names); the digest leaves them out."""
    version: int = 1
    """It grows whenever a task's result changes or means something else: a run is not mixed of two versions unasked."""
    draw: Callable[[random.Random, Mapping[str, Any]], dict[str, Any]] | None = None
    """`draw(rng, given)` returns parameters for a generated task that are valid beside the given ones; None: the
    defaults.
    """
    check: Callable[[Any, Resources], None] = always_fits
    """`check(parameters, resources)` raises ValueError if a task does not fit its resources; the text says what was
    expected.
    """
    libraries: tuple[str, ...] = ()
    """Modules that `compute` imports. They must exist before a run, and are imported before a worker is timed."""
    extra: str = ""
    """The extra of dfz_ray that brings the libraries."""
    picks_gpu: bool = False
    """True if `compute` looks up which GPUs it may use (`gpus.assigned_gpus`): its workers then see all of a node's. A
    domain that does not is shown only those that it was assigned.
    """
    repeatable: bool = False
    """True if two attempts at one task may execute at the same time: `compute` changes nothing outside of its process.
    Then a policy may have `speculate`.
    """
    exclusive: bool = False
    """True if a task needs a process for itself, even with `use_threads`: its library has state of the process."""

    # --- what only the domain of function calls has -----------------------------------------------------------------

    read: Callable[[bytes, FileShelf], Any] | None = None
    """Reads parameters from their bytes, where the type would be too slow; only for a domain that no batch can name."""
    compute_calls: Callable[[Any, int, int, Callable[[], bool]], Any] | None = None
    """As `compute`, for tasks that may be several calls: it calls the last argument between two of them, and makes no
    further one if that returns True.
    """
    pack_error: Callable[[BaseException], bytes | None] | None = None
    """Packs an exception of a task for its caller, who gets it beside the text; returns None where it can't."""

    def require_libraries(self) -> None:
        """Raise if a library is missing; none is imported.

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
