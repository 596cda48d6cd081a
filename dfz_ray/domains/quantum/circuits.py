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
from dfz_ray.domains.quantum.method import Work
from dfz_ray.domains.quantum.simulator import KeptCircuit
from dfz_ray.domains.quantum.translation import translate

KEPT_CIRCUITS = 64
"""A circuit drawn from more is not kept: it would hardly come again, and large ones fill the memory."""


@dataclass(frozen=True)
class KnownCircuit:
    """A circuit, its exact answer, and the judgement of its counts."""

    form: KeptCircuit
    """The circuit as it is simulated: in its own gates, or with noise in those of BASIS."""
    exact: Distribution
    """The distribution of a perfect machine, from theory and not from a simulation."""
    judge: Callable[[Counts], dict[str, Any]]
    """Turns counts into the keys of the result that only this algorithm has; `main_score` if it is not the fidelity."""


def _make(build: Callable[..., KnownCircuit], choices: int, *arguments: Any) -> KnownCircuit:
    """Build one of `choices` circuits, or take it from this process's store where they are few."""
    return _kept(build, *arguments) if choices <= KEPT_CIRCUITS else build(*arguments)


@lru_cache(maxsize=KEPT_CIRCUITS)
def _kept(build: Callable[..., KnownCircuit], *arguments: Any) -> KnownCircuit:
    return build(*arguments)


def _form(circuit: Any, noisy: bool) -> KeptCircuit:
    return KeptCircuit(translate(circuit) if noisy else circuit)


def estimate_work(algorithm: str, num_qubits: int, at_most: int | None) -> Work:
    """About the work of a circuit of BASIS, without building it; `at_most` as for `grover`."""
    match algorithm:
        case "grover":
            iterations = grover_iterations(num_qubits, at_most)
            return Work(num_qubits, 12 * num_qubits**2 * iterations, 3 * num_qubits**2 * iterations, clifford=False)
        case "qft":
            return Work(num_qubits, 5 * num_qubits**2, num_qubits**2, clifford=False)
        case "ghz":
            return Work(num_qubits, num_qubits + 2, num_qubits - 1, clifford=True)
        case _:
            return Work(num_qubits, 7 * num_qubits, num_qubits // 2, clifford=True)


def grover_iterations(num_qubits: int, at_most: int | None) -> int:
    """The number of Grover iterations that makes success most likely, or `at_most` where that is fewer."""
    best = int(math.pi / (4 * math.asin(2 ** (-num_qubits / 2))))
    return best if at_most is None else min(best, at_most)


def _flip(circuit: Any, bits: int) -> None:
    """Put an x on each qubit whose bit is set."""
    for qubit in range(circuit.num_qubits):
        if bits >> qubit & 1:
            circuit.x(qubit)


def grover(num_qubits: int, at_most: int | None, rng: np.random.Generator, noisy: bool) -> KnownCircuit:
    """Search for one marked state among 2^n.

    After k iterations it is found with probability sin²((2k+1)θ), sin θ = 2^(-n/2) (Boyer et al. 1998). k is the best
    number, unless `at_most` is lower.
    """
    states = 2**num_qubits
    marked = int(rng.integers(states))
    return _make(_grover, states, noisy, num_qubits, grover_iterations(num_qubits, at_most), marked)


def _grover(noisy: bool, num_qubits: int, iterations: int, marked: int) -> KnownCircuit:
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
    exact = np.full(states, (1 - success) / (states - 1))
    exact[marked] = success

    def judge(counts: Counts) -> dict[str, Any]:
        found = frequencies(counts).get(marked, 0.0)
        return {
            "marked_states": [text(marked, [num_qubits])],
            "total_states": states,
            "iterations": iterations,
            "success_probability": found,
            "main_score": min(1.0, found / success),
            "details": {"exact_success_probability": success},
        }

    return KnownCircuit(_form(circuit, noisy), Distribution(exact), judge)


def qft(num_qubits: int, rng: np.random.Generator, noisy: bool) -> KnownCircuit:
    """A quantum Fourier transform and its inverse, with a phase shift in between that adds a known number to the input.

    The shift keeps the two transforms from cancelling; without errors x becomes x + shift modulo 2^n.
    """
    states = 2**num_qubits
    given = int(rng.integers(states))
    # An odd number, so that every qubit takes part.
    shift = int(rng.integers(states // 2)) * 2 + 1
    return _make(_qft, states * states // 2, noisy, num_qubits, given, shift)


def _qft(noisy: bool, num_qubits: int, given: int, shift: int) -> KnownCircuit:
    from qiskit import QuantumCircuit
    from qiskit.synthesis import synth_qft_full

    states = 2**num_qubits
    expected = (given + shift) % states
    qubits = range(num_qubits)
    circuit = QuantumCircuit(num_qubits)
    _flip(circuit, given)
    transform = synth_qft_full(num_qubits)
    circuit.compose(transform, inplace=True)
    for qubit in qubits:
        circuit.p(2 * math.pi * shift * 2**qubit / states, qubit)
    circuit.compose(transform.inverse(), inplace=True)
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

    return KnownCircuit(_form(circuit, noisy), Distribution.of({expected: 1.0}), judge)


def ghz(num_qubits: int, noisy: bool) -> KnownCircuit:
    """The state (|0...0> + |1...1>)/√2: half of the shots should give all zeros, half all ones."""
    return _make(_ghz, 1, noisy, num_qubits)


def _ghz(noisy: bool, num_qubits: int) -> KnownCircuit:
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

    return KnownCircuit(_form(circuit, noisy), Distribution.of({0: 0.5, ones: 0.5}), judge)


def bernstein_vazirani(num_qubits: int, rng: np.random.Generator, noisy: bool) -> KnownCircuit:
    """Find a secret of n-1 bits with one question; the last qubit holds the oracle's answer."""
    length = num_qubits - 1
    bits = rng.integers(2, size=length).tolist()
    secret = sum(bit << place for place, bit in enumerate(bits)) or 2**length - 1
    return _make(_bernstein_vazirani, 2**length, noisy, num_qubits, secret)


def _bernstein_vazirani(noisy: bool, num_qubits: int, secret: int) -> KnownCircuit:
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

    return KnownCircuit(_form(circuit, noisy), Distribution.of({secret: 1.0}), judge)
