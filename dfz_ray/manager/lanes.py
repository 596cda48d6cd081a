"""The lanes of a run, each of one domain and one shape, and the Ray calls that serve them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dfz_ray.engine.messages import KindEntry, StartLease
from dfz_ray.manager.nodes import remote_options
from dfz_ray.protocol.submission import ShippedDomain, SubmittedKind
from dfz_ray.specs.policy import Policy
from dfz_ray.specs.resources import Resources
from dfz_ray.worker.lease import make_lease_function

SEES_ALL_GPUS = {"env_vars": {"RAY_EXPERIMENTAL_NOSET_CUDA_VISIBLE_DEVICES": "1"}}
"""Ray does not hide GPUs from such a worker. Else a worker that has opened one, and is kept, could not use the next one
that it is assigned: CUDA looks at what is visible only once in a process.
"""


class Lanes:
    """Numbers the lanes, and calls leases for them, of at most `width` slots each.

    `is_nested` is true for a driver that is itself a call in a worker. It holds CPUs while it waits for the run, and
    others like it may hold the rest. So its leases ask for none: they take over those that the driver holds.
    """

    def __init__(self, run_id: str, manager: Any, grace_s: float, width: int, is_nested: bool = False) -> None:
        self.shapes: list[Resources] = []
        """By lane."""
        self._run_id = run_id
        self._manager = manager
        self._grace_s = grace_s
        self._width = width
        self._numbers: dict[tuple[str, str], int] = {}
        """By domain and resources (JSON)."""
        self.domains: list[str] = []
        """By lane."""
        self._functions: dict[str, Any] = {}
        self._exclusive: set[str] = set()
        """Domains whose tasks must not share a process."""
        self._is_nested = is_nested
        self._picks_gpu: set[str] = set()
        """Domains whose workers see all GPUs of their node."""

    def load_domains(self, domains: Sequence[ShippedDomain]) -> None:
        """Make the Ray functions of domains."""
        for domain in domains:
            self._functions[domain.name] = make_lease_function(domain.name, domain.pickled, self._manager)
            if domain.exclusive:
                self._exclusive.add(domain.name)
            if domain.picks_gpu:
                self._picks_gpu.add(domain.name)

    def add_kinds(self, kinds: Sequence[SubmittedKind]) -> list[KindEntry]:
        """Add kinds and their new lanes; returns the kinds as the engine takes them."""
        entries = []
        for kind in kinds:
            lane = self._numbers.setdefault(kind.lane, len(self._numbers))
            if lane == len(self.shapes):
                self.shapes.append(Resources.model_validate_json(kind.resources))
                self.domains.append(kind.domain)
            policy = Policy.model_validate_json(kind.policy)
            entries.append(KindEntry(kind.name, lane, policy, kind.domain in self._exclusive))
        return entries

    def call(self, command: StartLease) -> Any:
        """Call a lease; returns the reference of its end."""
        domain, shape = self.domains[command.lane], self.shapes[command.lane]
        options = remote_options(shape)
        if self._is_nested:
            options["num_cpus"] = 0
        if shape.gpus and domain in self._picks_gpu:
            options["runtime_env"] = SEES_ALL_GPUS
        if command.spreads:
            options["scheduling_strategy"] = "SPREAD"
        width = 1 if domain in self._exclusive else self._width
        name = name_lease(domain, command.kind, width)
        function = self._functions[domain].options(name=name, **options)
        return function.remote(self._run_id, command.lease, shape.threads, self._grace_s, width)


def name_lease(domain: str, kind: str, width: int) -> str:
    """The name of a lease in the Ray dashboard; it begins with tasks of that kind, and executes `width` at once."""
    shown = domain if kind == domain else f"{domain}: {kind}"
    return f"dfz lease {shown}" + (f" on {width} threads" if width > 1 else "")
