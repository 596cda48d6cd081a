"""The domain quantum runs real circuits, and compares them with answers that are known."""

from __future__ import annotations

import functools
import json
import logging
import math
import random
import subprocess
import sys
import textwrap
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from dfz_ray.domains.quantum.assembly import MOST_OPERATIONS, Assembly
from dfz_ray.domains.quantum.circuits import bernstein_vazirani, ghz, grover, qft
from dfz_ray.domains.quantum.counts import hellinger_fidelity, perfect_sampling_fidelity, text
from dfz_ray.domains.quantum.domain import DOMAIN
from dfz_ray.domains.quantum.parameters import QUBITS, QuantumParameters
from dfz_ray.domains.quantum.simulator import Simulator, make_backend
from dfz_ray.specs.encoding import decode, encode
from dfz_ray.specs.input_file import FileShelf
from dfz_ray.specs.problems import find_problems
from dfz_ray.specs.resources import Resources

pytest.importorskip("qiskit")
pytest.importorskip("qiskit_aer")

QASM = Path(__file__).parents[5] / "shared/data/qasm"
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


def grover_success(num_qubits: int, iterations: int) -> float:
    return math.sin((2 * iterations + 1) * math.asin(2 ** (-num_qubits / 2))) ** 2


class TestGrover:
    @pytest.mark.parametrize("num_qubits", [2, 3, 4, 5, 7])
    def test_success_follows_the_formula(self, num_qubits: int) -> None:
        """Grover's search finds the marked state as often as sin²((2k+1)θ) says."""
        result = measure("grover", num_qubits)
        expected = grover_success(num_qubits, result["iterations"])
        assert result["success_probability"] == pytest.approx(expected, abs=tolerance(expected))
        assert result["main_score"] == result["success_probability"]
        assert next(iter(result["counts"])) == result["marked_states"][0]
        assert result["total_states"] == 2**num_qubits
        assert result["details"]["exact_success_probability"] == pytest.approx(expected)

    def test_circuit_depth_bounds_the_iterations(self) -> None:
        """A circuit_depth below the best number of iterations is what is done, with the success that it gives."""
        result = measure("grover", 6, circuit_depth=3)
        assert result["iterations"] == 3
        expected = grover_success(6, 3)
        assert result["success_probability"] == pytest.approx(expected, abs=tolerance(expected))

    def test_more_depth_than_is_best_changes_nothing(self) -> None:
        """Grover never goes on past its best number of iterations."""
        assert measure("grover", 3, circuit_depth=20) == measure("grover", 3)

    def test_noise_hides_the_answer(self) -> None:
        """The noisier the gates, the less often the marked state is found."""
        found = [measure("grover", 4, noise)["success_probability"] for noise in (0.0, 0.01, 0.05, 0.5)]
        assert found == sorted(found, reverse=True)
        assert found[-1] == pytest.approx(1 / 16, abs=tolerance(1 / 16))


class TestFourierTransform:
    @pytest.mark.parametrize("num_qubits", [1, 2, 5, 10])
    def test_a_phase_shift_between_two_transforms_is_added_to_the_input(self, num_qubits: int) -> None:
        """Transforming, shifting the phase and transforming back adds the shift, exactly."""
        result = measure("qft", num_qubits)
        states = 2**num_qubits
        shift = result["phase_shift"] * states
        assert shift % 2 == 1
        assert int(result["expected_state"], 2) == (int(result["input_state"], 2) + shift) % states
        assert result["counts"] == {result["expected_state"]: SHOTS}
        assert result["main_score"] == result["phase_precision"] == 1.0

    def test_noise_lowers_the_precision_of_the_phase(self) -> None:
        """With noise the phase is found less precisely, down to a guess."""
        precision = [measure("qft", 4, noise)["phase_precision"] for noise in (0.0, 0.02, 0.1, 0.5)]
        assert precision == sorted(precision, reverse=True)
        assert precision[-1] == pytest.approx(0.5, abs=0.03)


class TestGhz:
    @pytest.mark.parametrize("num_qubits", [2, 5, 12])
    def test_halves(self, num_qubits: int) -> None:
        """Half of the shots of a GHZ state are all zeros, the other half all ones."""
        result = measure("ghz", num_qubits)
        assert result["all_zeros"] + result["all_ones"] == 1.0
        assert result["all_zeros"] == pytest.approx(0.5, abs=tolerance(0.5))
        assert result["gate_counts"]["cx"] == num_qubits - 1
        assert result["main_score"] == result["circuit_fidelity"] > 0.99

    def test_noise(self) -> None:
        """Noise lowers the fidelity of a GHZ state."""
        assert measure("ghz", 5, 0.05)["circuit_fidelity"] < measure("ghz", 5, 0.01)["circuit_fidelity"] < 0.99


