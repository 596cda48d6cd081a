"""The results of a perfect machine: exact where they can be computed, else from another run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from dfz_ray.domains.quantum.counts import Distribution, mean_of_draws
from dfz_ray.domains.quantum.simulator import Simulator

EXACT_QUBITS = 24
"""Up to so many qubits the probabilities of all outcomes are computed; of Clifford gates, for any number."""
_DISTINCT_BITS = 62
"""Of 2 to this power outcomes, or more, the shots of a task are all different."""


def exact_bytes(num_qubits: int) -> int:
    """Memory to compute the probabilities: the amplitudes, and what is made of them."""
    return int(32 * 2**num_qubits)


def from_state_vector(circuit: Any) -> Distribution:
    """The exact reference of a circuit of at most EXACT_QUBITS qubits that measures only at its end."""
    from qiskit_aer.library import SaveProbabilities

    unmeasured, wires = _split(circuit)
    qubits = sorted(set(wires.values()))
    unmeasured.append(SaveProbabilities(len(qubits)), qubits)
    found = Simulator("statevector", 0.0, threads=1).run(unmeasured, shots=1).data()["probabilities"]
    # Several bits may hold the same qubit; a perfect machine never measures different values then.
    sources = [(bit, qubits.index(qubit)) for bit, qubit in wires.items()]

    def place(outcome: int) -> int | None:
        at = 0
        for bit, position in sources:
            at |= (outcome >> bit & 1) << position
        return at if all(outcome >> bit & 1 == at >> position & 1 for bit, position in sources) else None

    return Distribution(np.asarray(found), place)


@dataclass(frozen=True)
class EvenReference:
    """The exact reference of Clifford gates: all outcomes that are possible are equally likely.

    They are one of them, changed by the flips (bits to change) of any subset of some independent ones (Dehaene and
    De Moor 2003).
    """

    outcome: int
    flips: Sequence[int]

    @cached_property
    def _reduced(self) -> dict[int, int]:
        """Independent flips by their highest bit."""
        reduced: dict[int, int] = {}
        for flip in self.flips:
            rest = _reduce(flip, reduced)
            if rest:
                reduced[rest.bit_length()] = rest
        return reduced

    def probability(self, outcome: int) -> float:
        """The probability of an outcome."""
        return 0.0 if _reduce(outcome ^ self.outcome, self._reduced) else float(2.0 ** -len(self._reduced))

    def draw_fidelity(self, shots: int, rng: np.random.Generator) -> float:
        """The Hellinger fidelity of so many shots drawn from the possible outcomes."""
        bits = len(self._reduced)

        def draw() -> float:
            drawn = np.arange(shots) if bits >= _DISTINCT_BITS else rng.integers(2**bits, size=shots)
            times = np.unique(drawn, return_counts=True)[1]
            return float(np.sum(np.sqrt(times / shots))) ** 2 * float(2.0**-bits)

        return min(1.0, mean_of_draws(draw, shots))


def _reduce(bits: int, reduced: dict[int, int]) -> int:
    """Flip bits, highest first, for as long as a known flip takes the highest one away; returns the rest."""
    while bits and bits.bit_length() in reduced:
        bits ^= reduced[bits.bit_length()]
    return bits


def from_stabilizers(circuit: Any) -> EvenReference:
    """The exact reference of a circuit in its Clifford form that measures only at its end."""
    from qiskit_aer.library import SaveClifford

    machine = Simulator("stabilizer", 0.0, threads=1)
    (outcome,) = machine.sample(circuit, shots=1, seed=0)
    unmeasured, wires = _split(circuit)
    unmeasured.append(SaveClifford(len(unmeasured.qubits)), unmeasured.qubits)
    tableau = machine.run(unmeasured, shots=1).data()["clifford"]
    # A stabilizer with an X on a qubit maps an outcome to another one, as likely, with that qubit flipped.
    flips = [sum(1 << bit for bit, qubit in wires.items() if row[qubit]) for row in tableau.stab_x]
    return EvenReference(outcome, flips)


def _split(circuit: Any) -> tuple[Any, dict[int, int]]:
    """The circuit without its measurements, and the qubit that each classical bit holds in the end."""
    from qiskit import QuantumCircuit

    unmeasured = QuantumCircuit(circuit.qubits)
    wires: dict[int, int] = {}
    for instruction in circuit.data:
        if instruction.operation.name == "measure":
            # A bit that is written twice holds the last value.
            wires[circuit.find_bit(instruction.clbits[0]).index] = circuit.find_bit(instruction.qubits[0]).index
        elif instruction.operation.name not in {"barrier", "delay"}:
            unmeasured.append(instruction.operation, instruction.qubits)
    return unmeasured, wires
