"""The configuration of one run: made and checked once, and passed on as one value."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from dfz_ray.errors import InvalidInput, Problem
from dfz_ray.specs.problems import show
from dfz_ray.specs.settings import MaxWorkers, Settings, check_max_workers, read_settings
from dfz_ray.specs.shared_arrays import check_shared

if TYPE_CHECKING:
    import numpy as np

ConfigSource = str | Path | Mapping[str, Any] | Settings | None
"""A configuration file, the same as a dict, or Settings; None: the defaults."""


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """The configuration of one run. `RunConfig.of` makes it from the arguments of a user."""

    settings: Settings = field(default_factory=Settings)
    """The settings of the configuration file."""
    max_workers: MaxWorkers = None
    """The most tasks that execute at once; None: as many as the cluster holds; `auto`: as many as pay."""
    run_dir: Path | None = None
    """The run folder; None: a temporary one."""
    address: str | None = None
    """The Ray to use: host:port, `auto`, or `local` for an embedded one; None looks for one."""
    use_threads: bool = False
    """True if tasks share processes, on threads."""
    processes: int | None = None
    """The most processes that tasks on threads share; None: as many as the cluster holds. A study sets it to the cores,
    since its embedded Ray may offer more CPUs than there are cores."""
    retry_failed: bool = False
    """True to reopen the failed tasks of a run that is resumed."""
    accept_domain_versions: bool = False
    """True to go on with a run that was begun under other versions of its domains."""
    shared: Mapping[str, np.ndarray[Any, Any]] = field(default_factory=dict, repr=False, compare=False)
    """By name the arrays that tasks share."""
    name: str = ""
    """The name of a new run, for its journal."""
    seed: int = 0
    """Seed of the delays before retries."""
    command: tuple[str, ...] = ()
    """The words of the command that sends the batch, without the run folder; empty if a program sends it."""
    imports: tuple[tuple[str, str], ...] = ()
    """The modules that define domains, as journal/openings.py describes them: a run goes on with them."""
    becomes_last: bool = False
    """True if `last` means this run, once it has begun."""

    @classmethod
    def of(
        cls,
        config: ConfigSource = None,
        *,
        max_workers: Any = None,
        run_dir: str | Path | None = None,
        address: str | None = None,
        use_threads: bool = False,
        retry_failed: bool = False,
        accept_domain_versions: bool = False,
        shared: Any = None,
    ) -> Self:
        """Check the arguments of a user. An argument wins over the configuration.

        Raises:
            InvalidInput: with every problem of the configuration, or what is wrong with an argument.
        """
        settings = config if isinstance(config, Settings) else read_settings(config)
        return cls(
            settings=settings,
            max_workers=check_max_workers(settings.max_workers if max_workers is None else max_workers),
            run_dir=_check_run_dir(run_dir),
            address=_check_address(address) or settings.address,
            use_threads=bool(use_threads),
            retry_failed=bool(retry_failed),
            accept_domain_versions=bool(accept_domain_versions),
            shared=check_shared(shared),
        )


def _check_run_dir(given: Any) -> Path | None:
    """The run folder. An empty text is refused: it would mean the working folder, where nobody wants a run."""
    if given is None:
        return None
    try:
        path = os.fspath(given)
        if isinstance(path, str) and path and b"\0" not in os.fsencode(path):
            return Path(path)
    except (TypeError, UnicodeEncodeError):  # no path, or a text that no file system takes
        pass
    raise InvalidInput([Problem("run_dir", show(given), "the path of a folder")], "the arguments")


def _check_address(given: Any) -> str | None:
    if given is None or isinstance(given, str):
        return given
    raise InvalidInput([Problem("address", show(given), "a text: host:port, auto or local")], "the arguments")
