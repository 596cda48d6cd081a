"""The domain quantum: circuits, simulated with Qiskit Aer and compared with their exact answers."""

from __future__ import annotations

import logging
import random
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np

from dfz_ray.domains.domain import Domain
from dfz_ray.domains.quantum import circuits, references, vqe
from dfz_ray.domains.quantum.circuit_file import FileCircuit, exact_reference, find_circuit, get_circuit
from dfz_ray.domains.quantum.counts import Counts, as_texts
from dfz_ray.domains.quantum.method import Choice, choose_method, state_bytes
from dfz_ray.domains.quantum.parameters import QUBITS, QuantumParameters
from dfz_ray.domains.quantum.results import RESULTS
from dfz_ray.domains.quantum.scores import compare, compare_with_a_run
from dfz_ray.domains.quantum.simulator import CircuitSize, Simulator, draw_aer_seed, measure_size
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
AND_REFERENCE = 3
"""The reference of a file that measures in mid-circuit is a run of twice the shots."""
SLOW_S = 20
"""A warning is logged if a task takes longer than this, by estimate."""

_log = logging.getLogger("dfz_ray")


def choose(parameters: QuantumParameters, read: FileCircuit | None) -> Choice:
    """The method for a task; `read` is the circuit of its file."""
    noisy, shots = bool(parameters.noise_level), parameters.shots
    if parameters.algorithm == "vqe":
        estimated_s = vqe.estimate_s(parameters.qubits_to_build, parameters.layers, noisy, parameters.max_evaluations)
        return Choice(*vqe.choose_vqe_method(parameters.noise_level), estimated_s)
    if read is not None:
        return choose_method(read.work(parameters.noise_level), noisy, shots)
    algorithm, num_qubits = str(parameters.algorithm), parameters.qubits_to_build
    return choose_method(circuits.estimate_work(algorithm, num_qubits, parameters.circuit_depth), noisy, shots)


def check(parameters: QuantumParameters, resources: Resources) -> None:
    """Refuse a circuit whose state does not fit the declared memory; warn of a slow one.

    Raises:
        ValueError: it does not fit; the text says how many qubits do.
    """
    read, num_qubits = None, parameters.qubits_to_build
    if parameters.qasm_file is not None:
        read = find_circuit(parameters.qasm_file)
        if read is None:
            return
        num_qubits = read.num_qubits
    choice = choose(parameters, read)
    anew = choice.method != "density_matrix" and (parameters.noise_level or (read is not None and read.one_by_one))
    states = resources.threads if anew else 1  # each thread simulates another shot

    def needed(qubits: int) -> int:
        by_reference = read is not None and read.has_exact_reference and read.perfect.clifford_form is None
        return max(states * state_bytes(choice.method, qubits), references.exact_bytes(qubits) if by_reference else 0)

    available = UNDECLARED_MEMORY if resources.memory is None else resources.memory
    if needed(num_qubits) > available:
        most = max(n for n in range(num_qubits) if n == 0 or needed(n) <= available)
        noise = " with noise" if choice.method == "density_matrix" else ""
        declared = "that a task without a declaration may use" if resources.memory is None else "declared"
        raise ValueError(
            f"at most {most} qubits{noise} in the {_size(available)} of memory {declared};"
            f" {num_qubits} qubits need {_size(needed(num_qubits))} (resources.memory)"
        )
    _warn_if_slow(parameters, choice, read is not None and read.one_by_one, bool(anew))


