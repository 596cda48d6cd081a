"""Requests to Ray's autoscaler: nodes for tasks that wait, and for slots that the run could use."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence

from dfz_ray.manager.nodes import has_autoscaler, request_of
from dfz_ray.specs.resources import Resources

BUNDLES_LIMIT = 10_000
"""No request asks for more bundles."""


_wanted: dict[Demand, list[dict[str, float]]] = {}
"""The needs of each run of this process: a request of Ray's stands for the whole cluster."""


class Demand:
    """Requests nodes. A request replaces the one before it, of any run, and names all that the cluster has to hold.

    `lanes` has the shape of every lane, and grows; `needs` returns the leases that each lane could use.
    """

    def __init__(self, lanes: Sequence[Resources], needs: Callable[[], Mapping[int, int]]) -> None:
        self._lanes = lanes
        self._needs = needs

    def update(self, missing: Sequence[int]) -> None:
        """Ask for the nodes that are needed now, also by the lanes that no node can hold yet."""
        counts = {**dict.fromkeys(missing, 1), **self._needs()}
        wanted = [
            bundle
            for lane, count in sorted(counts.items())
            for bundle in [request_of(self._lanes[lane])] * count
            if bundle
        ]
        # While tasks wait for a node it is asked for again and again: another driver may have replaced the request.
        self._ask(wanted[:BUNDLES_LIMIT], again=bool(missing))

    def withdraw(self) -> None:
        """Ask for nothing more."""
        self._ask([])

    def _ask(self, wanted: list[dict[str, float]], again: bool = False) -> None:
        if (again or wanted != _wanted.get(self, [])) and has_autoscaler():
            from ray.autoscaler.sdk import request_resources

            _wanted[self] = wanted
            if not wanted:
                del _wanted[self]
            request_resources(bundles=list(itertools.chain.from_iterable(_wanted.values())))
