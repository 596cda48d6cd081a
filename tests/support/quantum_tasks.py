"""Tasks of the domain quantum, as a batch file would give them, and their results."""

from __future__ import annotations

import functools
import math
import textwrap
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from dfz_ray.domains.quantum.domain import DOMAIN
from dfz_ray.domains.quantum.parameters import QUBITS, QuantumParameters
from dfz_ray.specs.input_file import FileShelf

pytest.importorskip("qiskit")  # skips the module of tests that imports this
pytest.importorskip("qiskit_aer")

QASM = Path(__file__).parents[3] / "shared/data/qasm"
ALGORITHMS = list(QUBITS)
SHOTS = 4096


def parameters(folder: Path | None = None, **values: Any) -> QuantumParameters:
    """Checked as a batch file in that folder is."""
    return QuantumParameters.model_validate(values, context=FileShelf(folder or Path.cwd()))


def compute(seed: int = 0, threads: int = 1, folder: Path | None = None, **values: Any) -> dict[str, Any]:
    result: dict[str, Any] = DOMAIN.compute(parameters(folder, **values), seed, threads)
    return result


@functools.cache
def measure(algorithm: str, num_qubits: int, noise_level: float = 0.0, circuit_depth: int | None = None) -> Any:
    """One result for several tests to look at."""
    return compute(
        algorithm=algorithm,
        num_qubits=num_qubits,
        noise_level=noise_level,
        circuit_depth=circuit_depth,
        shots=SHOTS,
    )


def refusal(folder: Path | None = None, **values: Any) -> str:
    with pytest.raises(ValidationError) as caught:
        parameters(folder, **values)
    return str(caught.value)


def real_file(name: str) -> str:
    path = QASM / f"{name}.qasm"
    if not path.exists():
        pytest.skip(f"{path} is not here")
    return str(path)


def write(folder: Path, content: str, name: str = "mine.qasm") -> Path:
    (folder / name).write_text(textwrap.dedent(content).lstrip())
    return folder


def tolerance(probability: float, shots: int = SHOTS) -> float:
    """Five standard deviations of a share of the shots."""
    return 5 * math.sqrt(probability * (1 - probability) / shots) + 1e-9
