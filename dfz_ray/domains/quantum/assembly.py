"""Circuits in the form that Aer simulates, kept from one run to the next.

`AerSimulator.run` makes that form anew each time, gate by gate and in Python, which takes longer than simulating few
qubits. Aer has no public way to keep it. So this calls the private functions that `run` calls, and gets the same
counts, but only with releases of Aer that were tried.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib.metadata import version
from typing import Any

TRIED_RELEASES = ("0.18.",)
"""Releases of qiskit-aer; with others each run goes through `AerSimulator.run`."""
MOST_OPERATIONS = 4_000
"""A larger circuit is not kept in this form: each operation takes 0.7 kB."""


class Assembly:
    """A circuit (translated, measured, without open parameters) and the form that its last simulator kept of it.

    Tasks may share it.
    """

    def __init__(self, circuit: Any) -> None:
        self.circuit = circuit
        self._kept: tuple[Any, Any, Any, Any] | None = None
        """The simulator, the compiled circuits, the noise model, and the circuits in the form that Aer simulates."""

    def find_counts(self, backend: Any, shots: int, seed: int) -> Mapping[str, int] | None:
        """Simulate the circuit with an AerSimulator that is not changed afterwards.

        Returns:
            How often there was each outcome, in hexadecimal. None if the circuit is not kept, or Aer did not succeed:
            in both cases call its public `run`, which raises the error.
        """
        if not _is_tried() or len(self.circuit.data) > MOST_OPERATIONS:
            return None
        from qiskit_aer.backends.aer_compiler import assemble_circuits, generate_aer_config

        kept = self._kept  # read once: another thread may replace it
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
