"""The domains that are known in this process: built-in ones, installed ones, and those that the user defines."""

from __future__ import annotations

import functools
import importlib
from importlib.metadata import EntryPoint, entry_points

from dfz_ray.domains.domain import Domain
from dfz_ray.errors import DfzError, InvalidInput, Problem

BUILT_IN = ("quantum", "maze", "image_classification", "sorting")
"""Each is the package of that name beside this module; its module `domain` has the DOMAIN."""
ENTRY_POINTS = "dfz_ray.domains"
"""The group of entry points by which a package offers domains: `coin = "my_package:COIN"`."""
CALLS = "function"
"""The domain of function calls (executor/function_domain.py). No batch may name it, since its parameters are code."""


class Registry:
    """Domains by name; each is imported when it is first asked for."""

    def __init__(self) -> None:
        self.defined: dict[str, Domain] = {}
        """Those that the user has defined."""

    def add(self, domain: Domain) -> None:
        """Make a user's domain known. It may be defined again, as by a notebook cell that runs again.

        Raises:
            InvalidInput: a built-in domain has the name.
        """
        if domain.name in (*BUILT_IN, CALLS):
            raise InvalidInput([Problem("domain", repr(domain.name), "a name that no built-in domain has")], "domain")
        self.defined[domain.name] = domain

    def find(self, name: str) -> Domain | None:
        """The domain of that name, or None.

        Raises:
            DfzError: an installed package offers it, but can't be imported.
        """
        if name == CALLS:
            return None
        if name in self.defined:
            return self.defined[name]
        if name in BUILT_IN:
            return _load_built_in(name)
        return _load_installed(name) if name in _find_installed() else None

    def get(self, name: str) -> Domain:
        """The domain of that name.

        Raises:
            DfzError: it is not known, or is that of function calls, or can't be imported.
        """
        found = self.find(name)
        if found is not None:
            return found
        if name == CALLS:
            raise DfzError(
                "these tasks are calls of functions: only the process that made them can go on with them, since "
                "what a run folder holds is never taken for code"
            )
        raise DfzError(
            f"no domain {name!r} is known here: import the module that defines it (--import), or run the script "
            f"that does; known are {', '.join(self.names())}"
        )

    def names(self) -> list[str]:
        """All names, in order."""
        return sorted({*self.defined, *BUILT_IN, *_find_installed()})


@functools.cache
def _load_built_in(name: str) -> Domain:
    domain: Domain = importlib.import_module(f"dfz_ray.domains.{name}.domain").DOMAIN
    return domain


@functools.cache
def _find_installed() -> dict[str, EntryPoint]:
    return {entry.name: entry for entry in entry_points(group=ENTRY_POINTS)}


@functools.cache
def _load_installed(name: str) -> Domain:
    entry = _find_installed()[name]
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
