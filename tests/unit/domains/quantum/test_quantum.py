"""Circuits with known answers give them, with noise and without, the same ones every time."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.amount import amount
from support.quantum_tasks import ALGORITHMS, SHOTS, compute, measure, real_file, tolerance, write

from dfz_ray.domains.quantum.assembly import MOST_OPERATIONS, Assembly
from dfz_ray.domains.quantum.circuits import bernstein_vazirani, ghz, grover, qft
from dfz_ray.domains.quantum.counts import Distribution, hellinger_fidelity
from dfz_ray.domains.quantum.domain import DOMAIN
from dfz_ray.domains.quantum.ising import Ansatz
from dfz_ray.domains.quantum.parameters import QuantumParameters
from dfz_ray.domains.quantum.references import EvenReference
from dfz_ray.domains.quantum.simulator import Simulator, make_backend
from dfz_ray.domains.quantum.translation import translate
from dfz_ray.domains.quantum.vqe import NoisyMachine
from dfz_ray.specs.encoding import decode, encode


def grover_success(num_qubits: int, iterations: int) -> float:
    return math.sin((2 * iterations + 1) * math.asin(2 ** (-num_qubits / 2))) ** 2


class TestGrover:
    @pytest.mark.parametrize("num_qubits", [2, 3, 4, 5, 7])
    def test_success_follows_the_formula(self, num_qubits: int) -> None:
        """Grover's search finds the marked state as often as sin²((2k+1)θ) says."""
        result = measure("grover", num_qubits)
        expected = grover_success(num_qubits, result["iterations"])
        assert result["success_probability"] == pytest.approx(expected, abs=tolerance(expected))
        assert result["main_score"] == min(1, result["success_probability"] / expected)
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
        perfect = result["details"]["fidelity_of_perfect_machine"]
        assert result["main_score"] == min(1, result["circuit_fidelity"] / perfect) > 0.99

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

    def test_four_layers_converge(self) -> None:
        """Five qubits with four layers come within 0.0003 of the exact energy, and the optimisation has converged."""
        result = measure("vqe", 5, circuit_depth=4)
        assert result["energy_error"] < 3e-4
        assert result["converged"]
        assert result["evaluations"] < result["max_evaluations"]

    @pytest.mark.parametrize("noise_level", [0.0, 0.01])
    @pytest.mark.parametrize("max_evaluations", [1, 7, 23])
    def test_budget(self, max_evaluations: int, noise_level: float) -> None:
        """No more evaluations are done than the task allows, and the result says that this was too few."""
        result = compute(
            algorithm="vqe", num_qubits=3, circuit_depth=2, noise_level=noise_level, max_evaluations=max_evaluations
        )
        assert 0 < result["evaluations"] <= result["max_evaluations"] == max_evaluations
        assert result["warm_start_evaluations"] <= max_evaluations
        assert not result["converged"]

    def test_gradient(self) -> None:
        """The derivatives of the energy are its differences, and the energy is that of Qiskit's own state vector."""
        from qiskit.quantum_info import SparsePauliOp, Statevector

        ansatz, angles = Ansatz(4, 3), np.random.default_rng(0).uniform(-1, 1, 6)
        energy, gradient = ansatz.energy_and_gradient(angles)
        bonds = [("ZZ", [qubit, qubit + 1], -1.0) for qubit in range(3)]
        hamiltonian = SparsePauliOp.from_sparse_list([*bonds, *(("X", [q], -1.0) for q in range(4))], 4)
        assert energy == pytest.approx(
            Statevector(ansatz.circuit().assign_parameters(angles)).expectation_value(hamiltonian).real
        )
        steps = 1e-6 * np.eye(6)
        ahead, behind = ([ansatz.energy_and_gradient(angles + sign * one)[0] for one in steps] for sign in (1, -1))
        assert gradient == pytest.approx((np.array(ahead) - behind) / 2e-6, abs=1e-7)

    def test_gradient_with_noise(self) -> None:
        """With noise, the derivative by an angle that one gate has is that of the parameter-shift rule."""
        circuit = translate(Ansatz(2, 2).circuit())  # two qubits have one rzz in a layer
        machine, angles = NoisyMachine(circuit, Simulator("density_matrix", 0.1, 1)), np.array([0.3, -0.8, 1.1, 0.4])
        gradient = machine.energy_and_gradient(angles)[1]
        for bond in (0, 2):
            ahead, behind = (machine.energy(angles + sign * np.pi / 2 * np.eye(4)[bond]) for sign in (1, -1))
            assert gradient[bond] == pytest.approx((ahead - behind) / 2, abs=1e-5)

    def test_convergence(self) -> None:
        """The convergence curve falls from the start to the energy that is reported."""
        result = measure("vqe", 5, circuit_depth=3)
        curve = result["convergence"]
        assert len(curve) > 5
        assert curve == sorted(curve, reverse=True)
        assert curve[-1] == result["energy"] < curve[0]

    @pytest.mark.long
    def test_noise_costs_energy(self) -> None:
        """Five qubits with four layers and noise converge, at a higher energy than without noise."""
        result = measure("vqe", 5, 0.01, circuit_depth=4)
        assert result["converged"]
        assert result["evaluations"] < result["max_evaluations"] == 1000
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
        """Every result tells Aer's method and why, the shots, and the circuit in the gates rz, sx, x and cx."""
        for algorithm in ALGORITHMS:
            result = measure(algorithm, 4, 0.01)
            assert (result["algorithm"], result["num_qubits"], result["shots"]) == (algorithm, 4, SHOTS)
            assert result["method"] == "density_matrix"
            assert "density_matrix" in result["method_reason"] or "density matrix" in result["method_reason"]
            assert result["gate_counts"].keys() <= {"rz", "sx", "x", "cx", "measure"}
            assert 0 < result["depth"] <= sum(result["gate_counts"].values())
            assert sum(result["counts"].values()) == SHOTS
            assert result["distinct_outcomes"] == len(result["counts"])
            assert 0 <= result["main_score"] <= 1
            assert 0 <= result["circuit_fidelity"] <= 1
            assert result.keys() <= DOMAIN.results.keys()


