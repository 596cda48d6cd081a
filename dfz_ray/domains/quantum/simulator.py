"""The simulator: Aer with one method, with noise or without."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np

from dfz_ray.domains.quantum.assembly import Assembly
from dfz_ray.domains.quantum.method import Work
from dfz_ray.domains.quantum.translation import BASIS, find_clifford_form


@lru_cache(maxsize=64)
def noise_model(noise_level: float) -> Any:
    """Depolarising noise: `noise_level` on cx, a tenth of it on sx, x and id, none on rz (which is no pulse)."""
    from qiskit_aer.noise import NoiseModel, depolarizing_error

    model = NoiseModel(basis_gates=[*BASIS, "id"])
    model.add_all_qubit_quantum_error(depolarizing_error(noise_level, 2), ["cx"])
    model.add_all_qubit_quantum_error(depolarizing_error(noise_level / 10, 1), ["sx", "x", "id"])
    return model


def draw_aer_seed(rng: np.random.Generator) -> int:
    """A seed for Aer, which takes 63 bits."""
    return int(rng.integers(2**63))


@dataclass(frozen=True)
class Simulator:
    """Aer with one method, noise and number of threads; any number of threads gives the same results."""

    method: str
    noise_level: float
    threads: int

    def run(self, circuit: Any, **options: Any) -> Any:
        """Run a translated circuit with options of `AerSimulator.run`; returns Aer's result.

        Instructions that are neither in BASIS nor `id` (`h` for a change of basis, saves) have no noise.

        Raises:
            RuntimeError: Aer did not succeed, which its result says only on request.
        """
        result = make_backend(self).run(circuit, **options).result()
        if not result.success:
            reasons = sorted({str(part.status) for part in result.results if not part.success})
            raise RuntimeError(
                f"Aer could not simulate {circuit.num_qubits} qubits: {'; '.join(reasons) or result.status}"
            )
        return result

    def sample(self, circuit: Any, shots: int, seed: int) -> dict[int, int]:
        """Run a circuit and count its outcomes.

        Returns:
            Outcome to number of shots; bit i of an outcome is the circuit's classical bit i. (Qiskit's own texts
            are wrong for classical bits outside a register.)
        """
        return _read_counts(self.run(circuit, shots=shots, seed_simulator=seed).data()["counts"])

    def sample_again(self, assembly: Assembly, shots: int, seed: int) -> dict[int, int]:
        """The same as `sample`, quicker from the second time on, for a circuit that other tasks run too."""
        counts = assembly.find_counts(make_backend(self), shots, seed)
        return self.sample(assembly.circuit, shots, seed) if counts is None else _read_counts(counts)


def _read_counts(counts: Mapping[str, int]) -> dict[int, int]:
    return {int(outcome, 16): int(count) for outcome, count in counts.items()}


@lru_cache(maxsize=16)
def make_backend(simulator: Simulator) -> Any:
    """Aer's own simulator, made once in a process, since a run changes nothing in it."""
    from qiskit_aer import AerSimulator

    return AerSimulator(
        method=simulator.method,
        noise_model=noise_model(simulator.noise_level) if simulator.noise_level else None,
        max_parallel_threads=simulator.threads,
    )


@dataclass(frozen=True)
class CircuitSize:
    """The size of a circuit as it is simulated. Measuring it takes a quarter of the time of simulating few qubits."""

    num_qubits: int
    depth: int
    """The number of gates on the longest path; barriers and measurements do not count."""
    gate_counts: dict[str, int]
    """How often each instruction occurs; barriers do not count."""


def measure_size(circuit: Any) -> CircuitSize:
    """The size of a circuit; a loop or branch counts as one gate."""
    depth = circuit.depth(lambda instruction: instruction.operation.name not in {"barrier", "measure"})
    counts = {str(name): int(count) for name, count in sorted(circuit.count_ops().items()) if name != "barrier"}
    return CircuitSize(int(circuit.num_qubits), int(depth), counts)


def count_pairs(circuit: Any) -> int:
    """The number of runs of gates on the same two qubits."""
    pairs = 0
    last: dict[Any, set[Any]] = {}
    for instruction in circuit.data:
        qubits = instruction.qubits
        if len(qubits) > 1 and instruction.operation.name != "barrier":
            together = set(qubits)
            pairs += any(last.get(qubit) != together for qubit in qubits)
            last |= dict.fromkeys(qubits, together)
    return pairs


@dataclass(frozen=True)
class KeptCircuit:
    """A circuit that many tasks may run, with what is known of it, each made once."""

    circuit: Any
    """In gates that Aer knows, with measurements."""

    @cached_property
    def size(self) -> CircuitSize:
        """The size of the circuit."""
        return measure_size(self.circuit)

    @cached_property
    def clifford_form(self) -> Any:
        """The circuit for Aer's stabilizer method; None if not all gates are Clifford gates."""
        return find_clifford_form(self.circuit)

    def work(self, one_by_one: bool) -> Work:
        """The facts that decide about the time of a simulation."""
        size, clifford = self.size, self.clifford_form is not None
        gates = sum(count for name, count in size.gate_counts.items() if name != "measure")
        return Work(size.num_qubits, gates, self._pairs, clifford, one_by_one)

    @cached_property
    def _pairs(self) -> int:
        return count_pairs(self.circuit)

    def assembly(self, method: str) -> Assembly:
        """The circuit in the form to run it with a method."""
        return self._for_stabilizers if method == "stabilizer" else self._as_it_is

    @cached_property
    def _as_it_is(self) -> Assembly:
        return Assembly(self.circuit)

    @cached_property
    def _for_stabilizers(self) -> Assembly:
        return Assembly(self.clifford_form)
