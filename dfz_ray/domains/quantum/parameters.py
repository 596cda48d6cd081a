"""The parameters of the domain quantum."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from dfz_ray.domains.domain import Parameters
from dfz_ray.domains.quantum.circuit_file import find_circuit
from dfz_ray.domains.quantum.method import MAX_CLIFFORD_QUBITS, MAX_QUBITS
from dfz_ray.domains.quantum.vqe import DEFAULT_LAYERS
from dfz_ray.specs.input_file import InputFile

Algorithm = Literal["vqe", "grover", "qft", "ghz", "bernstein_vazirani"]

QUBITS: dict[str, tuple[int, int]] = {
    "vqe": (2, 16),
    "grover": (2, 16),
    "qft": (1, MAX_QUBITS),
    "ghz": (2, MAX_CLIFFORD_QUBITS),
    "bernstein_vazirani": (2, MAX_CLIFFORD_QUBITS),
}
"""Fewest and most qubits of each algorithm."""
DEFAULT_QUBITS = 4


class QuantumParameters(Parameters):
    """Run a quantum circuit and compare it with its exact answer.

    Either an `algorithm` or a `qasm_file`.
    """

    algorithm: Algorithm | None = Field(
        None,
        description="vqe: ground-state energy of the open transverse-field Ising chain (J = h = 1), by L-BFGS-B on"
        " exact expectations; grover: search for a marked state; qft: Fourier transform, phase shift and back;"
        " ghz: an entangled state; bernstein_vazirani: find a secret (num_qubits - 1 bits). State, shift and secret"
        " are drawn from the seed",
    )
    num_qubits: int | None = Field(
        None,
        ge=1,
        le=MAX_CLIFFORD_QUBITS,
        description=f"qubits of the circuit; none: {DEFAULT_QUBITS}. vqe and grover take 2 to 16, ghz and"
        f" bernstein_vazirani 2 to {MAX_CLIFFORD_QUBITS}, qft 1 to {MAX_QUBITS}. Not beside qasm_file, which"
        " says it itself",
    )
    noise_level: float = Field(
        0.0,
        ge=0,
        le=0.5,
        description="depolarising noise of each cx; a tenth of it on sx, x and id,"
        " none on rz. Other gates are translated to these: those of an algorithm to few of them, those of a qasm_file"
        " one by one, and none is left out",
    )
    circuit_depth: int | None = Field(
        None,
        ge=1,
        le=20,
        description="vqe: layers of the ansatz; none: 2. grover: at most so many iterations (fewer than the best"
        " number lower the success; more than that are never done); none: the best number. The circuits of qft,"
        " ghz, bernstein_vazirani and of a qasm_file have the depth that they have: there it changes nothing",
    )
    max_evaluations: int | None = Field(
        None,
        ge=1,
        le=1_000_000,
        description="vqe: at most so many evaluations of the energy; without noise each brings its gradient, with noise"
        " a gradient takes 2 layers + 1. None: 1000, or as many as take about 8 s on a core where those are fewer. For"
        " others it changes nothing",
    )
    shots: int = Field(1024, ge=1, le=1_000_000, description="how often the circuit is measured")
    qasm_file: InputFile | None = Field(
        None,
        description="a circuit of your own, OpenQASM 2 or 3, in one file; if it measures nothing, all qubits are"
        " measured at its end",
    )

    @field_validator("num_qubits")
    @classmethod
    def _suit_algorithm(cls, value: int | None, info: ValidationInfo) -> int | None:
        algorithm = info.data.get("algorithm")
        if value is not None and algorithm is not None:
            fewest, most = QUBITS[algorithm]
            if not fewest <= value <= most:
                raise ValueError(f"{fewest} to {most} for {algorithm}")
        return value

    @field_validator("qasm_file")
    @classmethod
    def _read_circuit(cls, value: InputFile | None) -> InputFile | None:
        if value is not None:
            find_circuit(value)
        return value

    @model_validator(mode="after")
    def _say_one_circuit(self) -> QuantumParameters:
        if (self.algorithm is None) == (self.qasm_file is None):
            names = ", ".join(QUBITS)
            raise ValueError(f"either an algorithm ({names}) or a qasm_file, one of the two")
        if self.qasm_file is not None and self.num_qubits is not None:
            raise ValueError("no num_qubits beside a qasm_file, which says it itself")
        return self

    @property
    def qubits_to_build(self) -> int:
        """The number of qubits of an algorithm's circuit."""
        return DEFAULT_QUBITS if self.num_qubits is None else self.num_qubits

    @property
    def layers(self) -> int:
        """The layers of vqe's ansatz."""
        return DEFAULT_LAYERS if self.circuit_depth is None else self.circuit_depth