class TestBernsteinVazirani:
    @pytest.mark.parametrize("num_qubits", [2, 6, 14])
    def test_the_secret_is_found(self, num_qubits: int) -> None:
        """Bernstein-Vazirani finds its secret of n-1 bits in every shot."""
        result = measure("bernstein_vazirani", num_qubits)
        assert len(result["secret"]) == num_qubits - 1
        assert result["counts"] == {result["secret"]: SHOTS}
        assert result["found"] == result["secret"]
        assert result["gate_counts"].get("cx", 0) == result["secret"].count("1")

    def test_noise(self) -> None:
        """With a little noise the secret is still the most frequent outcome, but not the only one."""
        result = measure("bernstein_vazirani", 6, 0.05)
        assert result["found"] == result["secret"]
        assert 0.5 < result["main_score"] < 1


class TestVqe:
    @pytest.mark.parametrize("num_qubits", [2, 3, 5, 7])
    def test_energy(self, num_qubits: int) -> None:
        """A noiseless energy is near the exact one of the Ising chain, and never below it."""
        result = measure("vqe", num_qubits, circuit_depth=3)
        closed_form = 1 - 1 / math.sin(math.pi / (2 * (2 * num_qubits + 1)))
        assert result["exact_energy"] == pytest.approx(closed_form, abs=1e-8)
        assert -1e-9 <= result["energy_error"] < 0.015 * -closed_form
        assert result["energy"] == pytest.approx(result["exact_energy"] + result["energy_error"], abs=1e-8)
        assert result["main_score"] == pytest.approx(result["energy"] / closed_form, abs=1e-8)
        assert 0.9 < result["ground_state_overlap"] <= 1
        # The standard deviation of a sampled energy is below √(terms/shots) times the number of correlated terms.
        assert result["sampled_energy"] == pytest.approx(result["energy"], abs=5 * num_qubits / math.sqrt(SHOTS))

    def test_energy_of_five_qubits(self) -> None:
        """The exact energy of five qubits is -6.0266742."""
        assert measure("vqe", 5, circuit_depth=3)["exact_energy"] == pytest.approx(-6.0266742, abs=1e-7)

    def test_more_layers_come_nearer(self) -> None:
        """A deeper ansatz finds a lower energy."""
        errors = [measure("vqe", 5, circuit_depth=layers)["energy_error"] for layers in (1, 2, 3)]
        assert errors == sorted(errors, reverse=True)

    def test_convergence(self) -> None:
        """The convergence curve falls from the start to the energy that is reported."""
        result = measure("vqe", 5, circuit_depth=3)
        curve = result["convergence"]
        assert len(curve) > 5
        assert curve == sorted(curve, reverse=True)
        assert curve[-1] == result["energy"] < curve[0]

    def test_noise_takes_a_few_seconds_and_costs_energy(self) -> None:
        """Five qubits with four layers and noise end within seconds, with a higher energy than without noise."""
        start = time.perf_counter()
        result = measure("vqe", 5, 0.01, circuit_depth=4)
        assert time.perf_counter() - start < 15
        assert result["method"] == "density_matrix"
        assert 0.7 < result["main_score"] < 0.95
        assert result["energy"] == result["convergence"][-1] <= result["convergence"][0]
        assert result["warm_start_evaluations"] > 0


class TestNoise:
    @pytest.mark.parametrize(("gates", "kept"), [("cx q[0],q[1];", 0.7), ("x q[0];", 0.98), ("rz(0.3) q[0];", 1.0)])
    def test_share_of_right_outcomes(self, tmp_path: Path, gates: str, kept: float) -> None:
        """Depolarising noise of 0.4 strikes each cx with 0.4, each x with 0.04 and rz never."""
        head = 'OPENQASM 2.0; include "qelib1.inc"; qreg q[2]; creg c[2];'
        folder = write(tmp_path, f"{head} {gates} measure q -> c;")
        result = compute(folder=folder, qasm_file="mine.qasm", noise_level=0.4, shots=SHOTS)
        right = "01" if gates.startswith("x") else "00"
        assert result["counts"][right] / SHOTS == pytest.approx(kept, abs=tolerance(kept))

    def test_the_result_says_what_ran(self) -> None:
        """Every result tells Aer's method, the shots and the circuit in the gates rz, sx, x and cx."""
        for algorithm in ALGORITHMS:
            result = measure(algorithm, 4, 0.01)
            assert (result["algorithm"], result["num_qubits"], result["shots"]) == (algorithm, 4, SHOTS)
            assert result["method"] == "density_matrix"
            assert result["gate_counts"].keys() <= {"rz", "sx", "x", "cx", "measure"}
            assert 0 < result["depth"] <= sum(result["gate_counts"].values())
            assert sum(result["counts"].values()) == SHOTS
            assert result["distinct_outcomes"] == len(result["counts"])
            assert 0 <= result["main_score"] <= 1
            assert 0 <= result["circuit_fidelity"] <= 1


