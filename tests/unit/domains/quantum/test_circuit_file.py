"""Circuits from OpenQASM files run as they are written."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
from support.quantum_tasks import compute, parameters, real_file, write

from dfz_ray.domains.quantum.counts import text
from dfz_ray.domains.quantum.domain import DOMAIN
from dfz_ray.domains.quantum.parameters import QuantumParameters
from dfz_ray.specs.encoding import decode, encode
from dfz_ray.specs.input_file import FileShelf
from dfz_ray.specs.resources import Resources


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

        from dfz_ray.domains.quantum.circuit_file import exact_reference

        file = real_file("teleportation_n3")
        circuit = qasm2.load(file).remove_final_measurements(inplace=False)
        expected = Statevector(circuit).probabilities_dict()
        exact = exact_reference(FileShelf().read(file))
        assert {text(outcome, [3]): exact.probability(outcome) for outcome in range(8)} == pytest.approx(expected)

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
        assert result["method"] == "stabilizer"
        assert result["circuit_fidelity"] == pytest.approx(0.5, abs=0.1)

    def test_slow_file_is_warned_of_once(self, tmp_path: Path, caplog: Any) -> None:
        """Before a run that has to simulate every shot of a large circuit, a warning says how long it takes."""
        gates = "".join(f"h q[{qubit}]; t q[{qubit}];" for qubit in range(18))
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


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"algorithm": "grover", "num_qubits": 16, "noise_level": 0.1}, "grover 16 qubits noisy 1024 shots: expect"),
        ({"algorithm": "vqe", "num_qubits": 14, "noise_level": 0.1}, "; max_evaluations bounds it"),
    ],
)
def test_slow_algorithm_is_warned_of(caplog: Any, values: dict[str, Any], expected: str) -> None:
    """Before a task of an algorithm that takes long, a warning says how long, and what shortens it."""
    with caplog.at_level(logging.WARNING, logger="dfz_ray"):
        DOMAIN.check(parameters(**values), Resources.model_validate({"memory": "8GiB"}))
        DOMAIN.check(parameters(**values | {"num_qubits": 4}), Resources())
    assert len(caplog.records) == 1
    assert expected in caplog.text
