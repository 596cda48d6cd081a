"""The likeness of a task's counts to those of a perfect machine."""

from __future__ import annotations

from typing import Any

import numpy as np

from dfz_ray.domains.quantum.circuit_file import FileCircuit
from dfz_ray.domains.quantum.counts import (
    Counts,
    Distribution,
    Reference,
    frequencies,
    hellinger_fidelity,
    split_in_halves,
)
from dfz_ray.domains.quantum.method import choose_method
from dfz_ray.domains.quantum.simulator import Simulator, draw_aer_seed

LEAST_LIKENESS = 0.5
"""Two runs of a perfect machine that are less alike (Hellinger) are too short to judge another one by."""
LEAST_SHOTS = 30
"""Of a run that another one is judged by: two shorter ones may be alike by chance."""


def compare(counts: Counts, exact: Reference, name: str, rng: np.random.Generator) -> dict[str, Any]:
    """The keys that say how well the counts fit a reference, and how well those of a perfect machine would."""
    return _score(hellinger_fidelity(counts, exact), exact.draw_fidelity(sum(counts.values()), rng), name)


def compare_with_a_run(counts: Counts, read: FileCircuit, threads: int, rng: np.random.Generator) -> dict[str, Any]:
    """The same keys, where the exact outcomes are not known: two runs without noise stand for a perfect machine.

    The first is the reference, and the second is judged by it as the counts are.
    """
    shots = sum(counts.values())
    choice = choose_method(read.work(0.0), noisy=False, shots=2 * shots)
    machine = Simulator(choice.method, 0.0, threads)
    both = machine.sample_again(read.perfect.assembly(choice.method), 2 * shots, draw_aer_seed(rng))
    first, second = split_in_halves(both, rng)
    reference = Distribution.of(frequencies(first))
    name = "another run without noise"
    scored = _score(hellinger_fidelity(counts, reference), hellinger_fidelity(second, reference), name)
    reason = ""
    if shots < LEAST_SHOTS:
        reason = f"runs of fewer than {LEAST_SHOTS} shots may be alike by chance: more shots help"
    elif scored["details"]["fidelity_of_perfect_machine"] < LEAST_LIKENESS:
        reason = (
            f"two runs without noise of {shots} shots have little in common, so that nothing can be judged by one:"
            " more shots may help"
        )
    if reason:
        scored |= {"circuit_fidelity": None, "main_score": None}
        scored["details"]["no_score"] = reason
    return scored


def _score(fidelity: float, of_perfect_machine: float, reference: str) -> dict[str, Any]:
    return {
        "circuit_fidelity": fidelity,
        "main_score": min(1.0, fidelity / of_perfect_machine) if of_perfect_machine else None,
        "details": {"reference": reference, "fidelity_of_perfect_machine": of_perfect_machine},
    }