class TestDeterminism:
    CASES = (
        {"algorithm": "grover", "num_qubits": 5, "noise_level": 0.02},
        {"algorithm": "qft", "num_qubits": 8, "noise_level": 0.01},
        {"algorithm": "qft", "num_qubits": 15},
        {"algorithm": "ghz", "num_qubits": 16},
        {"algorithm": "bernstein_vazirani", "num_qubits": 8, "noise_level": 0.1},
        {"algorithm": "vqe", "num_qubits": 4, "noise_level": 0.01},
        {"algorithm": "vqe", "num_qubits": 7, "noise_level": 0.01, "circuit_depth": 1},
        {"algorithm": "vqe", "num_qubits": 14, "circuit_depth": 1, "shots": 100},
    )

    @pytest.mark.parametrize("values", CASES, ids=lambda values: "-".join(map(str, values.values())))
    def test_threads(self, values: dict[str, Any]) -> None:
        """A result depends on the seed alone, not on how many threads computed it or how often."""
        results = [json.dumps(compute(seed=2**63 - 1, threads=threads, **values)) for threads in (1, 2, 3, 1)]
        assert len(set(results)) == 1

    def test_threads_of_a_circuit_that_runs_shot_by_shot(self) -> None:
        """Also shots that are simulated one by one do not depend on the number of threads."""
        file = real_file("shor_n5")
        results = [compute(5, threads, qasm_file=file, noise_level=0.02, shots=300) for threads in (1, 2, 3)]
        assert results[0] == results[1] == results[2]

    @pytest.mark.parametrize("algorithm", ALGORITHMS)
    def test_seeds(self, algorithm: str) -> None:
        """Another seed is another experiment."""
        results = [compute(seed, algorithm=algorithm, num_qubits=6, noise_level=0.01) for seed in (1, 2)]
        assert results[0]["counts"] != results[1]["counts"]

    def test_tasks_on_several_threads_of_a_process(self) -> None:
        """Tasks that run at the same time in one process do not disturb each other."""
        seeds = range(12)
        values = {"algorithm": "qft", "num_qubits": 5, "noise_level": 0.01}
        with ThreadPoolExecutor(4) as pool:
            together = list(pool.map(lambda seed: compute(seed, **values), seeds))
        assert together == [compute(seed, **values) for seed in seeds]

    def test_results_travel(self) -> None:
        """A result survives being stored unchanged."""
        for algorithm in ALGORITHMS:
            result = measure(algorithm, 4, 0.01)
            assert decode(encode(result)) == result


class TestCircuitsThatComeAgain:
    @pytest.mark.parametrize("algorithm", ["grover", "qft", "ghz", "bernstein_vazirani"])
    def test_counts_are_those_of_aers_own_run(self, algorithm: str) -> None:
        """What is kept of a circuit gives the counts of AerSimulator.run, each time and with any simulator."""
        known = {
            "grover": lambda: grover(4, None, np.random.default_rng(3)),
            "qft": lambda: qft(3, np.random.default_rng(3)),
            "ghz": lambda: ghz(5),
            "bernstein_vazirani": lambda: bernstein_vazirani(5, np.random.default_rng(3)),
        }[algorithm]()
        noisy, noisier = Simulator("density_matrix", 0.02, 1), Simulator("density_matrix", 0.1, 2)
        perfect = noisy.without_noise()
        for seed, machine in enumerate([noisy, noisy, noisy, noisier, noisy, perfect, perfect, noisy]):
            counts = known.assembly.find_counts(make_backend(machine), SHOTS, seed)
            assert counts is not None  # this release of Aer was tried
            assert machine.sample_again(known.assembly, SHOTS, seed) == machine.sample(known.circuit, SHOTS, seed)

    def test_a_long_circuit_is_not_kept(self) -> None:
        """Circuits that would fill the memory go through AerSimulator.run each time."""
        from qiskit import QuantumCircuit

        circuit = QuantumCircuit(1)
        for _ in range(MOST_OPERATIONS):
            circuit.sx(0)
        circuit.measure_all()
        assembly, machine = Assembly(circuit), Simulator("statevector", 0.0, 1)
        assert assembly.find_counts(make_backend(machine), 10, 0) is None
        assert machine.sample_again(assembly, 10, 0) == machine.sample(circuit, 10, 0)

    def test_what_a_caller_does_to_a_result_stays_with_it(self) -> None:
        """A result that was changed in a process changes nothing in that of the next task."""
        first = compute(algorithm="ghz", num_qubits=3)
        before = json.dumps(first)
        first["gate_counts"].clear()
        first["details"].clear()
        first["counts"].clear()
        assert json.dumps(compute(algorithm="ghz", num_qubits=3)) == before


