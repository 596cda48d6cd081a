"""A user's circuit: an OpenQASM 2 or 3 file, read, checked and translated once."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import re
import threading
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from dfz_ray.domains.quantum.counts import distribution
from dfz_ray.domains.quantum.simulator import BASIS, KeptCircuit, Simulator, translate
from dfz_ray.specs.input_file import InputFile

MAX_QUBITS = 32
EXACT_QUBITS = 16
"""Up to so many qubits the exact distribution is computed; above, a noise-free run takes its place."""

_CONTROL_FLOW = {"if_else", "switch_case", "for_loop", "while_loop", "break_loop", "continue_loop"}
_RUNNABLE = {*BASIS, *_CONTROL_FLOW, "measure", "reset", "barrier", "delay", "store"}
_COMMENT = re.compile(r"//[^\n]*|/\*.*?\*/", re.DOTALL)
_VERSION = re.compile(r"\bOPENQASM\s+(\d+)")
_MARKS_OF_3 = re.compile(r"stdgates\.inc|\bqubit\s*\[|\bqubit\s+\w")
_POSITION = re.compile(r"^(?:<input>:|L)?(\d+)[,:]C?(\d+): (.*)", re.DOTALL)

_STDERR = threading.Lock()


@dataclass(frozen=True)
class FileCircuit(KeptCircuit):
    """A circuit from a file."""

    version: int
    """Version of OpenQASM."""
    measured_by_us: bool
    """True if the file measures nothing: then all qubits are measured at the end."""
    one_by_one: bool
    """True if it measures or resets in mid-circuit: then every shot has to be simulated anew."""

    @property
    def num_qubits(self) -> int:
        """The number of qubits that take part."""
        return int(self.circuit.num_qubits)

    @property
    def registers(self) -> list[int]:
        """The number of bits of each classical register, for `counts.text`."""
        sizes = [register.size for register in self.circuit.cregs]
        in_order = [bit for register in self.circuit.cregs for bit in register] == list(self.circuit.clbits)
        return sizes if in_order else [self.circuit.num_clbits]


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


def _parsed(file: InputFile) -> tuple[Any, int]:
    from qiskit import qasm2, qasm3

    text = file.text
    version = _version(text)
    try:
        if version == 3:
            # The parser of OpenQASM 3 also prints what it raises; one thread at a time redirects stderr.
            with _STDERR, contextlib.redirect_stderr(io.StringIO()):
                return qasm3.loads(text), 3
        circuit = qasm2.loads(
            text,
            include_path=(),  # files that it includes would not travel with it
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
    code = _COMMENT.sub(" ", text)
    declared = _VERSION.search(code)
    if declared:
        return 3 if declared[1] == "3" else 2
    return 3 if _MARKS_OF_3.search(code) else 2


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
    from qiskit.exceptions import QiskitError
    from qiskit.transpiler import PassManager
    from qiskit.transpiler.passes import RemoveResetInZeroState

    if circuit.num_parameters:
        names = ", ".join(parameter.name for parameter in circuit.parameters)
        raise ValueError(f"a circuit without open inputs; {file.name} leaves open: {names}")
    measured_by_us = "measure" not in _instructions(circuit)
    if measured_by_us:
        circuit = circuit.measure_all(inplace=False)
    circuit = _without_idle_qubits(circuit)
    if not 1 <= circuit.num_qubits <= MAX_QUBITS:
        raise ValueError(f"a circuit that uses 1 to {MAX_QUBITS} qubits; {file.name} uses {circuit.num_qubits}")
    try:
        circuit = translate(PassManager([RemoveResetInZeroState()]).run(circuit))
    except QiskitError as error:
        raise ValueError(f"gates that are defined; {file.name}: {error.message}") from None
    strange = _instructions(circuit) - _RUNNABLE
    if strange:
        raise ValueError(f"gates, measurements, resets and control flow; {file.name} has {', '.join(sorted(strange))}")
    return FileCircuit(circuit, version, measured_by_us, _needs_every_shot(circuit))


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


def _instructions(circuit: Any) -> set[str]:
    """The names of all instructions, including those within loops and branches."""
    names: set[str] = set()
    for instruction in circuit.data:
        names.add(instruction.operation.name)
        for block in getattr(instruction.operation, "blocks", ()):
            names |= _instructions(block)
    return names


def _needs_every_shot(circuit: Any) -> bool:
    """True if something acts on a qubit after its measurement, resets a qubit, or depends on a measurement."""
    measured: set[Any] = set()
    for instruction in circuit.data:
        name = instruction.operation.name
        if name in {"reset", "store"} or name in _CONTROL_FLOW:
            return True
        if name in {"barrier", "delay"}:
            continue
        if not measured.isdisjoint(instruction.qubits):
            return True
        if name == "measure":
            measured.update(instruction.qubits)
    return False


@lru_cache(maxsize=16)
def exact_distribution(file: InputFile) -> dict[int, float]:
    """The outcomes of a perfect machine, for a file of at most EXACT_QUBITS qubits that measures only at its end.

    It is computed from the state vector, once for all tasks that name the file.
    """
    import numpy as np
    from qiskit import QuantumCircuit

    circuit = get_circuit(file).circuit
    unmeasured = QuantumCircuit(circuit.qubits)
    wires: dict[int, int] = {}
    for instruction in circuit.data:
        if instruction.operation.name == "measure":
            # A bit that is written twice holds the last value.
            wires[circuit.find_bit(instruction.clbits[0]).index] = circuit.find_bit(instruction.qubits[0]).index
        elif instruction.operation.name not in {"barrier", "delay"}:
            unmeasured.append(instruction.operation, instruction.qubits)
    places = np.arange(2**circuit.num_qubits)
    bits = sorted(wires)
    packed = sum(((places >> wires[bit]) & 1) << position for position, bit in enumerate(bits))
    perfect_machine = Simulator("statevector", 0.0, threads=1)
    found = distribution(np.abs(perfect_machine.state(unmeasured)) ** 2, packed)
    return {_spread(outcome, bits): probability for outcome, probability in found.items()}


def _spread(packed: int, bits: list[int]) -> int:
    """Put bit i of a number at place bits[i]; there may be more classical bits than an integer of an array has."""
    return sum((packed >> position & 1) << bit for position, bit in enumerate(bits))
