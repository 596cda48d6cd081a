"""A user's file with noise is simulated gate by gate, without noise in its own gates."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.quantum_tasks import compute, tolerance, write

SHOTS = 20_000
HEAD = 'OPENQASM 2.0; include "qelib1.inc"; qreg q[2]; creg c[2];'


def run(folder: Path, content: str, **values: Any) -> dict[str, Any]:
    return compute(folder=write(folder, content), qasm_file="mine.qasm", **values)


def share(result: dict[str, Any], outcome: str) -> float:
    return float(result["counts"].get(outcome, 0) / result["shots"])


class TestNoise:
    @pytest.mark.parametrize(
        ("gates", "noise_level", "outcome", "expected"),
        [
            # A depolarising gate of strength p keeps the state with 1 - p, and else leaves any outcome equally likely.
            ("x q[0]; " * 101, 0.1, "01", (1 + 0.99**101) / 2),
            ("cx q[0],q[1]; " * 9, 0.05, "00", (1 + 3 * 0.95**9) / 4),
            ("id q[0]; " * 100, 0.1, "00", (1 + 0.99**100) / 2),
            ("u0(1) q[0]; " * 100, 0.1, "00", (1 + 0.99**100) / 2),
            ("h q[0]; " * 100, 0.1, "00", (1 + 0.99**100) / 2),
            ("swap q[0],q[1]; " * 4, 0.05, "00", (1 + 3 * 0.95**12) / 4),
            ("rz(0.3) q[0]; t q[0]; u1(1) q[0]; " * 30, 0.5, "00", 1.0),
        ],
    )
    def test_every_gate_has_its_noise(
        self, tmp_path: Path, gates: str, noise_level: float, outcome: str, expected: float
    ) -> None:
        """Gates that undo each other are all there: `id` has the noise of `x`, others that of their parts."""
        result = run(tmp_path, f"{HEAD} {gates} measure q -> c;", noise_level=noise_level, shots=SHOTS)
        assert share(result, outcome) == pytest.approx(expected, abs=tolerance(expected, SHOTS))

    def test_id_of_openqasm_3(self, tmp_path: Path) -> None:
        """`id` has its noise in OpenQASM 3 too, also within a gate of the file and a branch."""
        program = """
            OPENQASM 3; include "stdgates.inc"; gate rest a { id a; } qubit[2] q; bit[2] c;
            for int i in [0:49] { id q[0]; }
        """
        content = f"{program} {'rest q[0]; id q[0];' * 50} c = measure q;"
        result = run(tmp_path, content, noise_level=0.1, shots=4000)
        expected = (1 + 0.99**150) / 2
        assert share(result, "00") == pytest.approx(expected, abs=tolerance(expected, 4000))

    def test_folding(self, tmp_path: Path) -> None:
        """Zero-noise extrapolation by folding finds the noise-free value: G G† G has three times the noise of G."""
        folds = [
            run(tmp_path, f"{HEAD} {'cx q[0],q[1];' * n} measure q -> c;", noise_level=0.02, shots=100_000)
            for n in (1, 3, 5)
        ]
        values = [share(result, "00") for result in folds]
        assert values == sorted(values, reverse=True)
        assert np.polyval(np.polyfit([1, 3, 5], values, 2), 0) == pytest.approx(1, abs=0.01)

    def test_randomised_benchmarking(self, tmp_path: Path) -> None:
        """The error of a gate that randomised benchmarking finds is the one that was asked for."""
        pairs = ("sx q[0]; sxdg q[0];", "x q[0]; x q[0];", "h q[0]; h q[0];")
        rng, lengths, noise_level = np.random.default_rng(0), [10, 40, 160], 0.05
        survivals = []
        for length in lengths:
            gates = "".join(pairs[choice] for choice in rng.integers(3, size=length))
            result = run(tmp_path, f"{HEAD} {gates} measure q -> c;", noise_level=noise_level, shots=100_000)
            survivals.append(2 * share(result, "00") - 1)
        slope = np.polyfit(lengths, np.log(survivals), 1)[0]
        assert -slope / 2 == pytest.approx(noise_level / 10, rel=0.05)


class TestWithoutNoise:
    def test_own_gates_are_simulated(self, tmp_path: Path) -> None:
        """Gates that Aer knows stay as they are; a gate of the file becomes its parts, whatever its name."""
        content = """
            OPENQASM 3; include "stdgates.inc"; gate ecr a, b { x a; cx a, b; } qubit[5] q; bit[5] c;
            x q[0]; x q[1]; x q[2]; id q[0]; ctrl(3) @ x q[0], q[1], q[2], q[3]; ccx q[0], q[1], q[4];
            ecr q[0], q[4]; c = measure q;
        """
        result = run(tmp_path, content)
        assert result["gate_counts"].items() >= {"ccx": 1, "mcx": 1, "x": 4, "cx": 1}.items()
        assert result["counts"] == {"11110": 1024}

    def test_open_controls(self, tmp_path: Path) -> None:
        """A control on 0 is one, with noise and without."""
        content = """
            OPENQASM 3; include "stdgates.inc"; qubit[3] q; bit[3] c;
            x q[0]; ctrl @ negctrl @ x q[0], q[1], q[2]; c = measure q;
        """
        assert run(tmp_path, content)["counts"] == {"101": 1024}
        assert share(run(tmp_path, content, noise_level=1e-6), "101") > 0.99

    def test_all_outcomes_are_told(self, tmp_path: Path) -> None:
        """The counts of ten qubits in all their states add up to the shots."""
        result = run(tmp_path, 'OPENQASM 2.0; include "qelib1.inc"; qreg q[10]; h q;', shots=SHOTS)
        assert sum(result["counts"].values()) == SHOTS
        assert len(result["counts"]) == result["distinct_outcomes"] == 1024
        assert list(result["counts"].values()) == sorted(result["counts"].values(), reverse=True)
