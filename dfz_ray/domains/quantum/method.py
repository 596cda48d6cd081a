"""The choice of Aer's method: the fastest that can simulate a circuit, by estimate.

The estimates rest on constants and not on the machine, so that equal tasks have equal results everywhere. They were
fitted to Aer 0.18 on one core, with random circuits, GHZ states and Fourier transforms of 2 to 100 qubits.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

METHODS = ("statevector", "density_matrix", "stabilizer")
MAX_QUBITS = 32
"""Of a state vector."""
MAX_CLIFFORD_QUBITS = 512
MAX_DENSITY_QUBITS = 14
"""A density matrix of more takes over 4 GiB."""


@dataclass(frozen=True)
class Work:
    """The facts of a circuit that decide about the time to simulate it."""

    num_qubits: int
    gates: int
    pairs: int
    """Runs of gates on the same two qubits; Aer makes one step of each."""
    clifford: bool
    """True if all gates are Clifford gates."""
    one_by_one: bool = False
    """True if each shot has to be simulated anew, also without noise."""


@dataclass(frozen=True)
class Choice:
    """A method, and the reason for it."""

    method: str
    reason: str
    estimated_s: float
    """On one core."""


@functools.lru_cache(maxsize=1024)
def choose_method(work: Work, noisy: bool, shots: int) -> Choice:
    """The fastest method.

    Raises:
        ValueError: none can simulate the circuit; the text is the reason.
    """
    obstacles = {method: _obstacle(method, work, noisy) for method in METHODS}
    times = {method: estimate_s(method, work, noisy, shots) for method in METHODS if not obstacles[method]}
    refused = "; ".join(f"not {method}: {obstacle}" for method, obstacle in obstacles.items() if obstacle)
    if not times:
        raise ValueError(refused)
    ranked = sorted(times, key=lambda method: times[method])
    told = ", ".join(f"{method} {times[method]:.2g} s" for method in ranked)
    reason = f"the fastest by estimate on one core: {told}" if len(ranked) > 1 else "no other can"
    return Choice(ranked[0], f"{reason}; {refused}" if refused else reason, times[ranked[0]])


def _obstacle(method: str, work: Work, noisy: bool) -> str:
    """The reason why a method can't, or need not, simulate a circuit."""
    if method == "stabilizer":
        return "" if work.clifford else "not all gates are Clifford gates"
    if method == "statevector":
        return f"more than {MAX_QUBITS} qubits" if work.num_qubits > MAX_QUBITS else ""
    if not noisy:
        return "there is no noise"
    if work.one_by_one:
        return "it would be simulated anew for each shot, too"
    return f"more than {MAX_DENSITY_QUBITS} qubits" if work.num_qubits > MAX_DENSITY_QUBITS else ""


def estimate_s(method: str, work: Work, noisy: bool, shots: int) -> float:
    """About how many seconds a simulation takes on one core."""
    qubits, gates = work.num_qubits, work.gates
    anew = noisy or work.one_by_one
    runs = shots if anew else 1
    match method:
        case "density_matrix":
            return 2e-3 + 4.0**qubits * 28e-9 * (work.pairs + 1)
        case "statevector":
            return runs * (120e-6 + 1.6e-6 * gates + 2.0**qubits * (13e-9 * qubits + 3e-9 * gates))
        case _:
            return runs * (100e-6 + 1.2e-6 * gates) + shots * (2.5e-7 if anew else 2e-8) * qubits**2


def state_bytes(method: str, num_qubits: int) -> int:
    """Memory of the simulated state: 16 bytes for each amplitude, or the bits of a tableau."""
    match method:
        case "density_matrix":
            return int(16 * 4**num_qubits)
        case "statevector":
            return int(16 * 2**num_qubits)
        case _:
            return 4 * num_qubits * (num_qubits + 8)