class TestRefused:
    @pytest.mark.parametrize(
        ("values", "expected"),
        [
            ({"algorithm": "grover", "num_qubits": 0}, "greater than or equal to 1"),
            ({"algorithm": "grover", "num_qubits": 60}, "less than or equal to 32"),
            ({"algorithm": "grover", "num_qubits": 1}, "2 to 16 for grover"),
            ({"algorithm": "vqe", "num_qubits": 20}, "2 to 16 for vqe"),
            ({"algorithm": "ghz", "num_qubits": 1}, "2 to 32 for ghz"),
            ({"algorithm": "ghz", "num_qubits": 3.0}, "valid integer"),
            ({"algorithm": "ghz", "num_qubits": True}, "valid integer"),
            ({"algorithm": "ghz", "noise_level": 2}, "less than or equal to 0.5"),
            ({"algorithm": "ghz", "noise_level": float("nan")}, "less than or equal to 0.5"),
            ({"algorithm": "ghz", "noise_level": "0.1"}, "valid number"),
            ({"algorithm": "vqe", "circuit_depth": 21}, "less than or equal to 20"),
            ({"algorithm": "ghz", "shots": 0}, "greater than or equal to 1"),
            ({"algorithm": "shor"}, "'vqe', 'grover', 'qft', 'ghz' or 'bernstein_vazirani'"),
            ({"algorithm": "ghz", "qubits": 3}, "Extra inputs are not permitted"),
            ({}, "either an algorithm (vqe, grover, qft, ghz, bernstein_vazirani) or a qasm_file"),
            ({"qasm_file": "nowhere.qasm"}, "nowhere.qasm: No such file"),
        ],
    )
    def test_message(self, values: dict[str, Any], expected: str) -> None:
        """What can't be run is refused with what would have been right."""
        assert expected in refusal(**values)

    @pytest.mark.parametrize(
        ("name", "value", "expected"),
        [("num_qubits", 0, "1 to 32"), ("num_qubits", 60, "1 to 32"), ("noise_level", 2, "0 to 0.5")],
    )
    def test_range(self, name: str, value: float, expected: str) -> None:
        """A number out of range is refused with the whole range, at the path of its parameter."""
        with pytest.raises(ValidationError) as caught:
            parameters(**{"algorithm": "grover", name: value})
        problem = find_problems(caught.value, QuantumParameters, "parameters")[0]
        assert (problem.where, problem.found, problem.expected) == (f"parameters.{name}", str(value), expected)

    def test_whole_number_as_noise(self) -> None:
        """A whole number is a good noise level."""
        assert parameters(algorithm="ghz", noise_level=0).noise_level == 0

    @pytest.mark.parametrize(
        ("values", "expected"),
        [
            ({"algorithm": "ghz", "qasm_file": "mine.qasm"}, "one of the two"),
            ({"qasm_file": "mine.qasm", "num_qubits": 2}, "no num_qubits beside a qasm_file"),
        ],
    )
    def test_file_and_algorithm(self, tmp_path: Path, values: dict[str, Any], expected: str) -> None:
        """A file is given instead of an algorithm and its size, not beside them."""
        folder = write(tmp_path, 'OPENQASM 2.0; include "qelib1.inc"; qreg q[2]; h q;')
        assert expected in refusal(folder, **values)

    @pytest.mark.parametrize(
        ("content", "expected"),
        [
            ("OPENQASM 2.0;\nqreg q[2];\n\nfoo q[0];", "mine.qasm, line 4, column 1: 'foo' is not defined"),
            ('OPENQASM 3;\ninclude "stdgates.inc";\nqubit q;\nfoo q;', "line 4, column 1: gate 'foo' is not defined"),
            ('OPENQASM 3;\ninclude "stdgates.inc";\nqubit q;\nh q\nh q;', "line 5, column 1: unexpected 'h'"),
            ('OPENQASM 3;\ninclude "stdgates.inc";\nqubit[2] q;\n\nh q[5];', "line 5: index out of range"),
            ("OPENQASM 3;\nqubit q;\n$$;", "line 3, column 1: token recognition error"),
            ('OPENQASM 2.0;\ninclude "mine.inc";', "line 2, column 9: unable to find 'mine.inc'"),
            ("OPENQASM 2.0;\nopaque foo a;\nqreg q[1];\nfoo q[0];", 'unable to synthesize "foo"'),
            ('OPENQASM 3;\ninclude "stdgates.inc";\ninput float theta;\nqubit q;\nrx(theta) q;', "leaves open: theta"),
            ('OPENQASM 3;\ninclude "stdgates.inc";\nqubit q;\nbox { h q; }', "mine.qasm has box"),
            ('OPENQASM 2.0;\ninclude "qelib1.inc";\nqreg q[40];\nh q;', "uses 1 to 32 qubits; mine.qasm uses 40"),
            ("", "uses 1 to 32 qubits; mine.qasm uses 0"),
        ],
    )
    def test_bad_file(self, tmp_path: Path, capfd: Any, content: str, expected: str) -> None:
        """A file that can't be run is refused before anything runs, with its name, the line and the reason."""
        (tmp_path / "mine.qasm").write_text(content)
        message = refusal(tmp_path, qasm_file="mine.qasm")
        assert expected in message
        assert "mine.qasm" in message
        assert capfd.readouterr().err == ""

    def test_file_that_is_no_text(self, tmp_path: Path) -> None:
        """A binary file is refused as no text."""
        (tmp_path / "mine.qasm").write_bytes(b"\xff\xfe\x00")
        assert "mine.qasm is not a UTF-8 text" in refusal(tmp_path, qasm_file="mine.qasm")

    def test_published_file_with_an_error(self) -> None:
        """The malformed file of QASMBench is refused at its true line, once or a thousand times, without delay."""
        file = real_file("vqe_uccsd_n4")
        message = "vqe_uccsd_n4.qasm, line 225, column 9: 'q' is not defined in this scope"
        assert message in refusal(qasm_file=file)
        start = time.perf_counter()
        assert all(message in refusal(qasm_file=file) for _ in range(1000))
        assert time.perf_counter() - start < 5


