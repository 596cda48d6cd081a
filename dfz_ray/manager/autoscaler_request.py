"""Requests to Ray's autoscaler: nodes for tasks that wait, and for slots that the run could use."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from dfz_ray.manager.nodes import has_autoscaler, request_of
from dfz_ray.specs.resources import Resources

BUNDLES_LIMIT = 10_000
"""No request asks for more bundles."""


class Demand:
    """Requests nodes. A request replaces the one before it, and names all that the cluster has to hold.

    `lanes` has the shape of every lane, and grows; `needs` returns the leases that each lane could use.
    """

    def __init__(self, lanes: Sequence[Resources], needs: Callable[[], Mapping[int, int]]) -> None:
        self._lanes = lanes
        self._needs = needs
        self._requested: list[dict[str, float]] = []

    def update(self, missing: Sequence[int]) -> None:
        """Ask for the nodes that are needed now, also by the lanes that no node can hold yet."""
        counts = {**dict.fromkeys(missing, 1), **self._needs()}
        wanted = [
            bundle
            for lane, count in sorted(counts.items())
            for bundle in [request_of(self._lanes[lane])] * count
            if bundle
        ]
        self._ask(wanted[:BUNDLES_LIMIT])

    def withdraw(self) -> None:
        """Ask for nothing more."""
        self._ask([])

    def _ask(self, wanted: list[dict[str, float]]) -> None:
        if wanted != self._requested and has_autoscaler():
            from ray.autoscaler.sdk import request_resources

            request_resources(bundles=wanted)
            self._requested = wanted