class TestDeterminism:
    CASES = (
        {"algorithm": "grover", "num_qubits": 5, "noise_level": 0.02},
        {"algorithm": "qft", "num_qubits": 8, "noise_level": 0.01},
        {"algorithm": "qft", "num_qubits": 15},
        {"algorithm": "ghz", "num_qubits": 16},
        {"algorithm": "ghz", "num_qubits": 40, "noise_level": 0.01},
        {"algorithm": "bernstein_vazirani", "num_qubits": 8, "noise_level": 0.1},
        {"algorithm": "vqe", "num_qubits": 4, "noise_level": 0.01},
        {"algorithm": "vqe", "num_qubits": 7, "noise_level": 0.01, "circuit_depth": 1},
        {"algorithm": "vqe", "num_qubits": 14, "circuit_depth": 1, "shots": 100},
    )

    SLOW = ({"algorithm": "qft", "num_qubits": 12, "noise_level": 0.01, "shots": 50},)

    @pytest.mark.parametrize(
        "values",
        [*CASES, *[pytest.param(values, marks=pytest.mark.long) for values in SLOW]],
        ids=lambda values: "-".join(map(str, values.values())),
    )
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
            "grover": lambda: grover(4, None, np.random.default_rng(3), noisy=True),
            "qft": lambda: qft(3, np.random.default_rng(3), noisy=True),
            "ghz": lambda: ghz(5, noisy=True),
            "bernstein_vazirani": lambda: bernstein_vazirani(5, np.random.default_rng(3), noisy=True),
        }[algorithm]()
        assembly = known.form.assembly("density_matrix")
        noisy, noisier = Simulator("density_matrix", 0.02, 1), Simulator("density_matrix", 0.1, 2)
        perfect = Simulator("statevector", 0.0, 1)
        for seed, machine in enumerate([noisy, noisy, noisy, noisier, noisy, perfect, perfect, noisy]):
            counts = assembly.find_counts(make_backend(machine), SHOTS, seed)
            assert counts is not None  # this release of Aer was tried
            assert machine.sample_again(assembly, SHOTS, seed) == machine.sample(assembly.circuit, SHOTS, seed)

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


class TestCounts:
    @settings(max_examples=amount(50))
    @given(
        counts=st.dictionaries(st.integers(0, 15), st.integers(1, 1000), min_size=1),
        weights=st.dictionaries(st.integers(0, 15), st.floats(0.01, 1), min_size=1),
    )
    def test_hellinger_fidelity_is_that_of_qiskit(self, counts: dict[int, int], weights: dict[int, float]) -> None:
        """The fidelity of counts equals qiskit.quantum_info's."""
        from qiskit.quantum_info import hellinger_fidelity as qiskit_fidelity

        total = sum(weights.values())
        exact = {outcome: weight / total for outcome, weight in weights.items()}
        assert hellinger_fidelity(counts, Distribution.of(exact)) == pytest.approx(
            qiskit_fidelity(counts, exact), abs=1e-9
        )

    def test_perfect_machine(self) -> None:
        """Few shots of a wide distribution can't reach fidelity 1, many can."""
        exact = Distribution(np.full(1024, 1 / 1024))
        few, many = (exact.draw_fidelity(shots, np.random.default_rng(0)) for shots in (1024, 1_000_000))
        assert few < 0.85
        assert many > 0.999

    @pytest.mark.parametrize("seed", range(20))
    def test_perfect_machine_of_one_shot(self, seed: int) -> None:
        """The fidelity that few shots can reach does not depend on one of them."""
        rare, flips = Distribution.of({0: 0.97, 1: 0.03}), EvenReference(0, [1, 2])
        assert rare.draw_fidelity(1, np.random.default_rng(seed)) == pytest.approx(0.97**2 + 0.03**2, abs=0.05)
        assert flips.draw_fidelity(3, np.random.default_rng(seed)) == pytest.approx(0.57, abs=0.05)


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