class TestMemory:
    @pytest.mark.parametrize(
        ("values", "memory", "expected"),
        [
            ({"num_qubits": 15, "noise_level": 0.1}, None, "at most 14 qubits with noise in the 4 GiB of memory"),
            ({"num_qubits": 20, "noise_level": 0.1}, None, "20 qubits need 16 TiB"),
            ({"num_qubits": 29}, None, "at most 28 qubits in the 4 GiB of memory"),
            ({"num_qubits": 20}, "1MiB", "at most 16 qubits in the 1 MiB of memory declared; 20 qubits need 16 MiB"),
            ({"num_qubits": 9, "noise_level": 0.1}, "1MiB", "at most 8 qubits with noise in the 1 MiB"),
            ({"num_qubits": 2}, "1B", "at most 0 qubits in the 1 bytes"),
        ],
    )
    def test_too_large(self, values: dict[str, Any], memory: str | None, expected: str) -> None:
        """A circuit that the memory can't hold is refused before it runs, with the number of qubits that fit."""
        with pytest.raises(ValueError, match=expected):
            DOMAIN.check(parameters(algorithm="ghz", **values), Resources.model_validate({"memory": memory}))

    @pytest.mark.parametrize(
        ("values", "memory"),
        [
            ({"num_qubits": 14, "noise_level": 0.1}, None),
            ({"num_qubits": 28}, None),
            ({"num_qubits": 32}, "64GiB"),
            ({"num_qubits": 15, "noise_level": 0.1}, "16GiB"),
        ],
    )
    def test_just_fits(self, values: dict[str, Any], memory: str | None) -> None:
        """A circuit that fits is accepted, and larger ones are where more memory is declared."""
        DOMAIN.check(parameters(algorithm="ghz", **values), Resources.model_validate({"memory": memory}))

    def test_of_a_file(self, tmp_path: Path) -> None:
        """For a file the qubits that it uses count, and a circuit that runs shot by shot needs no density matrix."""
        head = 'OPENQASM 2.0; include "qelib1.inc"; qreg q[100]; creg c[16];'
        gates = "".join(f"h q[{qubit}];" for qubit in range(16))
        final = "".join(f"measure q[{qubit}] -> c[{qubit}];" for qubit in range(16))
        write(tmp_path, f"{head} {gates} {final}", "final.qasm")
        write(tmp_path, f"{head} {gates} reset q[0]; {final}", "reset.qasm")
        with pytest.raises(ValueError, match=r"at most 14 qubits with noise .* 16 qubits need 64 GiB"):
            DOMAIN.check(parameters(tmp_path, qasm_file="final.qasm", noise_level=0.1), Resources())
        DOMAIN.check(parameters(tmp_path, qasm_file="final.qasm"), Resources())
        DOMAIN.check(parameters(tmp_path, qasm_file="reset.qasm", noise_level=0.1), Resources())

    def test_failure_of_aer_is_an_error(self) -> None:
        """What Aer itself can't simulate fails the task and is no result."""
        from qiskit import QuantumCircuit

        circuit = QuantumCircuit(50)
        circuit.sx(range(50))
        circuit.measure_all()
        with pytest.raises(RuntimeError, match="Aer could not simulate 50 qubits"):
            Simulator("statevector", 0.0, 1).sample(circuit, 1, 0)
        with pytest.raises(RuntimeError, match="Aer could not simulate 50 qubits"):
            Simulator("statevector", 0.0, 1).sample_again(Assembly(circuit), 1, 0)


