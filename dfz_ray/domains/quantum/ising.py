"""The open transverse-field Ising chain, H = -Σ Z_i Z_(i+1) - Σ X_i, and its variational state."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np

Vector = np.ndarray[Any, Any]


def signs(num_qubits: int) -> tuple[Vector, Vector]:
    """Σ Z_i Z_(i+1) and Σ Z_i of each basis state; the second is Σ X_i after a change of basis."""
    spins = 1.0 - 2.0 * (np.arange(2**num_qubits)[:, np.newaxis] >> np.arange(num_qubits) & 1)
    return np.sum(spins[:, 1:] * spins[:, :-1], axis=1), np.sum(spins, axis=1)


def _flip(state: Vector, qubit: int) -> Vector:
    flipped: Vector = state.reshape(-1, 2, 2**qubit)[:, ::-1].reshape(-1)
    return flipped


@lru_cache(maxsize=8)
def ground_state(num_qubits: int) -> tuple[float, Vector]:
    """The lowest energy and its state (real amplitudes), by exact diagonalisation (Lanczos, scipy's eigsh)."""
    from scipy.sparse.linalg import LinearOperator, eigsh

    size = 2**num_qubits
    bonds, _ = signs(num_qubits)

    def apply(vector: Vector) -> Vector:
        vector = vector.reshape(-1)
        result: Vector = -bonds * vector
        for qubit in range(num_qubits):
            result -= _flip(vector, qubit)
        return result

    operator = LinearOperator((size, size), matvec=apply, dtype=np.float64)
    # The ground state has no negative amplitude, so a positive start is never orthogonal to it. It is uneven, because
    # from a symmetric one Lanczos soon runs out of directions and goes on from random numbers.
    start = np.random.default_rng(0).uniform(0.5, 1.5, size)
    energies, states = eigsh(operator, k=1, which="SA", v0=start)
    return float(energies[0]), states[:, 0]


@dataclass(frozen=True)
class Ansatz:
    """The Hamiltonian variational ansatz (Wecker et al. 2015): two angles a layer, from |+...+>.

    A layer turns all neighbours by rzz with its first angle, then all qubits by rx with its second one.
    """

    num_qubits: int
    layers: int

    @cached_property
    def _bonds(self) -> Vector:
        return signs(self.num_qubits)[0]

    def circuit(self) -> Any:
        """The circuit, with open angles and without measurements."""
        from qiskit import QuantumCircuit
        from qiskit.circuit import ParameterVector

        angles = ParameterVector("angle", 2 * self.layers)
        circuit = QuantumCircuit(self.num_qubits)
        circuit.h(range(self.num_qubits))
        for layer in range(self.layers):
            for first in (0, 1):
                for qubit in range(first, self.num_qubits - 1, 2):
                    circuit.rzz(angles[2 * layer], qubit, qubit + 1)
            circuit.rx(angles[2 * layer + 1], range(self.num_qubits))
        return circuit

    def state(self, angles: Vector) -> Vector:
        """The state without noise: 2^n amplitudes; bit i of an index is qubit i."""
        state = np.full(2**self.num_qubits, 2.0 ** (-self.num_qubits / 2), dtype=complex)
        for bond_angle, field_angle in angles.reshape(-1, 2):
            state = self._turn_qubits(state * np.exp(-0.5j * bond_angle * self._bonds), field_angle)
        return state

    def energy_and_gradient(self, angles: Vector) -> tuple[float, Vector]:
        """The energy without noise and its derivatives, by the adjoint method (Jones and Gacon 2020).

        It goes back through the layers with the state and with H times the state, whatever the number of angles. Sums
        are NumPy's and no dot products: the last digit of those depends on the number of threads.
        """
        state = self.state(angles)
        other = -self._bonds * state - self._sum_of_flips(state)
        energy = float(np.sum(state.conj() * other).real)
        gradient = np.empty(len(angles))
        for layer in reversed(range(self.layers)):
            bond_angle, field_angle = angles[2 * layer], angles[2 * layer + 1]
            gradient[2 * layer + 1] = np.sum(other.conj() * self._sum_of_flips(state)).imag
            state, other = (self._turn_qubits(vector, -field_angle) for vector in (state, other))
            gradient[2 * layer] = np.sum(other.conj() * (self._bonds * state)).imag
            back = np.exp(0.5j * bond_angle * self._bonds)
            state, other = state * back, other * back
        return energy, gradient

    def _sum_of_flips(self, state: Vector) -> Vector:
        """Σ X_i times a state."""
        total = np.zeros_like(state)
        for qubit in range(self.num_qubits):
            total += _flip(state, qubit)
        return total

    def _turn_qubits(self, state: Vector, angle: float) -> Vector:
        """Rx by an angle on each qubit."""
        kept, turned = np.cos(angle / 2), -1j * np.sin(angle / 2)
        for qubit in range(self.num_qubits):
            state = kept * state + turned * _flip(state, qubit)
        return state
