"""Circuits in the form that Aer simulates, kept from one run to the next.

`AerSimulator.run` brings a circuit into that form anew each time, gate by gate and in Python, which takes longer than
to simulate few qubits. Aer has no public way to keep it. What is done here is what `run` does, with the same functions,
and gives the same counts; as they are Aer's own affair, it is done only with releases that were tried.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib.metadata import version
from typing import Any

TRIED_RELEASES = ("0.18.",)
"""Of qiskit-aer; with others each run goes through `AerSimulator.run`."""
MOST_OPERATIONS = 4_000
"""A circuit of more is not kept in this form: each operation takes 0.7 kB."""


class Assembly:
    """A circuit and, for the simulator that ran it last, the form that Aer simulates. Tasks may share it.

    Args:
        circuit: translated, with measurements and without open parameters.
    """

    def __init__(self, circuit: Any) -> None:
        self.circuit = circuit
        self._kept: tuple[Any, Any, Any, Any] | None = None
        """The simulator, the circuits as it compiled them, its noise model, and the circuits as it simulates them."""

    def find_counts(self, backend: Any, shots: int, seed: int) -> Mapping[str, int] | None:
        """Simulate the circuit.

        Args:
            backend: the AerSimulator; it must not be changed afterwards.
            shots: how often to measure.
            seed: of the shots.

        Returns:
            Outcomes in hexadecimal, and how often there was each. None where the circuit is not kept, or Aer did not
            succeed: its public `run` does the first, and tells of the second.
        """
        if not _is_tried() or len(self.circuit.data) > MOST_OPERATIONS:
            return None
        from qiskit_aer.backends.aer_compiler import assemble_circuits, generate_aer_config

        kept = self._kept  # once: another thread may replace it
        if kept is None or kept[0] is not backend:
            compiled, noise_model = backend._compile([self.circuit])
            self._kept = kept = backend, compiled, noise_model, assemble_circuits(compiled)[0]
        _, compiled, noise_model, assembled = kept
        config = generate_aer_config(compiled, backend.options, shots=shots, seed_simulator=seed)
        output = backend._execute_circuits(assembled, noise_model, config)
        counts: Mapping[str, int] | None = output["results"][0]["data"]["counts"] if output["success"] else None
        return counts


@cache
def _is_tried() -> bool:
    return version("qiskit-aer").startswith(TRIED_RELEASES)