class TestRealFiles:
    @pytest.mark.parametrize(("name", "answer"), [("bv_n14", "1" * 13), ("adder_n10", "10000")])
    def test_known_answer(self, name: str, answer: str) -> None:
        """Circuits of QASMBench give their published answer in every shot."""
        result = compute(qasm_file=real_file(name))
        assert result["counts"] == {answer: 1024}
        assert result["circuit_fidelity"] == result["main_score"] == pytest.approx(1)

    @pytest.mark.parametrize("name", ["teleportation_n3", "ising_n10", "oq3_qft"])
    def test_against_the_state_vector(self, name: str) -> None:
        """A noise-free run is as near to the exact distribution as a perfect machine would be."""
        result = compute(qasm_file=real_file(name), shots=20_000)
        assert result["details"]["reference"] == "exact state vector"
        assert result["circuit_fidelity"] == pytest.approx(result["details"]["fidelity_of_perfect_machine"], abs=0.01)
        assert not result["details"]["shots_simulated_one_by_one"]

    def test_exact_distribution_is_that_of_qiskit(self) -> None:
        """The reference of a file has the probabilities that Qiskit's own Statevector computes."""
        from qiskit import qasm2
        from qiskit.quantum_info import Statevector

        from dfz_ray.domains.quantum.circuit_file import exact_distribution

        file = real_file("teleportation_n3")
        circuit = qasm2.load(file).remove_final_measurements(inplace=False)
        expected = Statevector(circuit).probabilities_dict()
        found = exact_distribution(FileShelf().read(file))
        assert {text(outcome, [3]): share for outcome, share in found.items()} == pytest.approx(expected)

    def test_openqasm_3_without_a_version(self) -> None:
        """An OpenQASM 3 file is known by its words where it does not say its version; its first reset costs nothing."""
        result = compute(qasm_file=real_file("oq3_qft"))
        assert result["details"]["openqasm"] == 3
        assert "reset" not in result["gate_counts"]

    def test_measurement_in_mid_circuit(self) -> None:
        """Shor's circuit, with measurements and resets in its midst, finds the period 4: multiples of 2 of 8."""
        result = compute(qasm_file=real_file("shor_n5"))
        assert set(result["counts"]) == {"00000", "00010", "00100", "00110"}
        assert result["details"]["shots_simulated_one_by_one"]
        assert result["details"]["reference"] == "another run without noise"
        assert result["circuit_fidelity"] > 0.98

    def test_noise(self) -> None:
        """Noise lowers the fidelity of a file's circuit."""
        result = compute(qasm_file=real_file("teleportation_n3"), noise_level=0.3)
        assert result["circuit_fidelity"] < 0.96

    def test_travels_by_name_and_hash(self) -> None:
        """Parameters with a file can be stored and read again where the file's content is known."""
        shelf = FileShelf()
        given = QuantumParameters.model_validate({"qasm_file": real_file("bv_n14")}, context=shelf)
        stored = decode(encode(given.model_dump()))
        assert QuantumParameters.model_validate(stored, context=FileShelf(contents=shelf.contents)) == given


class TestOwnFiles:
    def run(self, folder: Path, content: str, **values: Any) -> dict[str, Any]:
        return compute(folder=write(folder, content), qasm_file="mine.qasm", **values)

    def test_without_measurement(self, tmp_path: Path) -> None:
        """A circuit that measures nothing is measured as a whole."""
        result = self.run(tmp_path, 'OPENQASM 2.0; include "qelib1.inc"; qreg q[3]; x q[1];')
        assert result["counts"] == {"010": 1024}
        assert result["details"]["measured_all_qubits"]

    def test_several_registers(self, tmp_path: Path) -> None:
        """Outcomes of several registers have spaces between them, the last register first, as in Qiskit."""
        result = self.run(
            tmp_path,
            """
            OPENQASM 2.0; include "qelib1.inc"; qreg q[2]; creg a[1]; creg b[2];
            x q[0]; x q[1]; measure q[0] -> a[0]; measure q[1] -> b[1];
            """,
        )
        assert result["counts"] == {"10 1": 1024}
        assert result["circuit_fidelity"] == pytest.approx(1)

    def test_bits_outside_a_register(self, tmp_path: Path) -> None:
        """Single bits of OpenQASM 3 are read rightly."""
        result = self.run(
            tmp_path,
            """
            OPENQASM 3; include "stdgates.inc"; qubit[2] q; bit a; bit[2] b; bit c;
            x q[0]; a = measure q[0]; b[1] = measure q[1]; c = measure q[0];
            """,
        )
        assert [outcome.replace(" ", "") for outcome in result["counts"]] == ["1001"]

    def test_bit_that_is_written_twice(self, tmp_path: Path) -> None:
        """A classical bit holds what was measured into it last, also in the exact answer."""
        result = self.run(
            tmp_path,
            """
            OPENQASM 2.0; include "qelib1.inc"; qreg q[2]; creg c[1];
            x q[0]; measure q[0] -> c[0]; measure q[1] -> c[0];
            """,
        )
        assert result["counts"] == {"0": 1024}
        assert result["circuit_fidelity"] == 1

    def test_whole_machine_declared(self, tmp_path: Path) -> None:
        """Of a machine's 127 declared qubits only those in use are simulated, also with noise."""
        result = self.run(
            tmp_path,
            """
            OPENQASM 2.0; include "qelib1.inc"; qreg q[127]; creg c[127];
            x q[77]; cx q[77],q[100]; measure q[77] -> c[77]; measure q[100] -> c[100];
            """,
            noise_level=0.01,
        )
        assert result["num_qubits"] == 2
        assert int(next(iter(result["counts"])), 2) == 2**77 + 2**100
        assert 0.95 < result["circuit_fidelity"] < 1

    def test_noise_within_branches(self, tmp_path: Path) -> None:
        """Gates within loops and branches have noise too."""
        result = self.run(
            tmp_path,
            """
            OPENQASM 3; include "stdgates.inc"; qubit q; bit a; bit b;
            a = measure q;
            if (!a) { for int i in [0:99] { x q; } }
            b = measure q;
            """,
            noise_level=0.5,
        )
        assert result["method"] == "statevector"
        assert result["circuit_fidelity"] == pytest.approx(0.5, abs=0.1)

    def test_slow_file_is_warned_of_once(self, tmp_path: Path, caplog: Any) -> None:
        """Before a run that has to simulate every shot of a large circuit, a warning says how long it takes."""
        gates = "".join(f"h q[{qubit}];" for qubit in range(18))
        write(
            tmp_path,
            f'OPENQASM 2.0; include "qelib1.inc"; qreg q[18]; creg c[18]; {gates} reset q[0]; {gates} measure q -> c;',
        )
        task = parameters(tmp_path, qasm_file="mine.qasm")
        with caplog.at_level(logging.WARNING, logger="dfz_ray"):
            DOMAIN.check(task, Resources())
            DOMAIN.check(task, Resources())
            DOMAIN.check(parameters(tmp_path, qasm_file="mine.qasm", shots=1), Resources())
        assert [record.name for record in caplog.records] == ["dfz_ray"]
        assert "mine.qasm measures or resets in mid-circuit" in caplog.text


