"""The domain quantum: circuits, simulated with Qiskit Aer and compared with their exact answers."""

from __future__ import annotations

import logging
import random
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np

from dfz_ray.domains.domain import Domain
from dfz_ray.domains.quantum import circuits, vqe
from dfz_ray.domains.quantum.circuit_file import EXACT_QUBITS, exact_distribution, find_circuit, get_circuit
from dfz_ray.domains.quantum.counts import (
    Counts,
    Distribution,
    frequencies,
    hellinger_fidelity,
    listed,
    perfect_sampling_fidelity,
)
from dfz_ray.domains.quantum.parameters import QUBITS, QuantumParameters
from dfz_ray.domains.quantum.simulator import CircuitSize, Simulator, choose_method, measure_size, state_bytes
from dfz_ray.specs.input_file import InputFile
from dfz_ray.specs.resources import Resources

UNDECLARED_MEMORY = 4 * 2**30
"""Bytes that a task may use if it declares no memory."""
QUICK: dict[str, tuple[int, int, int]] = {
    "vqe": (3, 6, 4),
    "grover": (4, 8, 6),
    "qft": (5, 14, 9),
    "ghz": (7, 18, 10),
    "bernstein_vazirani": (7, 18, 10),
}
"""Sizes of generated tasks: fewest qubits, most qubits, most qubits with noise."""
FEW_SHOTS = 10_000
"""Up to here the number of shots hardly matters for the time."""
SLOW_S = 10
"""A warning is logged if a file's shots have to be simulated one by one and take longer than this."""

_log = logging.getLogger("dfz_ray")


def check(parameters: QuantumParameters, resources: Resources) -> None:
    """Refuse a circuit whose state does not fit the declared memory; warn of a slow one that has to run shot by shot.

    Raises:
        ValueError: it does not fit; the text says how many qubits do.
    """
    one_by_one, num_qubits = False, parameters.qubits_to_build
    if parameters.qasm_file is not None:
        read = find_circuit(parameters.qasm_file)
        if read is None:
            return
        one_by_one, num_qubits = read.one_by_one, read.num_qubits
    method = choose_method(parameters.noise_level, one_by_one)
    available = UNDECLARED_MEMORY if resources.memory is None else resources.memory
    needed = state_bytes(method, num_qubits)
    if needed > available:
        most = max(n for n in range(num_qubits) if n == 0 or state_bytes(method, n) <= available)
        noise = " with noise" if method == "density_matrix" else ""
        declared = "that a task without a declaration may use" if resources.memory is None else "declared"
        raise ValueError(
            f"at most {most} qubits{noise} in the {_size(available)} of memory {declared};"
            f" {num_qubits} qubits need {_size(needed)} (resources.memory)"
        )
    if one_by_one and parameters.qasm_file is not None:
        _warn_if_slow(parameters.qasm_file, parameters.shots)


