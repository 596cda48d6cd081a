"""VQE: the ground-state energy of the open transverse-field Ising chain, H = -Σ Z_i Z_(i+1) - Σ X_i."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np

from dfz_ray.domains.quantum.counts import Counts, Distribution, distribution, frequencies
from dfz_ray.domains.quantum.simulator import Simulator, state_bytes, translate

DEFAULT_LAYERS = 2
MAX_EVALUATIONS = 300
MAX_S = 8.0
"""About how many seconds an optimisation may take on one core; the number of evaluations follows."""
GATE_S = {"statevector": 2e-9, "density_matrix": 8e-9}
"""Time of a gate for each amplitude: a constant, so that results do not depend on the speed of a machine."""
_FIRST_STEP = 0.5
_GRADIENT_STEP = 1e-6
_DIGITS = 9
"""Energies are rounded to so many digits: further ones may depend on the threads of a linear algebra library."""


@dataclass(frozen=True)
class VqeOutcome:
    """The end of a VQE run."""

    circuit: Any
    """The ansatz with the parameters found, in the gates of BASIS, without measurements."""
    exact: Distribution
    """Outcomes of that circuit on a perfect machine, measured in the Z basis."""
    counts: Counts
    """Outcomes in the Z basis, with the noise."""
    facts: dict[str, Any]
    """The keys of the result that only this algorithm has."""


@dataclass
class _Evaluator:
    """Energies of the ansatz on one machine, with or without noise, and their history."""

    ansatz: Any
    machine: Simulator
    history: list[float] = field(default_factory=list)
    evaluations: int = 0

    def __post_init__(self) -> None:
        from qiskit_aer.library import SaveProbabilities

        qubits = self.ansatz.qubits
        self._circuit = self.ansatz.copy()
        self._circuit.append(SaveProbabilities(len(qubits), label="z"), qubits)
        self._circuit.h(qubits)  # a perfect change of basis: `h` is not in the noise model
        self._circuit.append(SaveProbabilities(len(qubits), label="x"), qubits)
        self.bonds, self.fields = _signs(self.ansatz.num_qubits)

    @property
    def affordable(self) -> int:
        """The number of evaluations that MAX_S allows, at most MAX_EVALUATIONS."""
        gates = sum(count for name, count in self.ansatz.count_ops().items() if name != "rz")
        amplitudes = state_bytes(self.machine.method, self.ansatz.num_qubits) / 16
        return int(min(MAX_EVALUATIONS, MAX_S / (gates * amplitudes * GATE_S[self.machine.method])))

    def energies(self, points: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """The exact expectation of H for each row of parameters, in one call of Aer."""
        bindings = {parameter: points[:, i].tolist() for i, parameter in enumerate(self.ansatz.parameters)}
        result = self.machine.run(self._circuit, shots=1, parameter_binds=[bindings])
        self.evaluations += len(points)
        saved = [result.data(position) for position in range(len(points))]
        # np.sum and not a dot product: that one's last digit depends on the number of threads.
        return np.array([-np.sum(self.bonds * part["z"]) - np.sum(self.fields * part["x"]) for part in saved])

    def energy_and_gradient(self, point: np.ndarray[Any, Any]) -> tuple[float, np.ndarray[Any, Any]]:
        """The energy and its forward differences; the energy goes into the history."""
        steps = np.vstack([np.zeros_like(point), _GRADIENT_STEP * np.eye(len(point))])
        energies = self.energies(point + steps)
        self.history.append(float(energies[0]))
        return self.history[-1], (energies[1:] - energies[0]) / _GRADIENT_STEP


def solve(num_qubits: int, layers: int, machine: Simulator, shots: int, seed: int) -> VqeOutcome:
    """Find the parameters with the lowest energy, then measure the circuit.

    The parameters are first found without noise; with noise, the optimisation goes on from there on the noisy
    energies, as far as MAX_S allows. It uses exact expectations; the shots are those of the last measurement.
    """
    rng = np.random.default_rng(seed)
    ansatz = _ansatz(num_qubits, layers)
    ideal = _Evaluator(ansatz, machine.without_noise())
    point, converged = _optimise(ideal, _start(layers, rng), at_least=1)
    real = ideal
    if machine.noise_level:
        real = _Evaluator(ansatz, machine)
        point, converged = _optimise(real, point, at_least=0)
    energy = float(real.energies(point[np.newaxis])[0])
    circuit = ansatz.assign_parameters(dict(zip(ansatz.parameters, point.tolist(), strict=True)))

    state = machine.state(circuit)
    exact_energy, ground = ground_state(num_qubits)
    counts, counts_in_x = (
        machine.sample(_measured(circuit, basis), shots, int(rng.integers(2**31))) for basis in ("z", "x")
    )
    sampled_energy = -_mean(counts, real.bonds) - _mean(counts_in_x, real.fields)
    facts = {
        "energy": round(energy, _DIGITS),
        "exact_energy": round(exact_energy, _DIGITS),
        "energy_error": round(energy - exact_energy, _DIGITS),
        "sampled_energy": round(sampled_energy, _DIGITS),
        "ground_state_overlap": round(float(abs(np.sum(ground * state)) ** 2), _DIGITS),
        "convergence": [round(float(best), _DIGITS) for best in np.minimum.accumulate([*real.history, energy])],
        "converged": converged,
        "layers": layers,
        "evaluations": real.evaluations,
        "warm_start_evaluations": ideal.evaluations if machine.noise_level else 0,
        "main_score": round(min(1.0, max(0.0, energy / exact_energy)), _DIGITS),
    }
    return VqeOutcome(circuit, distribution(np.abs(state) ** 2), counts, facts)


@lru_cache(maxsize=8)
def ground_state(num_qubits: int) -> tuple[float, np.ndarray[Any, Any]]:
    """The lowest energy and its state (real amplitudes), by exact diagonalisation (Lanczos, scipy's eigsh)."""
    from scipy.sparse.linalg import LinearOperator, eigsh

    size = 2**num_qubits
    diagonal, _ = _signs(num_qubits)

    def apply(vector: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        vector = vector.reshape(-1)
        result: np.ndarray[Any, Any] = -diagonal * vector
        for qubit in range(num_qubits):
            result -= vector.reshape(-1, 2, 2**qubit)[:, ::-1].reshape(-1)
        return result

    operator = LinearOperator((size, size), matvec=apply, dtype=np.float64)
    # The ground state has no negative amplitude, so a positive start is never orthogonal to it. It is uneven, because
    # from a symmetric one Lanczos soon runs out of directions and goes on from random numbers.
    start = np.random.default_rng(0).uniform(0.5, 1.5, size)
    energies, states = eigsh(operator, k=1, which="SA", v0=start)
    return float(energies[0]), states[:, 0]


def _signs(num_qubits: int) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Σ Z_i Z_(i+1) and Σ Z_i of each basis state; the second is Σ X_i after a change of basis."""
    spins = 1.0 - 2.0 * (np.arange(2**num_qubits)[:, np.newaxis] >> np.arange(num_qubits) & 1)
    return np.sum(spins[:, 1:] * spins[:, :-1], axis=1), np.sum(spins, axis=1)


def _ansatz(num_qubits: int, layers: int) -> Any:
    """The Hamiltonian variational ansatz (Wecker et al. 2015): two parameters a layer, from |+...+>."""
    from qiskit import QuantumCircuit
    from qiskit.circuit import ParameterVector

    angles = ParameterVector("angle", 2 * layers)
    circuit = QuantumCircuit(num_qubits)
    circuit.h(range(num_qubits))
    for layer in range(layers):
        for first in (0, 1):
            for qubit in range(first, num_qubits - 1, 2):
                circuit.rzz(angles[2 * layer], qubit, qubit + 1)
        circuit.rx(angles[2 * layer + 1], range(num_qubits))
    return translate(circuit)


def _start(layers: int, rng: np.random.Generator) -> np.ndarray[Any, Any]:
    """The angles of a slow ramp from the field to the full H (digitised annealing), slightly shaken."""
    ramp = (np.arange(layers) + 0.5) / layers
    angles = -_FIRST_STEP * np.column_stack([ramp, np.ones(layers)]).reshape(-1)
    shaken: np.ndarray[Any, Any] = angles + rng.normal(scale=0.02, size=2 * layers)
    return shaken


def _optimise(evaluator: _Evaluator, start: np.ndarray[Any, Any], at_least: int) -> tuple[np.ndarray[Any, Any], bool]:
    """Minimise the energy by L-BFGS-B, within the affordable number of evaluations, but for `at_least` gradients.

    Returns:
        The parameters found, and True if the optimiser has converged.
    """
    from scipy.optimize import minimize

    gradients = max(at_least, evaluator.affordable // (len(start) + 1))
    if not gradients:
        return start, False
    minimised: Callable[[Any], Any] = evaluator.energy_and_gradient
    found = minimize(minimised, start, jac=True, method="L-BFGS-B", options={"maxfun": gradients, "ftol": 1e-10})
    return found.x, bool(found.success)


def _measured(circuit: Any, basis: str) -> Any:
    measured = circuit.copy()
    if basis == "x":
        measured.h(measured.qubits)
    measured.measure_all()
    return measured


def _mean(counts: Counts, values: np.ndarray[Any, Any]) -> float:
    return float(sum(share * values[outcome] for outcome, share in sorted(frequencies(counts).items())))
