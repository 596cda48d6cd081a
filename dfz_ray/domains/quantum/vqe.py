"""VQE: the ground-state energy of the open transverse-field Ising chain."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from dfz_ray.domains.quantum.counts import Counts, Distribution, frequencies
from dfz_ray.domains.quantum.ising import Ansatz, Vector, ground_state, signs
from dfz_ray.domains.quantum.simulator import Simulator, draw_aer_seed
from dfz_ray.domains.quantum.translation import translate

DEFAULT_LAYERS = 2
DEFAULT_EVALUATIONS = 1000
"""The budget, if the task has none: so many evaluations, or as many as take DEFAULT_S."""
DEFAULT_S = 8.0
"""Seconds on one core, by constants, so that results do not depend on the speed of a machine."""
SAMPLES = 2
"""The last measurements, in the bases Z and X."""
MOST_ANGLES = 40
"""Of the deepest ansatz: L-BFGS-B remembers so many steps, and needs a quarter fewer evaluations than with its ten."""
_FIRST_STEP = 0.5
_GRADIENT_STEP = 1e-6
_DIGITS = 9
"""Energies are rounded to so many digits: further ones may depend on the threads of a linear algebra library."""


@dataclass(frozen=True)
class VqeOutcome:
    """The end of a VQE run."""

    circuit: Any
    """The ansatz with the angles found, as it is simulated, without measurements."""
    exact: Distribution
    """Outcomes of that circuit on a perfect machine, measured in the Z basis."""
    counts: Counts
    """Outcomes in the Z basis, with the noise."""
    facts: dict[str, Any]
    """The keys of the result that only this algorithm has."""


@dataclass
class PerfectMachine:
    """Energies and gradients of the ansatz without noise. An evaluation brings both."""

    ansatz: Ansatz
    history: list[float] = field(default_factory=list)
    evaluations: int = 0

    def count_gradients(self, budget: int) -> int:
        """The number of gradients that a budget pays for."""
        return budget

    def energy_and_gradient(self, angles: Vector) -> tuple[float, Vector]:
        """The energy, which goes into the history, and its gradient."""
        energy, gradient = self.ansatz.energy_and_gradient(angles)
        self.evaluations += 1
        self.history.append(energy)
        return energy, gradient

    def energy(self, angles: Vector) -> float:
        """The energy, which goes into the history."""
        return self.energy_and_gradient(angles)[0]


@dataclass
class NoisyMachine:
    """Energies of the ansatz with noise, and gradients as their forward differences.

    The energies are exact expectations (to 1e-13), so the differences are as good as parameter shifts, which cost
    2 num_qubits - 1 times as much here, since gates share their angles. SPSA, made for sampled energies, stays
    hundreds of times farther off (benchmarks/gradients.py).
    """

    circuit: Any
    """The ansatz in the gates of BASIS, with open angles."""
    machine: Simulator
    history: list[float] = field(default_factory=list)
    evaluations: int = 0

    def __post_init__(self) -> None:
        from qiskit_aer.library import SaveProbabilities

        qubits = self.circuit.qubits
        self._saving = self.circuit.copy()
        self._saving.append(SaveProbabilities(len(qubits), label="z"), qubits)
        self._saving.h(qubits)  # a perfect change of basis: `h` is not in the noise model
        self._saving.append(SaveProbabilities(len(qubits), label="x"), qubits)
        self._bonds, self._fields = signs(len(qubits))

    def count_gradients(self, budget: int) -> int:
        """The number of gradients that a budget pays for."""
        return int(budget // (self.circuit.num_parameters + 1))

    def energy_and_gradient(self, angles: Vector) -> tuple[float, Vector]:
        """The energy, which goes into the history, and its gradient."""
        steps = np.vstack([np.zeros_like(angles), _GRADIENT_STEP * np.eye(len(angles))])
        energies = self.energies_at(angles + steps)
        self.history.append(float(energies[0]))
        return self.history[-1], (energies[1:] - energies[0]) / _GRADIENT_STEP

    def energy(self, angles: Vector) -> float:
        """The energy, which goes into the history."""
        self.history.append(float(self.energies_at(angles[np.newaxis])[0]))
        return self.history[-1]

    def energies_at(self, points: Vector) -> Vector:
        """The energy for each row of angles, in one call of Aer."""
        bindings = {parameter: points[:, i].tolist() for i, parameter in enumerate(self.circuit.parameters)}
        result = self.machine.run(self._saving, shots=1, parameter_binds=[bindings])
        self.evaluations += len(points)
        saved = [result.data(position) for position in range(len(points))]
        # np.sum and not a dot product: that one's last digit depends on the number of threads.
        return np.array([-np.sum(self._bonds * part["z"]) - np.sum(self._fields * part["x"]) for part in saved])


_Machine = PerfectMachine | NoisyMachine


def choose_vqe_method(noise_level: float) -> tuple[str, str]:
    """Aer's method for the ansatz, and the reason."""
    if noise_level:
        return "density_matrix", "an optimisation with noise needs exact expectations, and these the density matrix"
    return "statevector", "there is no noise"


