"""Circuits with a known answer: each is drawn from a seed, and judges its counts.

Building and translating a circuit of few qubits takes nearly as long as simulating it. If a seed draws one of few
circuits, later tasks in the same process use the circuits of earlier ones.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from dfz_ray.domains.quantum.counts import Counts, Distribution, frequencies, text
from dfz_ray.domains.quantum.simulator import KeptCircuit, translate

KEPT_CIRCUITS = 64
"""A circuit drawn from more is not kept: it would hardly come again, and large ones fill the memory."""


@dataclass(frozen=True)
class KnownCircuit(KeptCircuit):
    """A circuit, its exact answer, and the judgement of its counts."""

    exact: Distribution
    """The distribution of a perfect machine, from theory and not from a simulation."""
    judge: Callable[[Counts], dict[str, Any]]
    """Turns counts into the keys of the result that only this algorithm has; `main_score` if it is not the fidelity."""


def _make(build: Callable[..., KnownCircuit], choices: int, *arguments: int) -> KnownCircuit:
    """Build one of `choices` circuits, or take it from this process's store where they are few."""
    return _kept(build, *arguments) if choices <= KEPT_CIRCUITS else build(*arguments)


@lru_cache(maxsize=KEPT_CIRCUITS)
def _kept(build: Callable[..., KnownCircuit], *arguments: int) -> KnownCircuit:
    return build(*arguments)


def grover_iterations(num_qubits: int, at_most: int | None) -> int:
    """The number of Grover iterations that makes success most likely, or `at_most` where that is fewer."""
    best = int(math.pi / (4 * math.asin(2 ** (-num_qubits / 2))))
    return best if at_most is None else min(best, at_most)


def _flip(circuit: Any, bits: int) -> None:
    """Put an x on each qubit whose bit is set."""
    for qubit in range(circuit.num_qubits):
        if bits >> qubit & 1:
            circuit.x(qubit)


def grover(num_qubits: int, at_most: int | None, rng: np.random.Generator) -> KnownCircuit:
    """Search for one marked state among 2^n.

    After k iterations it is found with probability sin²((2k+1)θ), sin θ = 2^(-n/2) (Boyer et al. 1998). k is the best
    number, unless `at_most` is lower.
    """
    states = 2**num_qubits
    marked = int(rng.integers(states))
    return _make(_grover, states, num_qubits, grover_iterations(num_qubits, at_most), marked)


def _grover(num_qubits: int, iterations: int, marked: int) -> KnownCircuit:
    from qiskit import QuantumCircuit
    from qiskit.circuit.library import MCXGate, grover_operator

    states = 2**num_qubits
    qubits = range(num_qubits)
    oracle = QuantumCircuit(num_qubits)
    _flip(oracle, ~marked)
    oracle.h(num_qubits - 1)
    oracle.append(MCXGate(num_qubits - 1), qubits)
    oracle.h(num_qubits - 1)
    _flip(oracle, ~marked)
    circuit = QuantumCircuit(num_qubits)
    circuit.h(qubits)
    iteration = grover_operator(oracle)
    for _ in range(iterations):
        circuit.compose(iteration, inplace=True)
    circuit.measure_all()

    success = math.sin((2 * iterations + 1) * math.asin(states**-0.5)) ** 2
    exact = dict.fromkeys(range(states), (1 - success) / (states - 1)) | {marked: success}

    def judge(counts: Counts) -> dict[str, Any]:
        found = frequencies(counts).get(marked, 0.0)
        return {
            "marked_states": [text(marked, [num_qubits])],
            "total_states": states,
            "iterations": iterations,
            "success_probability": found,
            "main_score": found,
            "details": {"exact_success_probability": success},
        }

    return KnownCircuit(translate(circuit), exact, judge)