def _size(size_bytes: int) -> str:
    amount, names = float(size_bytes), ["bytes", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"]
    while amount >= 1024 and len(names) > 1:
        amount, names = amount / 1024, names[1:]
    return f"{amount:.4g} {names[0]}"


def _warn_if_slow(parameters: QuantumParameters, choice: Choice, one_by_one: bool, by_shot: bool) -> None:
    seconds, remark = choice.estimated_s * (AND_REFERENCE if one_by_one else 1), ""
    if seconds <= SLOW_S:
        return
    name = parameters.qasm_file.name if parameters.qasm_file else kind(parameters)
    if one_by_one:
        name += f" measures or resets in mid-circuit, so that each of its {parameters.shots} shots is simulated anew"
    if parameters.algorithm == "vqe":
        remark = "; max_evaluations bounds it"
    elif by_shot:
        remark = "; fewer shots take less"
    _warn(f"{name}: expect about {seconds:.0f} s a task on one core with the method {choice.method}{remark}")


@lru_cache(maxsize=256)
def _warn(text: str) -> None:
    """Log a warning, once in a process."""
    _log.warning("%s", text)


def kind(parameters: QuantumParameters) -> str:
    """Algorithm or file, size, and noise, e.g. `grover 4 qubits noisy`."""
    read = None
    if parameters.qasm_file is not None:
        words = [parameters.qasm_file.name, parameters.qasm_file.sha256[:6]]
        read = get_circuit(parameters.qasm_file)
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
    noisy_trajectories = parameters.noise_level and choose(parameters, read).method != "density_matrix"
    if noisy_trajectories or (read is not None and read.one_by_one) or parameters.shots > FEW_SHOTS:
        words.append(f"{parameters.shots} shots")
    return " ".join(words)


def compute(parameters: QuantumParameters, seed: int, threads: int) -> dict[str, Any]:
    """Run a circuit.

    The seed draws the problem (marked state, secret, ...), the start of an optimisation, and the shots. Any number of
    threads gives the same result.

    Returns:
        The keys that RESULTS describes.

    Raises:
        RuntimeError: Aer did not succeed.
    """
    if parameters.qasm_file is not None:
        return _run_file(parameters.qasm_file, parameters, seed, threads)
    if parameters.algorithm == "vqe":
        return _run_vqe(parameters, seed, threads)
    return _run_known(parameters, seed, threads)


def _run_known(parameters: QuantumParameters, seed: int, threads: int) -> dict[str, Any]:
    num_qubits, noisy = parameters.qubits_to_build, bool(parameters.noise_level)
    rng = np.random.default_rng(seed)
    match parameters.algorithm:
        case "grover":
            known = circuits.grover(num_qubits, parameters.circuit_depth, rng, noisy)
        case "qft":
            known = circuits.qft(num_qubits, rng, noisy)
        case "ghz":
            known = circuits.ghz(num_qubits, noisy)
        case _:
            known = circuits.bernstein_vazirani(num_qubits, rng, noisy)
    choice = choose(parameters, None)
    machine = Simulator(choice.method, parameters.noise_level, threads)
    counts = machine.sample_again(known.form.assembly(choice.method), parameters.shots, draw_aer_seed(rng))
    report = _report(parameters, known.form.size, choice, counts, [known.form.circuit.num_clbits])
    report |= compare(counts, known.exact, "theory", rng)
    own = known.judge(counts)
    report["details"] |= own.pop("details", {})
    return report | own


def _run_vqe(parameters: QuantumParameters, seed: int, threads: int) -> dict[str, Any]:
    choice = choose(parameters, None)
    machine = Simulator(choice.method, parameters.noise_level, threads)
    num_qubits = parameters.qubits_to_build
    outcome = vqe.solve(num_qubits, parameters.layers, machine, parameters.shots, seed, parameters.max_evaluations)
    report = _report(parameters, measure_size(outcome.circuit), choice, outcome.counts, [num_qubits])
    report |= compare(outcome.counts, outcome.exact, "exact state vector", np.random.default_rng(seed))
    return report | outcome.facts


def _run_file(file: InputFile, parameters: QuantumParameters, seed: int, threads: int) -> dict[str, Any]:
    read = get_circuit(file)
    rng = np.random.default_rng(seed)
    choice, form = choose(parameters, read), read.form(parameters.noise_level)
    machine = Simulator(choice.method, parameters.noise_level, threads)
    counts = machine.sample_again(form.assembly(choice.method), parameters.shots, draw_aer_seed(rng))
    report = _report(parameters, form.size, choice, counts, read.registers)
    if read.has_exact_reference:
        name = "exact state vector" if read.perfect.clifford_form is None else "exact stabilizers"
        report |= compare(counts, exact_reference(file), name, rng)
    else:
        report |= compare_with_a_run(counts, read, threads, rng)
    report["details"] |= {
        "file": file.name,
        "openqasm": read.version,
        "measured_all_qubits": read.measured_by_us,
        "shots_simulated_one_by_one": read.one_by_one,
    }
    return report


def _report(
    parameters: QuantumParameters, size: CircuitSize, choice: Choice, counts: Counts, registers: list[int]
) -> dict[str, Any]:
    """The keys that every result has, except those of `compare`."""
    return {
        "algorithm": parameters.algorithm or "qasm_file",
        "num_qubits": size.num_qubits,
        "shots": sum(counts.values()),
        "method": choice.method,
        "method_reason": choice.reason,
        "depth": size.depth,
        "gate_counts": dict(size.gate_counts),  # a copy: other tasks may share the circuit
        "counts": as_texts(counts, registers),
        "distinct_outcomes": len(counts),
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
    results=RESULTS,
    summary="Quantum circuits, of known algorithms or your own OpenQASM, simulated with Qiskit Aer.",
    repeatable=True,
)
