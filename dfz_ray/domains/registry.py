"""The domains that are known in this process: built in, installed, and defined by the user."""

from __future__ import annotations

import functools
import importlib
from importlib.metadata import entry_points
from typing import Any

from dfz_ray.domains.domain import Domain
from dfz_ray.errors import DfzError, InvalidInput, Problem

ENTRY_POINTS = "dfz_ray.domains"
"""The group under which a package offers domains: `coin = "my_package:COIN"`."""

BUILT_IN = {
    "quantum": "dfz_ray.domains.quantum.domain:DOMAIN",
    "maze": "dfz_ray.domains.maze.domain:DOMAIN",
    "image_classification": "dfz_ray.domains.images.domain:DOMAIN",
    "sorting": "dfz_ray.domains.sorting.domain:DOMAIN",
}


CALLS = "function"
"""The domain of function calls (domains/function_call.py): no batch may name it, for its parameters are code."""


class Registry:
    """Domains by name; each is imported when it is first asked for."""

    def __init__(self) -> None:
        self._defined: dict[str, Domain] = {}

    def add(self, domain: Domain) -> None:
        """Make a domain known. A user's one may be defined again (a notebook cell that is run again).

        Raises:
            InvalidInput: the name is a built-in one's.
        """
        if domain.name in BUILT_IN or domain.name == CALLS:
            raise InvalidInput([Problem("domain", repr(domain.name), "a name that no built-in domain has")], "domain")
        self._defined[domain.name] = domain

    def find(self, name: str) -> Domain | None:
        """The domain of that name, or None.

        Raises:
            DfzError: an installed package offers it, but can't be imported.
        """
        if name == CALLS:
            return None
        if name in self._defined:
            return self._defined[name]
        if name in BUILT_IN:
            return _load_built_in(name)
        return _load_installed(name) if name in _installed() else None

    def get(self, name: str) -> Domain:
        """The domain of that name, which must be known."""
        found = self.find(name)
        if name == CALLS:
            raise DfzError(
                "these tasks are calls of functions: their process alone can go on with them, for what a run folder "
                "holds is never taken for code"
            )
        if found is None:
            raise DfzError(
                f"no domain {name!r} is known here: import the module that defines it (--import), or run the script "
                f"that does; known are {', '.join(self.names())}"
            )
        return found

    def names(self) -> list[str]:
        """All names, in order."""
        return sorted({*self._defined, *BUILT_IN, *_installed()})


@functools.cache
def _load_built_in(name: str) -> Domain:
    module, _, attribute = BUILT_IN[name].partition(":")
    domain: Domain = getattr(importlib.import_module(module), attribute)
    return domain


@functools.cache
def _installed() -> dict[str, Any]:
    return {entry.name: entry for entry in entry_points(group=ENTRY_POINTS)}


@functools.cache
def _load_installed(name: str) -> Domain:
    entry = _installed()[name]
    try:
        domain = entry.load()
    except Exception as error:
        raise DfzError(
            f"domain {name!r} can't be loaded from {entry.value}: {type(error).__name__}: {error}"
        ) from error
    domain = getattr(domain, "domain", domain)  # a function made by @domain carries its Domain
    if not isinstance(domain, Domain):
        raise DfzError(f"the entry point {name!r} in group {ENTRY_POINTS} is no Domain: {entry.value}")
    if domain.name != name:
        raise DfzError(f"the entry point {name!r} in group {ENTRY_POINTS} is the Domain {domain.name!r}: {entry.value}")
    return domain


REGISTRY = Registry()
"""The registry of this process."""