def _size(size_bytes: int) -> str:
    amount, names = float(size_bytes), ["bytes", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"]
    while amount >= 1024 and len(names) > 1:
        amount, names = amount / 1024, names[1:]
    return f"{amount:.4g} {names[0]}"


@lru_cache(maxsize=256)
def _warn_if_slow(file: InputFile, shots: int) -> None:
    """Warn once of a file whose shots are simulated one by one, if that takes long."""
    circuit = get_circuit(file).circuit
    # Measured with Aer 0.18 on one core: 1 µs a gate, and 2.5 ns for each amplitude that it changes. All this twice, as
    # the noise-free run to compare with costs the same.
    seconds = 2 * shots * circuit.size() * (1e-6 + 2.5e-9 * 2**circuit.num_qubits)
    if seconds > SLOW_S:
        _log.warning(
            "%s measures or resets in mid-circuit, so that each of its %d shots is simulated anew:"
            " expect about %.0f s a task on one core (fewer shots take less)",
            file.name,
            shots,
            seconds,
        )


def kind(parameters: QuantumParameters) -> str:
    """Algorithm or file, size, and noise, e.g. `grover 4 qubits noisy`."""
    one_by_one = False
    if parameters.qasm_file is not None:
        words = [parameters.qasm_file.name, parameters.qasm_file.sha256[:6]]
        one_by_one = get_circuit(parameters.qasm_file).one_by_one
    else:
        words = [str(parameters.algorithm), f"{parameters.qubits_to_build} qubits"]
    if parameters.algorithm == "vqe":
        words.append(f"{parameters.layers} layers")
    if parameters.algorithm == "grover" and parameters.circuit_depth is not None:
        done = circuits.grover_iterations(parameters.qubits_to_build, parameters.circuit_depth)
        if done < circuits.grover_iterations(parameters.qubits_to_build, None):
            words.append(f"{done} iterations")
    if parameters.noise_level:
        words.append("noisy")
    if one_by_one or parameters.shots > FEW_SHOTS:
        words.append(f"{parameters.shots} shots")
    return " ".join(words)


def compute(parameters: QuantumParameters, seed: int, threads: int) -> dict[str, Any]:
    """Run a circuit.

    The seed draws the problem (marked state, secret, ...), the start of an optimisation, and the shots. Any number of
    threads gives the same result.

    Returns:
        For all: `algorithm`, `num_qubits`, `shots`, `method` (Aer's), `depth` and `gate_counts` (in rz, sx, x, cx; a
        loop or branch of a file counts as one), `counts` (the 64 most frequent outcomes), `distinct_outcomes`,
        `circuit_fidelity` (Hellinger, against `details.reference`), `main_score` and `details`, where
        `fidelity_of_perfect_machine` is what as many shots reach without any error.

        - grover: `marked_states`, `total_states`, `iterations`, `success_probability` (share of the shots).
        - qft: `input_state`, `phase_shift` (turns), `expected_state`, `success_probability`, `phase_error` (mean over
          the shots, turns) and `phase_precision` (1 - 2 · phase_error: 1 is exact, 0.5 is guessed).
        - ghz: `all_zeros`, `all_ones` (shares of the shots).
        - bernstein_vazirani: `secret`, `found` (most frequent outcome), `success_probability`.
        - vqe: `energy` (exact expectation, with the noise), `exact_energy` (by eigsh), `energy_error`,
          `sampled_energy` (from the shots), `ground_state_overlap` (of the circuit without noise), `convergence`
          (lowest energy after each gradient), `converged`, `layers`, `evaluations`, `warm_start_evaluations`.

    Raises:
        RuntimeError: Aer did not succeed.
    """
    if parameters.qasm_file is not None:
        return _run_file(parameters.qasm_file, parameters, seed, threads)
    if parameters.algorithm == "vqe":
        return _run_vqe(parameters, seed, threads)
    return _run_known(parameters, seed, threads)


def _run_known(parameters: QuantumParameters, seed: int, threads: int) -> dict[str, Any]:
    num_qubits = parameters.qubits_to_build
    rng = np.random.default_rng(seed)
    match parameters.algorithm:
        case "grover":
            known = circuits.grover(num_qubits, parameters.circuit_depth, rng)
        case "qft":
            known = circuits.qft(num_qubits, rng)
        case "ghz":
            known = circuits.ghz(num_qubits)
        case _:
            known = circuits.bernstein_vazirani(num_qubits, rng)
    machine = Simulator(choose_method(parameters.noise_level), parameters.noise_level, threads)
    counts = machine.sample_again(known.assembly, parameters.shots, int(rng.integers(2**31)))
    report = _report(parameters, known.size, machine, counts, [known.circuit.num_clbits])
    report |= _compare(counts, known.exact, "theory", rng)
    own = known.judge(counts)
    report["details"] |= own.pop("details", {})
    return report | own


def _run_vqe(parameters: QuantumParameters, seed: int, threads: int) -> dict[str, Any]:
    machine = Simulator(choose_method(parameters.noise_level), parameters.noise_level, threads)
    num_qubits = parameters.qubits_to_build
    outcome = vqe.solve(num_qubits, parameters.layers, machine, parameters.shots, seed)
    report = _report(parameters, measure_size(outcome.circuit), machine, outcome.counts, [num_qubits])
    report |= _compare(outcome.counts, outcome.exact, "exact state vector", np.random.default_rng(seed))
    return report | outcome.facts


def _run_file(file: InputFile, parameters: QuantumParameters, seed: int, threads: int) -> dict[str, Any]:
    read = get_circuit(file)
    rng = np.random.default_rng(seed)
    machine = Simulator(choose_method(parameters.noise_level, read.one_by_one), parameters.noise_level, threads)
    first_seed, second_seed = rng.integers(2**31, size=2).tolist()
    counts = machine.sample_again(read.assembly, parameters.shots, first_seed)
    report = _report(parameters, read.size, machine, counts, read.registers)
    if read.num_qubits <= EXACT_QUBITS and not read.one_by_one:
        report |= _compare(counts, exact_distribution(file), "exact state vector", rng)
    else:
        perfect = machine.without_noise().sample(read.circuit, parameters.shots, second_seed)
        report |= _compare(counts, frequencies(perfect), "another run without noise", rng)
    report["details"] |= {
        "file": file.name,
        "openqasm": read.version,
        "measured_all_qubits": read.measured_by_us,
        "shots_simulated_one_by_one": read.one_by_one,
    }
    return report


def _report(
    parameters: QuantumParameters, size: CircuitSize, machine: Simulator, counts: Counts, registers: list[int]
) -> dict[str, Any]:
    """The keys that every result has, except those of `_compare`."""
    return {
        "algorithm": parameters.algorithm or "qasm_file",
        "num_qubits": size.num_qubits,
        "shots": sum(counts.values()),
        "method": machine.method,
        "depth": size.depth,
        "gate_counts": dict(size.gate_counts),  # a copy: other tasks may share the circuit
        "counts": listed(counts, registers),
        "distinct_outcomes": len(counts),
    }


def _compare(counts: Counts, exact: Distribution, reference: str, rng: np.random.Generator) -> dict[str, Any]:
    """The keys that say how well the counts fit a reference, and how well those of a perfect machine would."""
    fidelity = hellinger_fidelity(counts, exact)
    perfect = perfect_sampling_fidelity(exact, sum(counts.values()), rng)
    return {
        "circuit_fidelity": fidelity,
        "main_score": fidelity,
        "details": {"reference": reference, "fidelity_of_perfect_machine": perfect},
    }


def draw(rng: random.Random, given: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters of a task of about 10 to 300 ms, unless the size or noise among the given ones makes it slow."""
    fixed = {name: value for name, value in given.items() if value is not None}
    if "qasm_file" in fixed:
        return dict(given)
    wanted, noise = fixed.get("num_qubits"), fixed.get("noise_level")
    algorithm = fixed.get("algorithm") or _draw_algorithm(rng, wanted)
    fewest, most, most_noisy = QUICK.get(algorithm, (2, 2, 2))  # an unknown name is refused when it is checked
    if noise is None:
        may_be_noisy = not isinstance(wanted, int) or wanted <= most_noisy
        noise = round(rng.uniform(0.001, 0.05), 4) if may_be_noisy and rng.random() < 0.5 else 0.0
    drawn = {
        "algorithm": algorithm,
        "num_qubits": rng.randint(fewest, most_noisy if noise else most),
        "noise_level": noise,
    }
    if algorithm == "vqe":
        drawn["circuit_depth"] = rng.randint(1, 2 if noise else 3)
    return drawn | fixed


def _draw_algorithm(rng: random.Random, num_qubits: Any) -> str:
    """An algorithm, if possible one that is quick with so many qubits."""
    if not isinstance(num_qubits, int):
        return rng.choice(list(QUBITS))
    possible = [name for name, (fewest, most) in QUBITS.items() if fewest <= num_qubits <= most]
    quick = [name for name in possible if num_qubits <= QUICK[name][1]]
    return rng.choice(quick or possible or list(QUBITS))


DOMAIN = Domain(
    name="quantum",
    version=2,
    parameters=QuantumParameters,
    compute=compute,
    kind=kind,
    draw=draw,
    check=check,
    libraries=("qiskit", "qiskit_aer"),
    extra="quantum",
    summary="Quantum circuits, of known algorithms or your own OpenQASM, simulated with Qiskit Aer.",
)