class TestKind:
    @pytest.mark.parametrize(
        ("values", "expected"),
        [
            ({"algorithm": "grover", "noise_level": 0.01}, "grover 4 qubits noisy"),
            ({"algorithm": "grover", "num_qubits": 6, "circuit_depth": 3}, "grover 6 qubits 3 iterations"),
            ({"algorithm": "grover", "num_qubits": 6, "circuit_depth": 20}, "grover 6 qubits"),
            ({"algorithm": "vqe", "num_qubits": 5, "circuit_depth": 4}, "vqe 5 qubits 4 layers"),
            ({"algorithm": "qft", "num_qubits": 5, "circuit_depth": 4}, "qft 5 qubits"),
            ({"algorithm": "ghz", "shots": 100_000}, "ghz 4 qubits 100000 shots"),
        ],
    )
    def test_algorithms(self, values: dict[str, Any], expected: str) -> None:
        """A kind says what decides about the time, in a few words."""
        assert DOMAIN.kind(parameters(**values)) == expected

    def test_file(self) -> None:
        """The kind of a file is its name and the start of its hash, and the shots where they decide about the time."""
        assert DOMAIN.kind(parameters(qasm_file=real_file("bv_n14"))) == "bv_n14.qasm c98cf8"
        assert DOMAIN.kind(parameters(qasm_file=real_file("shor_n5"))) == "shor_n5.qasm e4dace 1024 shots"


given_values = st.fixed_dictionaries(
    {},
    optional={
        "algorithm": st.sampled_from(ALGORITHMS),
        "num_qubits": st.integers(2, 10),
        "noise_level": st.floats(0, 0.5),
        "circuit_depth": st.integers(1, 20),
        "shots": st.integers(1, 1_000_000),
    },
)


def draw(seed: int, values: dict[str, Any]) -> dict[str, Any]:
    assert DOMAIN.draw is not None
    return DOMAIN.draw(random.Random(seed), values)  # noqa: S311 - no secret is drawn


class TestDraw:
    @given(seed=st.integers(0, 2**63 - 1), values=given_values)
    def test_always_valid(self, seed: int, values: dict[str, Any]) -> None:
        """Whatever is fixed, the drawn parameters are valid with it, fit the memory, and follow from the seed."""
        drawn = draw(seed, values)
        assert drawn == draw(seed, values)
        assert drawn.items() >= values.items()
        DOMAIN.check(parameters(**drawn), Resources())

    @given(seed=st.integers(0, 2**63 - 1), algorithm=st.sampled_from(ALGORITHMS), data=st.data())
    def test_any_size(self, seed: int, algorithm: str, data: st.DataObject) -> None:
        """A size that is fixed, however large, is not drawn together with noise that it has no memory for."""
        fewest, most = QUBITS[algorithm]
        size = data.draw(st.integers(fewest, min(most, 28)))
        for values in ({"num_qubits": size}, {"algorithm": algorithm, "num_qubits": size}):
            DOMAIN.check(parameters(**draw(seed, values)), Resources())

    def test_all_algorithms_occur(self) -> None:
        """Generated tasks are of all algorithms, with and without noise."""
        drawn = [draw(seed, {}) for seed in range(200)]
        assert {task["algorithm"] for task in drawn} == set(ALGORITHMS)
        assert {task["noise_level"] > 0 for task in drawn} == {True, False}

    def test_file(self) -> None:
        """Beside a file nothing is drawn."""
        assert draw(0, {"qasm_file": "mine.qasm"}) == {"qasm_file": "mine.qasm"}

    def test_quick(self) -> None:
        """Generated tasks run, and take a tenth of a second or so on average."""
        tasks = [parameters(**draw(seed, {})) for seed in range(25)]
        start = time.perf_counter()
        scores = [DOMAIN.compute(task, seed, 1)["main_score"] for seed, task in enumerate(tasks)]
        assert (time.perf_counter() - start) / len(tasks) < 0.5
        assert all(0 <= score <= 1 for score in scores)


