"""The simulator: translates circuits to one basis, adds noise, runs them on Aer."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np

from dfz_ray.domains.quantum.assembly import Assembly

BASIS = ("rz", "sx", "x", "cx")
"""The gates that every circuit is translated to; depth and gate counts are in these."""

_of_thread = threading.local()


def translate(circuit: Any) -> Any:
    """The circuit in the gates of BASIS.

    Building a pass manager takes longer than using it, so it is kept; each thread has its own, since a running pass
    manager holds the state of its circuit.

    Raises:
        qiskit.exceptions.QiskitError: the circuit has a gate without a definition.
    """
    if not hasattr(_of_thread, "pass_manager"):
        from qiskit.transpiler import generate_preset_pass_manager

        _of_thread.pass_manager = generate_preset_pass_manager(
            optimization_level=1, basis_gates=list(BASIS), seed_transpiler=0
        )
    return _of_thread.pass_manager.run(circuit)


@lru_cache(maxsize=64)
def noise_model(noise_level: float) -> Any:
    """Depolarising noise: `noise_level` on cx, a tenth of it on sx and x, none on rz (which is no pulse)."""
    from qiskit_aer.noise import NoiseModel, depolarizing_error

    model = NoiseModel(basis_gates=list(BASIS))
    model.add_all_qubit_quantum_error(depolarizing_error(noise_level, 2), ["cx"])
    model.add_all_qubit_quantum_error(depolarizing_error(noise_level / 10, 1), ["sx", "x"])
    return model


def choose_method(noise_level: float, one_by_one: bool = False) -> str:
    """Aer's method: the density matrix for noise, unless each shot has to be simulated anyway.

    Aer's own choice (`automatic`) is the state vector, also where the density matrix is much faster. `one_by_one`: the
    circuit measures or resets in mid-circuit.
    """
    return "density_matrix" if noise_level and not one_by_one else "statevector"


def state_bytes(method: str, num_qubits: int) -> int:
    """Memory of the simulated state: 16 bytes for each amplitude."""
    return int(16 * (4**num_qubits if method == "density_matrix" else 2**num_qubits))


@dataclass(frozen=True)
class Simulator:
    """Aer with one method, noise and number of threads; any number of threads gives the same results."""

    method: str
    noise_level: float
    threads: int

    def run(self, circuit: Any, **options: Any) -> Any:
        """Run a translated circuit with options of `AerSimulator.run`; returns Aer's result.

        Instructions that are not in BASIS (`h` for a change of basis, saves) have no noise.

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

    def without_noise(self) -> Simulator:
        """A perfect machine with as many threads."""
        return Simulator("statevector", 0.0, self.threads)

    def state(self, circuit: Any) -> np.ndarray[Any, Any]:
        """The state after a circuit without measurements: 2^n amplitudes; bit i of an index is qubit i."""
        from qiskit_aer.library import SaveStatevector

        saving = circuit.copy()
        saving.append(SaveStatevector(circuit.num_qubits), circuit.qubits)
        return np.asarray(self.without_noise().run(saving, shots=1).data()["statevector"])


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
    """The size of a translated circuit. Measuring it takes a quarter of the time of simulating few qubits."""

    num_qubits: int
    depth: int
    """The number of gates on the longest path; barriers and measurements do not count."""
    gate_counts: dict[str, int]
    """How often each instruction occurs; barriers do not count."""


def measure_size(circuit: Any) -> CircuitSize:
    """The size of a translated circuit."""
    depth = circuit.depth(lambda instruction: instruction.operation.name not in {"barrier", "measure"})
    counts = {str(name): int(count) for name, count in sorted(circuit.count_ops().items()) if name != "barrier"}
    return CircuitSize(int(circuit.num_qubits), int(depth), counts)


@dataclass(frozen=True)
class KeptCircuit:
    """A circuit that many tasks may run, with its size and assembly, each made once."""

    circuit: Any
    """In the gates of BASIS, with measurements."""

    @cached_property
    def assembly(self) -> Assembly:
        """The circuit in the form to run it."""
        return Assembly(self.circuit)

    @cached_property
    def size(self) -> CircuitSize:
        """The size of the circuit; a loop or branch counts as one gate."""
        return measure_size(self.circuit)
