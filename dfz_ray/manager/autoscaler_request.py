"""What Ray's autoscaler is asked for: nodes for what waits, and for what the pool of slots would use."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from dfz_ray.manager.nodes import has_autoscaler, request_nodes, request_of
from dfz_ray.specs.resources import Resources

BUNDLES_LIMIT = 10_000
"""More is never asked for at once."""


class Demand:
    """Asks for nodes, and takes it back. A request says what the cluster is to hold in all, not what more.

    Args:
        lanes: the shape of every lane, by number; it grows.
        needs: tells how many leases of each lane could be used.
    """

    def __init__(self, lanes: Sequence[Resources], needs: Callable[[], Mapping[int, int]]) -> None:
        self._lanes = lanes
        self._needs = needs
        self._requested: list[dict[str, float]] = []

    def tell(self, missing: Sequence[int]) -> None:
        """Ask for what is needed now, if it is another than before.

        Args:
            missing: the lanes whose tasks wait for a node that holds one of them.
        """
        counts = {**dict.fromkeys(missing, 1), **self._needs()}
        wanted = [
            bundle
            for lane, count in sorted(counts.items())
            for bundle in [request_of(self._lanes[lane])] * count
            if bundle
        ]
        self._ask(wanted[:BUNDLES_LIMIT])

    def let_go(self) -> None:
        """Ask for nothing more."""
        self._ask([])

    def _ask(self, wanted: list[dict[str, float]]) -> None:
        if wanted != self._requested and has_autoscaler():
            request_nodes(wanted)
            self._requested = wanted