class TestCounts:
    @settings(max_examples=50)
    @given(
        counts=st.dictionaries(st.integers(0, 15), st.integers(1, 1000), min_size=1),
        weights=st.dictionaries(st.integers(0, 15), st.floats(0.01, 1), min_size=1),
    )
    def test_hellinger_fidelity_is_that_of_qiskit(self, counts: dict[int, int], weights: dict[int, float]) -> None:
        """The fidelity of counts equals qiskit.quantum_info's."""
        from qiskit.quantum_info import hellinger_fidelity as qiskit_fidelity

        total = sum(weights.values())
        exact = {outcome: weight / total for outcome, weight in weights.items()}
        assert hellinger_fidelity(counts, exact) == pytest.approx(qiskit_fidelity(counts, exact), abs=1e-9)

    def test_perfect_machine(self) -> None:
        """Few shots of a wide distribution can't reach fidelity 1, many can."""
        import numpy as np

        exact = dict.fromkeys(range(1024), 1 / 1024)
        few, many = (perfect_sampling_fidelity(exact, shots, np.random.default_rng(0)) for shots in (1024, 1_000_000))
        assert few < 0.85
        assert many > 0.999


class TestLibraries:
    def test_import_is_light(self) -> None:
        """Importing the domain imports neither Qiskit nor SciPy."""
        program = """
            import sys
            import dfz_ray.domains.quantum.domain
            print([name for name in ("qiskit", "qiskit_aer", "scipy") if name in sys.modules])
        """
        assert self._run(program) == "[]"

    @pytest.mark.parametrize("values", [{"algorithm": "vqe", "num_qubits": 2}, {"qasm_file": "mine.qasm"}])
    def test_first_task_of_a_process(self, tmp_path: Path, values: dict[str, Any]) -> None:
        """A task needs no other to have run before it, and has the same result in every process."""
        folder = write(tmp_path, 'OPENQASM 2.0; include "qelib1.inc"; qreg q[2]; h q[0]; cx q[0],q[1];')
        program = f"""
            import json
            from pathlib import Path
            from dfz_ray.domains.quantum.domain import DOMAIN
            from dfz_ray.specs.input_file import FileShelf

            task = DOMAIN.parameters.model_validate({values!r}, context=FileShelf(Path({str(folder)!r})))
            print(json.dumps(DOMAIN.compute(task, 7, 1)))
        """
        assert json.loads(self._run(program)) == compute(7, folder=folder, **values)

    def test_without_qiskit(self, tmp_path: Path) -> None:
        """Where Qiskit is missing, a file is accepted unread, and the domain says what to install."""
        write(tmp_path, "this is no circuit")
        program = f"""
            import sys
            from importlib.machinery import PathFinder

            class WithoutQiskit(PathFinder):
                @classmethod
                def find_spec(cls, name, path=None, target=None):
                    return None if name.split(".")[0] == "qiskit" else super().find_spec(name, path, target)

            sys.meta_path = [finder for finder in sys.meta_path if finder is not PathFinder] + [WithoutQiskit]
            from dfz_ray.domains.quantum.domain import DOMAIN
            from dfz_ray.errors import MissingExtra
            from dfz_ray.specs.resources import Resources

            task = DOMAIN.parameters.model_validate({{"qasm_file": {str(tmp_path / "mine.qasm")!r}}})
            DOMAIN.check(task, Resources())
            try:
                DOMAIN.require_libraries()
            except MissingExtra as error:
                print(error)
        """
        assert self._run(program) == "domain 'quantum' needs the module 'qiskit': pip install 'dfz_ray[quantum]'"

    @staticmethod
    def _run(program: str) -> str:
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(program)],
            capture_output=True,
            text=True,
            check=True,
            cwd=Path(__file__).parents[4],
        )
        return done.stdout.strip()

    def test_every_parameter_is_described(self) -> None:
        """`dfz domains quantum` has a description of every parameter."""
        assert all(field.description for field in QuantumParameters.model_fields.values())
