"""Parameters of quantum tasks: those that are refused, that fit the memory, their kinds, and those that are drawn."""

from __future__ import annotations

import random
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from support.quantum_tasks import ALGORITHMS, parameters, real_file, refusal, write

from dfz_ray.domains.quantum.assembly import Assembly
from dfz_ray.domains.quantum.domain import DOMAIN
from dfz_ray.domains.quantum.parameters import QUBITS, QuantumParameters
from dfz_ray.domains.quantum.simulator import Simulator
from dfz_ray.specs.problems import find_problems
from dfz_ray.specs.resources import Resources


class TestRefused:
    @pytest.mark.parametrize(
        ("values", "expected"),
        [
            ({"algorithm": "grover", "num_qubits": 0}, "greater than or equal to 1"),
            ({"algorithm": "ghz", "num_qubits": 600}, "less than or equal to 512"),
            ({"algorithm": "qft", "num_qubits": 33}, "1 to 32 for qft"),
            ({"algorithm": "grover", "num_qubits": 1}, "2 to 16 for grover"),
            ({"algorithm": "vqe", "num_qubits": 20}, "2 to 16 for vqe"),
            ({"algorithm": "ghz", "num_qubits": 1}, "2 to 512 for ghz"),
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
        [("num_qubits", 0, "1 to 512"), ("num_qubits", 600, "1 to 512"), ("noise_level", 2, "0 to 0.5")],
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
            (
                'OPENQASM 2.0;\ninclude "mine.inc";',
                "mine.qasm, line 2 includes 'mine.inc', which does not travel with it",
            ),
            (
                'OPENQASM 3;\n/*\n*/ include "a/mine.inc";\nqubit q;',
                "line 3 includes 'a/mine.inc', which does not travel",
            ),
            ("OPENQASM 2.0;\nopaque foo a;\nqreg q[1];\nfoo q[0];", "mine.qasm has foo"),
            ('OPENQASM 3;\ninclude "stdgates.inc";\ninput float theta;\nqubit q;\nrx(theta) q;', "leaves open: theta"),
            ('OPENQASM 3;\ninclude "stdgates.inc";\nqubit q;\nbox { h q; }', "mine.qasm has box"),
            ('OPENQASM 2.0;\ninclude "qelib1.inc";\nqreg q[40];\nt q;', "uses 1 to 32 qubits, or 512 where all gates"),
            ('OPENQASM 2.0;\ninclude "qelib1.inc";\nqreg q[600];\nh q;', "Clifford gates; mine.qasm uses 600"),
            ("", "mine.qasm uses 0"),
            (
                'OPENQASM 2.0;\ninclude "qelib1.inc";\nqreg q[1];\nrx(1e400) q;',
                "angles that are finite numbers; mine.qasm has rx(inf)",
            ),
            (
                'OPENQASM 2.0;\ninclude "qelib1.inc";\nqreg q[1];\ngate g0 a { x a; }\n'
                + "".join(f"gate g{n + 1} a {{ g{n} a; }}\n" for n in range(1500))
                + "g1500 q;",
                "gates that are made of gates at no more than some hundred levels; mine.qasm has more",
            ),
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
        assert "expected a text in UTF-8; byte 0 of mine.qasm is 0xff" in refusal(tmp_path, qasm_file="mine.qasm")

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
            ({"num_qubits": 29, "noise_level": 0.1}, None, "at most 28 qubits in the 4 GiB of memory"),
            ({"num_qubits": 29}, None, "29 qubits need 8 GiB"),
            ({"num_qubits": 20}, "1MiB", "at most 16 qubits in the 1 MiB of memory declared; 20 qubits need 16 MiB"),
            ({"num_qubits": 9, "noise_level": 0.1}, "1MiB", "at most 8 qubits with noise in the 1 MiB"),
            ({"num_qubits": 2}, "1B", "at most 0 qubits in the 1 bytes"),
        ],
    )
    def test_too_large(self, values: dict[str, Any], memory: str | None, expected: str) -> None:
        """A circuit that the memory can't hold is refused before it runs, with the number of qubits that fit."""
        with pytest.raises(ValueError, match=expected):
            DOMAIN.check(parameters(algorithm="qft", **values), Resources.model_validate({"memory": memory}))

    @pytest.mark.parametrize(
        ("values", "memory"),
        [
            ({"algorithm": "qft", "num_qubits": 28}, None),
            ({"algorithm": "qft", "num_qubits": 28, "noise_level": 0.1}, None),
            ({"algorithm": "qft", "num_qubits": 32}, "64GiB"),
            ({"algorithm": "ghz", "num_qubits": 100, "noise_level": 0.1}, "1MiB"),
        ],
    )
    def test_just_fits(self, values: dict[str, Any], memory: str | None) -> None:
        """A circuit that fits is accepted, and larger ones are where more memory is declared."""
        DOMAIN.check(parameters(**values), Resources.model_validate({"memory": memory}))

    def test_shots_at_the_same_time(self) -> None:
        """Where each shot is simulated anew, every thread needs memory for a state."""
        task = parameters(algorithm="qft", num_qubits=20, noise_level=0.1)
        DOMAIN.check(task, Resources.model_validate({"memory": "16MiB", "cpus": 1}))
        with pytest.raises(ValueError, match="20 qubits need 32 MiB"):
            DOMAIN.check(task, Resources.model_validate({"memory": "16MiB", "cpus": 2}))

    def test_of_a_file(self, tmp_path: Path) -> None:
        """For a file the qubits that it uses count, and the memory of its exact reference too."""
        head = 'OPENQASM 2.0; include "qelib1.inc"; qreg q[100]; creg c[16];'
        gates = "".join(f"t q[{qubit}]; h q[{qubit}];" for qubit in range(16))
        final = "".join(f"measure q[{qubit}] -> c[{qubit}];" for qubit in range(16))
        write(tmp_path, f"{head} {gates} {final}", "final.qasm")
        write(tmp_path, f"{head} {gates} reset q[0]; {final}", "reset.qasm")
        one, two = (Resources.model_validate({"memory": memory}) for memory in ("1MiB", "2MiB"))
        with pytest.raises(ValueError, match=r"at most 15 qubits in the 1 MiB .* 16 qubits need 2 MiB"):
            DOMAIN.check(parameters(tmp_path, qasm_file="final.qasm", noise_level=0.1), one)
        DOMAIN.check(parameters(tmp_path, qasm_file="final.qasm", noise_level=0.1), two)
        DOMAIN.check(parameters(tmp_path, qasm_file="reset.qasm", noise_level=0.1), one)

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
            ({"algorithm": "ghz", "num_qubits": 40, "noise_level": 0.01}, "ghz 40 qubits noisy 1024 shots"),
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
