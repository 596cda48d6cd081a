"""Circuits in the gates that are simulated.

Without noise a circuit keeps its own gates, since Aer knows most of them. Noise strikes the gates of BASIS: the circuit
of an algorithm is translated to those with few gates, a user's file gate by gate.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from typing import Any

BASIS = ("rz", "sx", "x", "cx")
"""The gates of a noisy machine; in a user's file also `id`."""
CONTROL_FLOW = frozenset({"if_else", "switch_case", "for_loop", "while_loop", "break_loop", "continue_loop"})
NO_GATES = frozenset({"measure", "reset", "barrier", "delay", "store"})

# fmt: off
_NATIVE = frozenset({
    "ccx", "ccz", "cp", "crx", "cry", "crz", "cswap", "csx", "cu", "cu1", "cu3", "cx", "cy", "cz",
    "ecr", "h", "id", "mcp", "mcphase", "mcx", "p", "r", "rx", "rxx", "ry", "ryy", "rz", "rzx",
    "rzz", "s", "sdg", "swap", "sx", "sxdg", "t", "tdg", "u", "u1", "u2", "u3", "x", "y",
    "z",
})
# fmt: on
"""Gates that Aer's state vector knows."""
_KNOWN = _NATIVE | NO_GATES | CONTROL_FLOW
_LIBRARY = "qiskit.circuit.library"
_CLIFFORD = frozenset({"cx", "cy", "cz", "ecr", "h", "id", "s", "sdg", "swap", "sx", "sxdg", "x", "y", "z"})
"""Gates that Aer's stabilizer method knows."""
_NEVER_CLIFFORD = frozenset({"ccx", "ccz", "cswap", "csx", "mcx", "t", "tdg"})
_QUARTER_TURNS = ((), ("s",), ("z",), ("sdg",))
"""A turn about Z by 0 to 3 quarters."""
_TURNS = frozenset({"rz", "p", "u1"})
_EXACT = 1e-9

_of_thread = threading.local()


def translate(circuit: Any) -> Any:
    """The circuit in few gates of BASIS: neighbours are merged, and what cancels is left out."""
    return _pass_manager(1, BASIS).run(circuit)


def translate_gate_by_gate(circuit: Any) -> Any:
    """The circuit in the gates of BASIS and `id`; no gate is merged or left out."""
    return _pass_manager(0, (*BASIS, "id")).run(circuit)


def _pass_manager(level: int, gates: tuple[str, ...]) -> Any:
    """Building a pass manager takes longer than using it, so it is kept.

    Each thread has its own, since a running pass manager holds the state of its circuit.
    """
    name = f"level_{level}"
    if not hasattr(_of_thread, name):
        from qiskit.transpiler import generate_preset_pass_manager

        made = generate_preset_pass_manager(optimization_level=level, basis_gates=list(gates), seed_transpiler=0)
        setattr(_of_thread, name, made)
    return getattr(_of_thread, name)


def unroll(circuit: Any) -> Any:
    """The circuit in gates that Aer knows: other gates, and those that a file defines, become their definitions.

    Raises:
        ValueError: something is neither known nor defined; the text is its name.
    """
    from qiskit.circuit import Gate

    def parts(operation: Any) -> Any:
        # A file may give the name of a known gate to another gate, so the name is not enough.
        is_of_file = isinstance(operation, Gate) and not operation.base_class.__module__.startswith(_LIBRARY)
        if not is_of_file and operation.name in _KNOWN:
            return [(operation, None)]
        if getattr(operation, "definition", None) is None:
            raise ValueError(operation.name)
        inner = unroll(operation.definition)
        places = {qubit: position for position, qubit in enumerate(inner.qubits)}
        return [(one.operation, [places[qubit] for qubit in one.qubits]) for one in inner.data]

    return _rewrite(circuit, parts)


def restore_id(circuit: Any) -> Any:
    """The circuit with `id` for u(0, 0, 0), which Qiskit's importer of OpenQASM 3 makes of `id`."""
    from qiskit.circuit.library import IGate

    def parts(operation: Any) -> Any:
        is_id = operation.name == "u" and not any(operation.params)
        return [(IGate() if is_id else operation, None)]

    return _rewrite(circuit, parts)


def find_clifford_form(circuit: Any) -> Any:
    """The circuit in gates that Aer's stabilizer method knows, or None if a gate is not a Clifford gate."""
    from qiskit.circuit.library import get_standard_gate_name_mapping

    gates = get_standard_gate_name_mapping()

    def parts(operation: Any) -> Any:
        name = operation.name
        if name in _TURNS:
            quarters = float(operation.params[0]) / (math.pi / 2)
            if abs(quarters - round(quarters)) > _EXACT:
                raise ValueError(name)
            return [(gates[turn], None) for turn in _QUARTER_TURNS[round(quarters) % 4]]
        if name in _NATIVE - _CLIFFORD:
            raise ValueError(name)
        return [(operation, None)]

    # Of gates with angles, those of BASIS tell whether the whole is a Clifford gate.
    names = instructions(circuit)
    if names & _NEVER_CLIFFORD:
        return None
    try:
        return _rewrite(translate_gate_by_gate(circuit) if names & _NATIVE - _CLIFFORD - _TURNS else circuit, parts)
    except (ValueError, TypeError):  # TypeError: an angle depends on the variable of a loop
        return None


def instructions(circuit: Any) -> set[str]:
    """The names of all instructions, including those within loops and branches."""
    names: set[str] = set()
    for instruction in circuit.data:
        names.add(instruction.operation.name)
        for block in getattr(instruction.operation, "blocks", ()):
            names |= instructions(block)
    return names


def _rewrite(circuit: Any, parts: Callable[[Any], Any]) -> Any:
    """Put `parts(operation)` for each operation, also within loops and branches.

    Parts are pairs of an operation and the positions of its qubits among those of the old one; None means all of them.
    """
    written = circuit.copy_empty_like()
    for instruction in circuit.data:
        for part, places in parts(instruction.operation):
            has_blocks = part.name in CONTROL_FLOW and part.blocks
            operation = part.replace_blocks([_rewrite(block, parts) for block in part.blocks]) if has_blocks else part
            qubits = instruction.qubits if places is None else [instruction.qubits[place] for place in places]
            written.append(operation, qubits, instruction.clbits, copy=False)
    return written
