"""Makes domains ready to travel to the workers."""

from __future__ import annotations

import json
from typing import Any

from ray import cloudpickle

from dfz_ray.domains.domain import Domain
from dfz_ray.driver.pickling import dumps
from dfz_ray.errors import DfzError
from dfz_ray.protocol.submission import ShippedDomain

DOMAIN_LIMIT_BYTES = 50 * 2**20
"""A domain travels inside its remote function, which Ray keeps in memory on every node."""


def ship(domain: Domain) -> ShippedDomain:
    """A domain ready to travel: an installed one travels by reference, a user's own by value.

    Raises:
        DfzError: it can't be pickled, or is too large.
    """
    try:
        pickled = dumps(domain)
    except Exception as error:
        raise DfzError(
            f"domain {domain.name!r} can't be sent to the workers: {type(error).__name__}: {error}"
        ) from None
    if len(pickled) > DOMAIN_LIMIT_BYTES:
        raise DfzError(
            f"domain {domain.name!r} can't be sent to the workers: with its references it has {len(pickled)} bytes, "
            f"and at most {DOMAIN_LIMIT_BYTES} may travel; let it read large data from a file"
        )
    volatile = json.dumps(sorted(domain.volatile))
    return ShippedDomain(domain.name, pickled, volatile, domain.exclusive, domain.picks_gpu, domain.version)


def ship_by_value(module: Any) -> None:
    """Send everything that a module defines by value: the workers need not have the module."""
    cloudpickle.register_pickle_by_value(module)
