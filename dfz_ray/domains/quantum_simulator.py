"""The simulator: translates circuits to one basis, adds noise, runs them on Aer."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

BASIS = ("rz", "sx", "x", "cx")
"""The gates that every circuit is translated to; depth and gate counts are told in them."""

_of_thread = threading.local()


def translate(circuit: Any) -> Any:
    """The circuit in the gates of BASIS.

    Building a pass manager takes longer than using it, so each thread keeps one; it is no more than one
    per thread because a running pass manager holds the state of its circuit.

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

    Aer's own choice (`automatic`) takes the state vector also where the density matrix is much faster.

    Args:
        noise_level: 0 is no noise.
        one_by_one: the circuit measures or resets in mid-circuit.
    """
    return "density_matrix" if noise_level and not one_by_one else "statevector"


def state_bytes(method: str, num_qubits: int) -> int:
    """Memory of the simulated state: 16 bytes for each amplitude."""
    return int(16 * (4**num_qubits if method == "density_matrix" else 2**num_qubits))


@dataclass(frozen=True)
class Simulator:
    """Aer with one method, noise and number of threads; its results are the same for any number of threads."""

    method: str
    """As chosen by `choose_method`."""
    noise_level: float
    """0 is no noise."""
    threads: int

    def run(self, circuit: Any, **options: Any) -> Any:
        """Run a translated circuit.

        Args:
            circuit: in the gates of BASIS; what else it holds (`h` for a change of basis, saves) has no noise.
            options: of `AerSimulator.run`: shots, seed_simulator, parameter_binds.

        Returns:
            Aer's result.

        Raises:
            RuntimeError: Aer did not succeed; its result alone would only say so on request.
        """
        from qiskit_aer import AerSimulator

        simulator = AerSimulator(
            method=self.method,
            noise_model=noise_model(self.noise_level) if self.noise_level else None,
            max_parallel_threads=self.threads,
        )
        result = simulator.run(circuit, **options).result()
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
        result = self.run(circuit, shots=shots, seed_simulator=seed)
        return {int(outcome, 16): int(count) for outcome, count in result.data()["counts"].items()}

    def without_noise(self) -> Simulator:
        """A perfect machine with as many threads."""
        return Simulator("statevector", 0.0, self.threads)

    def state(self, circuit: Any) -> np.ndarray[Any, Any]:
        """The state after a circuit without measurements: 2^n amplitudes; bit i of an index is qubit i."""
        from qiskit_aer.library import SaveStatevector

        saving = circuit.copy()
        saving.append(SaveStatevector(circuit.num_qubits), circuit.qubits)
        return np.asarray(self.without_noise().run(saving, shots=1).data()["statevector"])


def gate_counts(circuit: Any) -> dict[str, int]:
    """How often each instruction occurs; barriers are none."""
    return {str(name): int(count) for name, count in sorted(circuit.count_ops().items()) if name != "barrier"}


def depth(circuit: Any) -> int:
    """The number of gates on the longest path; barriers and measurements do not count."""
    return int(circuit.depth(lambda instruction: instruction.operation.name not in {"barrier", "measure"}))
