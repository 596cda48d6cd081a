"""A user's circuit: an OpenQASM 2 or 3 file, read, checked and translated once."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import math
import re
import threading
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

from dfz_ray.domains.quantum import references
from dfz_ray.domains.quantum.counts import Reference
from dfz_ray.domains.quantum.method import MAX_CLIFFORD_QUBITS, MAX_QUBITS, Work
from dfz_ray.domains.quantum.simulator import KeptCircuit
from dfz_ray.domains.quantum.translation import CONTROL_FLOW, instructions, restore_id, translate_gate_by_gate, unroll
from dfz_ray.specs.input_file import InputFile

KEPT_EXACT_QUBITS = 16
"""Up to so many qubits several exact references are kept; a larger one takes up to 128 MiB."""

_COMMENT = re.compile(r"//[^\n]*|/\*.*?\*/", re.DOTALL)
_VERSION = re.compile(r"\bOPENQASM\s+(\d+)")
_INCLUDE = re.compile(r"\binclude\s*[\"']([^\"']*)[\"']")
_KNOWN_INCLUDES = ("qelib1.inc", "stdgates.inc")
_MARKS_OF_3 = re.compile(r"stdgates\.inc|\bqubit\s*\[|\bqubit\s+\w")
_POSITION = re.compile(r"^(?:<input>:|L)?(\d+)[,:]C?(\d+): (.*)", re.DOTALL)

_STDERR = threading.Lock()


@dataclass(frozen=True)
class FileCircuit:
    """A circuit from a file."""

    perfect: KeptCircuit
    """In its own gates, as far as Aer knows them: this is simulated without noise."""
    version: int
    """Version of OpenQASM."""
    measured_by_us: bool
    """True if the file measures nothing: then all qubits are measured at the end."""
    one_by_one: bool
    """True if it measures or resets in mid-circuit: then every shot has to be simulated anew."""

    @cached_property
    def noisy(self) -> KeptCircuit:
        """Translated gate by gate, so that each gate of the file has its noise."""
        circuit = self.perfect.circuit
        return KeptCircuit(translate_gate_by_gate(restore_id(circuit) if self.version == 3 else circuit))

    def form(self, noise_level: float) -> KeptCircuit:
        """The circuit as it is simulated."""
        return self.noisy if noise_level else self.perfect

    def work(self, noise_level: float) -> Work:
        """The facts that decide about the time of a simulation."""
        return self.form(noise_level).work(self.one_by_one)

    @property
    def num_qubits(self) -> int:
        """The number of qubits that take part."""
        return int(self.perfect.circuit.num_qubits)

    @property
    def has_exact_reference(self) -> bool:
        """True if the outcomes of a perfect machine can be computed exactly."""
        small = self.num_qubits <= references.EXACT_QUBITS
        return not self.one_by_one and (small or self.perfect.clifford_form is not None)

    @property
    def registers(self) -> list[int]:
        """The number of bits of each classical register, for `counts.text`."""
        circuit = self.perfect.circuit
        sizes = [register.size for register in circuit.cregs]
        in_order = [bit for register in circuit.cregs for bit in register] == list(circuit.clbits)
        return sizes if in_order else [circuit.num_clbits]


def find_circuit(file: InputFile) -> FileCircuit | None:
    """The circuit of a file, or None where Qiskit is not installed (a check of the domain says that, once).

    Raises:
        ValueError: as `get_circuit` does.
    """
    return get_circuit(file) if importlib.util.find_spec("qiskit") else None


def get_circuit(file: InputFile) -> FileCircuit:
    """The circuit of a file.

    Raises:
        ValueError: it is malformed, or can't be simulated; the text has the place and the problem.
    """
    outcome = _read(file)
    if isinstance(outcome, str):
        raise ValueError(outcome)
    return outcome


@lru_cache(maxsize=64)
def _read(file: InputFile) -> FileCircuit | str:
    """The circuit, or the problem with it. Both are kept, since a thousand tasks may name the same file."""
    try:
        return _translated(file, *_parsed(file))
    except ValueError as error:
        return str(error)
    except RecursionError:
        return f"gates that are made of gates at no more than some hundred levels; {file.name} has more"


def _parsed(file: InputFile) -> tuple[Any, int]:
    from qiskit import qasm2, qasm3

    text = file.text
    version = _version(text)
    _refuse_foreign_includes(file)
    try:
        if version == 3:
            # The parser of OpenQASM 3 also prints what it raises; one thread at a time redirects stderr.
            with _STDERR, contextlib.redirect_stderr(io.StringIO()):
                return qasm3.loads(text), 3
        circuit = qasm2.loads(
            text,
            include_path=(),
            custom_instructions=qasm2.LEGACY_CUSTOM_INSTRUCTIONS,
            custom_classical=qasm2.LEGACY_CUSTOM_CLASSICAL,
        )
        return circuit, 2
    except ImportError:
        raise ValueError(
            "an OpenQASM 2 file, as qiskit-qasm3-import is missing: pip install 'dfz_ray[quantum]'"
        ) from None
    except Exception as error:  # malformed texts make the parsers raise anything, IndexError included
        place, reason = _explain(error)
        raise ValueError(f"OpenQASM {version} that Qiskit can read; {file.name}{place}: {reason}") from None


def _version(text: str) -> int:
    """The declared version of OpenQASM; many files of version 3 do not declare it, but use its words."""
    code = _without_comments(text)
    declared = _VERSION.search(code)
    if declared:
        return 3 if declared[1] == "3" else 2
    return 3 if _MARKS_OF_3.search(code) else 2


def _without_comments(text: str) -> str:
    return _COMMENT.sub(lambda comment: re.sub(r"[^\n]", " ", comment[0]), text)


def _refuse_foreign_includes(file: InputFile) -> None:
    code = _without_comments(file.text)
    for include in _INCLUDE.finditer(code):
        if include[1] not in _KNOWN_INCLUDES:
            line = code.count("\n", 0, include.start()) + 1
            raise ValueError(
                f"an OpenQASM file that includes {' or '.join(_KNOWN_INCLUDES)} alone; {file.name}, line {line}"
                f" includes {include[1]!r}, which does not travel with it: write its gates into {file.name}"
            )


def _explain(error: Exception) -> tuple[str, str]:
    """The place where a parser failed (`, line 3, column 7`, or nothing) and the reason."""
    message = str(getattr(error, "message", error)) or "a syntax error"
    match = _POSITION.match(message)
    if match:
        return f", line {match[1]}, column {int(match[2]) + 1}", match[3]
    cause: BaseException | None = error
    while cause is not None:  # ANTLR keeps the unexpected token in the cause of the cause
        for part in cause.args:
            token = getattr(part, "offendingToken", None)
            if token is not None:
                return f", line {token.line}, column {token.column + 1}", f"unexpected {token.text!r}"
        cause = cause.__cause__
    # The importer of OpenQASM 3 raises some errors without a place; its frames have the statement.
    line, frame = None, error.__traceback__
    while frame is not None:
        span = getattr(frame.tb_frame.f_locals.get("node"), "span", None)
        line = span.start_line if span is not None else line
        frame = frame.tb_next
    return (f", line {line}" if line else ""), message


def _translated(file: InputFile, circuit: Any, version: int) -> FileCircuit:
    from qiskit.transpiler import PassManager
    from qiskit.transpiler.passes import RemoveResetInZeroState

    if circuit.num_parameters:
        names = ", ".join(parameter.name for parameter in circuit.parameters)
        raise ValueError(f"a circuit without open inputs; {file.name} leaves open: {names}")
    measured_by_us = "measure" not in instructions(circuit)
    if measured_by_us:
        circuit = circuit.measure_all(inplace=False)
    circuit = _without_idle_qubits(circuit)
    try:
        perfect = KeptCircuit(unroll(PassManager([RemoveResetInZeroState()]).run(circuit)))
    except ValueError as error:
        raise ValueError(
            f"gates with definitions, measurements, resets and control flow; {file.name} has {error}"
        ) from None
    endless = _find_endless(perfect.circuit)
    if endless is not None:
        raise ValueError(f"angles that are finite numbers; {file.name} has {endless}")
    is_clifford = circuit.num_qubits > MAX_QUBITS and perfect.clifford_form is not None
    if not 1 <= circuit.num_qubits <= (MAX_CLIFFORD_QUBITS if is_clifford else MAX_QUBITS):
        raise ValueError(
            f"a circuit that uses 1 to {MAX_QUBITS} qubits, or {MAX_CLIFFORD_QUBITS} where all gates are Clifford"
            f" gates; {file.name} uses {circuit.num_qubits}"
        )
    return FileCircuit(perfect, version, measured_by_us, _needs_every_shot(perfect.circuit))


def _find_endless(circuit: Any) -> str | None:
    """A gate whose angle is infinite or no number, as text; None if there is none."""
    for instruction in circuit.data:
        operation = instruction.operation
        for block in getattr(operation, "blocks", ()):
            if (found := _find_endless(block)) is not None:
                return found
        for angle in operation.params:
            if isinstance(angle, float) and not math.isfinite(angle):
                return f"{operation.name}({angle})"
    return None


def _without_idle_qubits(circuit: Any) -> Any:
    """The same circuit on the qubits that it uses, since files often declare a whole machine."""
    from qiskit.circuit import Qubit
    from qiskit.converters import circuit_to_dag, dag_to_circuit

    graph = circuit_to_dag(circuit)
    idle = [wire for wire in graph.idle_wires() if isinstance(wire, Qubit)]
    if not idle:
        return circuit
    graph.remove_qubits(*idle)
    return dag_to_circuit(graph)


def _needs_every_shot(circuit: Any) -> bool:
    """True if something acts on a qubit after its measurement, resets a qubit, or depends on a measurement."""
    measured: set[Any] = set()
    for instruction in circuit.data:
        name = instruction.operation.name
        if name in {"reset", "store"} or name in CONTROL_FLOW:
            return True
        if name in {"barrier", "delay"}:
            continue
        if not measured.isdisjoint(instruction.qubits):
            return True
        if name == "measure":
            measured.update(instruction.qubits)
    return False


def exact_reference(file: InputFile) -> Reference:
    """The outcomes of a perfect machine, for a file that `has_exact_reference`.

    They are computed once for all tasks that name the file.
    """
    is_small = get_circuit(file).num_qubits <= KEPT_EXACT_QUBITS
    return _exact_of_small(file) if is_small else _exact_of_large(file)


def _exact(file: InputFile) -> Reference:
    perfect = get_circuit(file).perfect
    if perfect.clifford_form is not None:
        return references.from_stabilizers(perfect.clifford_form)
    return references.from_state_vector(perfect.circuit)


_exact_of_small = lru_cache(maxsize=16)(_exact)
_exact_of_large = lru_cache(maxsize=1)(_exact)