def qft(num_qubits: int, rng: np.random.Generator) -> KnownCircuit:
    """A quantum Fourier transform and its inverse, with a phase shift in between that adds a known number to the input.

    The shift keeps the two transforms from cancelling; without errors x becomes x + shift modulo 2^n.
    """
    states = 2**num_qubits
    given = int(rng.integers(states))
    # An odd number, so that every qubit takes part.
    shift = int(rng.integers(states // 2)) * 2 + 1
    return _make(_qft, states * states // 2, num_qubits, given, shift)


def _qft(num_qubits: int, given: int, shift: int) -> KnownCircuit:
    from qiskit import QuantumCircuit
    from qiskit.circuit.library import QFTGate

    states = 2**num_qubits
    expected = (given + shift) % states
    qubits = range(num_qubits)
    circuit = QuantumCircuit(num_qubits)
    _flip(circuit, given)
    circuit.append(QFTGate(num_qubits), qubits)
    for qubit in qubits:
        circuit.p(2 * math.pi * shift * 2**qubit / states, qubit)
    circuit.append(QFTGate(num_qubits).inverse(), qubits)
    circuit.measure_all()

    def judge(counts: Counts) -> dict[str, Any]:
        shares = frequencies(counts)
        found = shares.get(expected, 0.0)
        turns = {outcome: abs((outcome - expected + states // 2) % states - states // 2) / states for outcome in counts}
        mean_error = sum(shares[outcome] * turns[outcome] for outcome in sorted(counts))
        return {
            "input_state": text(given, [num_qubits]),
            "expected_state": text(expected, [num_qubits]),
            "phase_shift": shift / states,
            "phase_error": mean_error,
            "phase_precision": 1 - 2 * mean_error,
            "success_probability": found,
            "main_score": found,
        }

    return KnownCircuit(translate(circuit), {expected: 1.0}, judge)


def ghz(num_qubits: int) -> KnownCircuit:
    """The state (|0...0> + |1...1>)/√2: half of the shots should give all zeros, half all ones."""
    return _make(_ghz, 1, num_qubits)


def _ghz(num_qubits: int) -> KnownCircuit:
    from qiskit import QuantumCircuit

    ones = 2**num_qubits - 1
    circuit = QuantumCircuit(num_qubits)
    circuit.h(0)
    for qubit in range(1, num_qubits):
        circuit.cx(qubit - 1, qubit)
    circuit.measure_all()

    def judge(counts: Counts) -> dict[str, Any]:
        shares = frequencies(counts)
        return {"all_zeros": shares.get(0, 0.0), "all_ones": shares.get(ones, 0.0)}

    return KnownCircuit(translate(circuit), {0: 0.5, ones: 0.5}, judge)


def bernstein_vazirani(num_qubits: int, rng: np.random.Generator) -> KnownCircuit:
    """Find a secret of n-1 bits with one question; the last qubit holds the oracle's answer."""
    states = 2 ** (num_qubits - 1)
    return _make(_bernstein_vazirani, states - 1, num_qubits, int(rng.integers(1, states)))


def _bernstein_vazirani(num_qubits: int, secret: int) -> KnownCircuit:
    from qiskit import QuantumCircuit

    length = num_qubits - 1
    bits = range(length)
    circuit = QuantumCircuit(num_qubits, length)
    circuit.h(bits)
    circuit.x(length)
    circuit.h(length)
    circuit.barrier()
    for bit in bits:
        if secret >> bit & 1:
            circuit.cx(bit, length)
    circuit.barrier()
    circuit.h(bits)
    circuit.measure(bits, bits)

    def judge(counts: Counts) -> dict[str, Any]:
        found = frequencies(counts).get(secret, 0.0)
        likeliest = min(counts, key=lambda outcome: (-counts[outcome], outcome))
        return {
            "secret": text(secret, [length]),
            "found": text(likeliest, [length]),
            "success_probability": found,
            "main_score": found,
        }

    return KnownCircuit(translate(circuit), {secret: 1.0}, judge)
