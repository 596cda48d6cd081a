"""The method fits the circuit, and the seeds fit Aer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.quantum_tasks import compute, parameters, real_file, write

from dfz_ray.domains.quantum.circuits import ghz
from dfz_ray.domains.quantum.domain import DOMAIN
from dfz_ray.domains.quantum.method import METHODS, Work, choose_method, estimate_s
from dfz_ray.domains.quantum.simulator import Simulator, draw_aer_seed
from dfz_ray.specs.resources import Resources
from dfz_ray.specs.task import derive_seed

HEAD = 'OPENQASM 2.0; include "qelib1.inc";'


def run(folder: Path, content: str, **values: Any) -> dict[str, Any]:
    write(folder, content)
    DOMAIN.check(parameters(folder, qasm_file="mine.qasm", **values), Resources())
    return compute(folder=folder, qasm_file="mine.qasm", **values)


def chain(num_qubits: int, gate: str) -> str:
    gates = "".join(f"{gate} q[{qubit}],q[{qubit + 1}];" for qubit in range(num_qubits - 1))
    return f"{HEAD} qreg q[{num_qubits}]; h q[0]; {gates}"


class TestClifford:
    @pytest.mark.parametrize("noise_level", [0.0, 0.001])
    def test_ghz_file_of_40_qubits(self, tmp_path: Path, noise_level: float) -> None:
        """A file of 40 qubits runs where all gates are Clifford gates, and is compared with its exact answer."""
        result = run(tmp_path, chain(40, "cx"), noise_level=noise_level)
        assert result["method"] == "stabilizer"
        assert "more than 32 qubits" in result["method_reason"]
        assert list(result["counts"])[:2] in (["0" * 40, "1" * 40], ["1" * 40, "0" * 40])
        assert result["main_score"] > (0.85 if noise_level else 0.99)
        assert result["details"]["reference"] == "exact stabilizers"

    @pytest.mark.parametrize(
        "gates", ["h q; cp(pi) q[3],q[30]; h q;", "rx(pi) q; u3(pi,0,pi) q; p(pi/2) q;", "cy q[1],q[3];"]
    )
    def test_gates_of_any_name(self, tmp_path: Path, gates: str) -> None:
        """A gate is a Clifford gate by what it does: a turn by a multiple of a quarter is one."""
        result = run(tmp_path, f"{HEAD} qreg q[40]; x q; {gates}")
        assert result["method"] == "stabilizer"
        assert result["main_score"] == 1.0

    def test_measured_in_mid_circuit(self, tmp_path: Path) -> None:
        """A large circuit that depends on its own measurements runs too, and is scored by other runs."""
        content = f"{chain(40, 'cx')} creg a[1]; creg c[40]; measure q[0] -> a[0]; if (a == 1) x q; measure q -> c;"
        result = run(tmp_path, content, shots=300)
        assert {outcome.split()[0] for outcome in result["counts"]} == {"0" * 40}
        assert result["method"] == "stabilizer"
        assert result["main_score"] > 0.95


class TestChoice:
    @pytest.mark.parametrize(
        ("values", "method"),
        [
            ({"algorithm": "grover", "num_qubits": 6, "noise_level": 0.01}, "density_matrix"),
            ({"algorithm": "qft", "num_qubits": 12, "noise_level": 0.01, "shots": 20}, "statevector"),
            ({"algorithm": "qft", "num_qubits": 15, "noise_level": 0.01, "shots": 5}, "statevector"),
            ({"algorithm": "ghz", "num_qubits": 12, "noise_level": 0.02}, "stabilizer"),
            ({"algorithm": "ghz", "num_qubits": 3, "noise_level": 0.02}, "density_matrix"),
            ({"algorithm": "ghz", "num_qubits": 25}, "stabilizer"),
            ({"algorithm": "grover", "num_qubits": 6}, "statevector"),
        ],
    )
    def test_the_fastest_is_taken(self, values: dict[str, Any], method: str) -> None:
        """Each method is taken where it is the fastest, and the result says so."""
        result = compute(**values)
        assert result["method"] == method
        assert f"not {method}" not in result["method_reason"]
        assert all(one in result["method_reason"] or one == method for one in METHODS)

    def test_methods_agree(self) -> None:
        """The three methods give the same answer, with noise, within the statistics of the shots."""
        shots, known = 5_000, ghz(4, noisy=True)
        shares = []
        for seed, method in enumerate(METHODS):
            machine = Simulator(method, 0.1, 1)
            counts = machine.sample_again(known.form.assembly(method), shots, seed)
            shares.append([counts.get(outcome, 0) / shots for outcome in range(16)])
        assert np.abs(np.diff(shares, axis=0)).max() < 0.04

    def test_no_method(self) -> None:
        """What none can simulate is refused with the reasons."""
        with pytest.raises(ValueError, match=r"not statevector: more than 32 qubits; .* not all gates are Clifford"):
            choose_method(Work(40, 10, 10, clifford=False), noisy=True, shots=1)

    def test_estimates_grow(self) -> None:
        """More qubits, gates and shots never take less time."""
        small, large = Work(10, 50, 20, clifford=True), Work(12, 60, 25, clifford=True)
        for method in METHODS:
            for noisy in (False, True):
                assert estimate_s(method, small, noisy, 100) < estimate_s(method, large, noisy, 100)
                assert estimate_s(method, large, noisy, 100) <= estimate_s(method, large, noisy, 200)


class TestSeeds:
    @pytest.mark.long
    def test_no_two_streams_are_equal(self) -> None:
        """The seeds that 150,000 tasks of a batch give to Aer are all different."""
        seeds = {draw_aer_seed(np.random.default_rng(derive_seed(0, f"task-{n}"))) for n in range(150_000)}
        assert len(seeds) == 150_000

    def test_aer_takes_all_bits(self) -> None:
        """Seeds that are equal in their last 32 bits, or in all but one, give different counts."""
        machine, assembly = Simulator("statevector", 0.0, 1), ghz(3, noisy=False).form.assembly("statevector")
        seeds = [5, 5 + 2**31, 5 + 2**32, 5 + 2**45, 5 + 2**62]
        assert len({machine.sample_again(assembly, 100_000, seed)[0] for seed in seeds}) == len(seeds)


class TestScores:
    def test_twenty_flawless_qubits(self, tmp_path: Path) -> None:
        """A flawless simulation of 20 qubits is no failure, however few shots it has."""
        gates = "h q; t q; h q;" + "".join(f"cx q[{qubit}],q[{qubit + 1}];" for qubit in range(19))
        result = run(tmp_path, f"{HEAD} qreg q[20]; {gates}", shots=1024)
        assert result["main_score"] > 0.9
        assert result["details"]["reference"] == "exact state vector"

    def test_no_score(self, tmp_path: Path) -> None:
        """Where nothing can be said about the quality, there is no score but a reason."""
        result = run(
            tmp_path, f"{HEAD} qreg q[12]; creg c[12]; h q; reset q[0]; t q; h q[1]; measure q -> c;", shots=50
        )
        assert (result["main_score"], result["circuit_fidelity"]) == (None, None)
        assert "more shots may help" in result["details"]["no_score"]

    @pytest.mark.parametrize("shots", [1, 29])
    def test_no_score_by_chance(self, tmp_path: Path, shots: int) -> None:
        """Few shots that happen to be alike are no score."""
        content = f"{HEAD} qreg q[1]; creg c[2]; h q; measure q[0] -> c[0]; h q; measure q[0] -> c[1];"
        result = run(tmp_path, content, shots=shots)
        assert (result["main_score"], result["circuit_fidelity"]) == (None, None)
        assert "fewer than 30 shots" in result["details"]["no_score"]

    def test_a_run_does_not_judge_itself(self) -> None:
        """The reference run and the run that shows what is reachable are two runs of their own."""
        result = compute(qasm_file=real_file("shor_n5"), shots=200)
        assert result["details"]["fidelity_of_perfect_machine"] < 1
        assert result["details"]["reference"] == "another run without noise"

    @pytest.mark.parametrize("seed", range(5))
    def test_stabilizers_give_the_probabilities_of_the_state_vector(self, seed: int) -> None:
        """The exact reference of Clifford gates is that of the state vector, also where qubits are not measured."""
        from qiskit import QuantumCircuit

        from dfz_ray.domains.quantum.references import from_stabilizers, from_state_vector

        rng = np.random.default_rng(seed)
        circuit = QuantumCircuit(6, 5)
        for _ in range(25):
            one, two = rng.choice(6, 2, replace=False).tolist()
            getattr(circuit, ["h", "s", "x", "sx"][rng.integers(4)])(one)
            circuit.cx(one, two)
        circuit.measure([0, 2, 3, 5, 2], [4, 1, 0, 2, 3])
        exact, by_stabilizers = from_state_vector(circuit), from_stabilizers(circuit)
        expected = [exact.probability(outcome) for outcome in range(32)]
        assert [by_stabilizers.probability(outcome) for outcome in range(32)] == pytest.approx(expected)
        assert sum(expected) == pytest.approx(1)
        drawn = [one.draw_fidelity(50, np.random.default_rng(0)) for one in (exact, by_stabilizers)]
        assert drawn[0] == pytest.approx(drawn[1], abs=0.3)
