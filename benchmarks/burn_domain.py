"""The loop of arithmetic as a domain of dfz_ray."""

from __future__ import annotations

from workloads import burn

from dfz_ray import domain


@domain("burn", kind=lambda parameters: parameters["kind"])
def burn_task(iterations: int, kind: str = "all") -> int:
    """Run the loop."""
    return burn(iterations)
