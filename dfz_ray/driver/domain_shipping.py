"""Domains as they travel to the workers: by reference where they are installed, by value where they are the user's."""

from __future__ import annotations

import json
from typing import Any

from ray import cloudpickle

from dfz_ray.domains.domain import Domain
from dfz_ray.errors import DfzError
from dfz_ray.protocol.submission import ShippedDomain

DOMAIN_LIMIT_BYTES = 50 * 2**20
"""A domain travels inside its remote function, which Ray keeps in memory on every node."""


def ship(domain: Domain) -> ShippedDomain:
    """A domain as it travels to the workers: by reference where it is installed, by value where it is the user's.

    Raises:
        DfzError: it holds something that can't travel.
    """
    try:
        pickled = cloudpickle.dumps(domain)
    except Exception as error:
        raise DfzError(
            f"domain {domain.name!r} can't be sent to the workers: {type(error).__name__}: {error}"
        ) from None
    if len(pickled) > DOMAIN_LIMIT_BYTES:
        raise DfzError(
            f"domain {domain.name!r} can't be sent to the workers: with what it refers to it has {len(pickled)} bytes, "
            f"and at most {DOMAIN_LIMIT_BYTES} may travel; let it read large data from a file"
        )
    return ShippedDomain(domain.name, pickled, json.dumps(sorted(domain.volatile)), domain.exclusive)


def ship_by_value(module: Any) -> None:
    """Let what a module defines travel to the workers by value: they need not have it."""
    cloudpickle.register_pickle_by_value(module)