def solve(
    num_qubits: int, layers: int, machine: Simulator, shots: int, seed: int, max_evaluations: int | None
) -> VqeOutcome:
    """Find the angles with the lowest energy, then measure the circuit.

    The angles are first found without noise; with noise, the optimisation goes on from there on the noisy energies, as
    far as the budget allows. It uses exact expectations; the shots are those of the last measurement.
    """
    rng = np.random.default_rng(seed)
    ansatz = Ansatz(num_qubits, layers)
    ideal = PerfectMachine(ansatz)
    circuit = ansatz.circuit()
    budget = _budget(num_qubits, layers, False, max_evaluations)
    angles, energy, converged = optimise(ideal, draw_start(layers, rng), budget)
    real: _Machine = ideal
    if machine.noise_level:
        circuit = translate(circuit)
        real = NoisyMachine(circuit, machine)
        budget = _budget(num_qubits, layers, True, max_evaluations)
        angles, energy, converged = optimise(real, angles, budget)
    circuit = circuit.assign_parameters(dict(zip(circuit.parameters, angles.tolist(), strict=True)))

    state = ansatz.state(angles)
    exact_energy, ground = ground_state(num_qubits)
    bonds, fields = signs(num_qubits)
    counts, counts_in_x = (machine.sample(_measured(circuit, basis), shots, draw_aer_seed(rng)) for basis in ("z", "x"))
    sampled_energy = -_mean(counts, bonds) - _mean(counts_in_x, fields)
    facts = {
        "main_score": round(min(1.0, max(0.0, energy / exact_energy)), _DIGITS),
        "converged": converged,
        "energy": round(energy, _DIGITS),
        "exact_energy": round(exact_energy, _DIGITS),
        "energy_error": round(energy - exact_energy, _DIGITS),
        "sampled_energy": round(sampled_energy, _DIGITS),
        "ground_state_overlap": round(float(abs(np.sum(ground * state)) ** 2), _DIGITS),
        "convergence": [round(float(best), _DIGITS) for best in np.minimum.accumulate(real.history)],
        "layers": layers,
        "evaluations": real.evaluations,
        "max_evaluations": budget,
        "warm_start_evaluations": ideal.evaluations if machine.noise_level else 0,
    }
    return VqeOutcome(circuit, Distribution(np.abs(state) ** 2), counts, facts)


def estimate_s(num_qubits: int, layers: int, noisy: bool, max_evaluations: int | None) -> float:
    """About how many seconds a task takes on one core, if it spends its budget."""
    cases = (False, True) if noisy else (False,)
    spent = sum(_evaluation_s(num_qubits, layers, n) * _budget(num_qubits, layers, n, max_evaluations) for n in cases)
    return spent + SAMPLES * _evaluation_s(num_qubits, layers, noisy)


def _evaluation_s(num_qubits: int, layers: int, noisy: bool) -> float:
    """About the time of an evaluation on one core."""
    if not noisy:
        return layers * num_qubits * (30e-6 + 20e-9 * 2.0**num_qubits)
    gates = num_qubits + layers * (4 * num_qubits - 2)  # sx and cx: two for each rx, and two for each rzz
    return gates * (30e-6 + 8e-9 * 4.0**num_qubits)


def _budget(num_qubits: int, layers: int, noisy: bool, max_evaluations: int | None) -> int:
    if max_evaluations is not None:
        return max_evaluations
    return max(1, int(min(DEFAULT_EVALUATIONS, DEFAULT_S / _evaluation_s(num_qubits, layers, noisy))))


def draw_start(layers: int, rng: np.random.Generator) -> Vector:
    """The angles of a slow ramp from the field to the full H (digitised annealing), slightly shaken."""
    ramp = (np.arange(layers) + 0.5) / layers
    angles = -_FIRST_STEP * np.column_stack([ramp, np.ones(layers)]).reshape(-1)
    shaken: Vector = angles + rng.normal(scale=0.02, size=2 * layers)
    return shaken


def optimise(machine: _Machine, start: Vector, budget: int) -> tuple[Vector, float, bool]:
    """Minimise the energy by L-BFGS-B.

    Returns:
        The angles with the lowest energy found, this energy, and True if the optimiser has converged.
    """
    from scipy.optimize import minimize

    gradients = machine.count_gradients(budget)
    if not gradients:
        return start, machine.energy(start), False
    visited: list[Vector] = []

    def minimised(angles: Vector) -> tuple[float, Vector]:
        if len(visited) == gradients:  # SciPy's own limit lets a line search go beyond it
            raise _BudgetSpent
        visited.append(angles.copy())
        return machine.energy_and_gradient(angles)

    try:
        options = {"ftol": 1e-10, "maxcor": MOST_ANGLES}
        found = minimize(minimised, start, jac=True, method="L-BFGS-B", options=options)
        converged = bool(found.success)
    except _BudgetSpent:
        converged = False
    best = int(np.argmin(machine.history))
    return visited[best], machine.history[best], converged


class _BudgetSpent(Exception):
    pass


def _measured(circuit: Any, basis: str) -> Any:
    measured = circuit.copy()
    if basis == "x":
        measured.h(measured.qubits)
    measured.measure_all()
    return measured


def _mean(counts: Counts, values: Vector) -> float:
    return float(sum(share * values[outcome] for outcome, share in sorted(frequencies(counts).items())))
