"""The oversubscription guard: domains whose tasks use more CPUs than they declare, so that slots share cores."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from dfz_ray.scaling.measurement import Measurement
from dfz_ray.scaling.number_texts import show_plain

TOLERATED = 1.1
"""CPU time may exceed that which was declared by this factor: interpreters have threads of their own."""
CLEARLY_MORE = 0.2
"""Tasks that declare less than a CPU, and use no more than one, may use so much more of it."""
LEAST_S = 0.1
"""Less CPU time than this is not judged: the clock that counts it is coarse."""


@dataclass(frozen=True)
class CpuUse:
    """The CPUs that the tasks of a domain use while they run, and those that they declare."""

    domain: str
    used: float
    declared: float
    settings: tuple[str, ...]
    """The settings that cap the thread pools of the process, as far as they are known."""

    def describe(self) -> str:
        """The finding, with what to do about it."""
        said = f"tasks of {self.domain} use {show_plain(self.used)} CPUs and declare {show_plain(self.declared)}"
        if self.used <= TOLERATED:  # one thread
            return f"{said}: declare cpus: {show_plain(min(1.0, math.ceil(10 * self.used) / 10))}"
        cap = " or ".join(self.settings) if self.settings else "the number of threads that the domain starts"
        return f"{said}: cap {cap}, or declare cpus: {math.ceil(self.used)}"


def find_overuse(measurements: Sequence[Measurement]) -> list[CpuUse]:
    """The domains that use more than they declare: in the sequential program, or, where it was not measured, beside
    others."""
    sequential = [one for one in measurements if one.workers == 0 and one.timed and one.domains]
    judged = sequential or [one for one in measurements if one.timed and one.domains]
    settings = tuple(sorted({name for one in judged for name in one.thread_settings or ()}))
    found = []
    for domain in sorted({domain for one in judged for domain in one.domains or ()}):
        uses = [one.domains[domain] for one in judged if one.domains and domain in one.domains]
        busy_s, cpu_s, declared_s = (sum(use[name] for use in uses) for name in ("busy_s", "cpu_s", "declared_cpu_s"))
        if busy_s and cpu_s > declared_s + LEAST_S and _is_more(cpu_s / busy_s, declared_s / busy_s):
            found.append(CpuUse(domain, cpu_s / busy_s, declared_s / busy_s, settings))
    return found


def _is_more(used: float, declared: float) -> bool:
    """True if tasks use more CPUs than they declare, and than one, or clearly more of a single one."""
    return used > TOLERATED * (max(1.0, declared) if used - declared <= CLEARLY_MORE else declared)
