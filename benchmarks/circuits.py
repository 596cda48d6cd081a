"""Two circuits against what the user of Aer would write: the domain's own function, and bare loops over Aer."""

from __future__ import annotations

import functools
import random
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from statistics import median
from typing import Any

import click
from measurement import estimated
from rich.console import Console
from rich.table import Table

METHODS = ("statevector", "density_matrix", "stabilizer", "matrix_product_state")
CASES: Mapping[str, tuple[dict[str, Any], float]] = {
    "grover 10": ({"algorithm": "grover", "num_qubits": 10}, 1.5),
    "ghz 12 noisy": ({"algorithm": "ghz", "num_qubits": 12, "noise_level": 0.02}, 1.2),
}
"""Parameters, and the most time that `compute` may take, over that of the best bare loop."""
SHOTS = 1024
HOPELESS = 5
Run = Callable[[int], Any]


def bare_runs(name: str) -> dict[str, Run]:
    """For each method that can: run the circuit with a seed, as a user would; all else is prepared."""
    from qiskit_aer import AerSimulator

    parameters, _ = CASES[name]
    circuit, noise = (native_grover(10, 341), None) if name == "grover 10" else noisy_ghz(12, parameters["noise_level"])
    methods = ("statevector",) if noise is None else METHODS
    machines = {method: AerSimulator(method=method, noise_model=noise, max_parallel_threads=1) for method in methods}
    return {method: functools.partial(_run, machine, circuit) for method, machine in machines.items()}


def _run(machine: Any, circuit: Any, seed: int) -> Any:
    return machine.run(circuit, shots=SHOTS, seed_simulator=seed).result().get_counts()


def native_grover(num_qubits: int, marked: int) -> Any:
    """Grover's search in the gates h, x and mcx, which Aer knows."""
    import math

    from qiskit import QuantumCircuit

    qubits = list(range(num_qubits))
    circuit = QuantumCircuit(num_qubits)
    circuit.h(qubits)
    for _ in range(int(math.pi / (4 * math.asin(2 ** (-num_qubits / 2))))):
        for flipped in ([qubit for qubit in qubits if not marked >> qubit & 1], qubits):
            if flipped is qubits:
                circuit.h(qubits)
            circuit.x(flipped)
            circuit.h(num_qubits - 1)
            circuit.mcx(qubits[:-1], num_qubits - 1)
            circuit.h(num_qubits - 1)
            circuit.x(flipped)
        circuit.h(qubits)
    circuit.measure_all()
    return circuit


def noisy_ghz(num_qubits: int, noise_level: float) -> tuple[Any, Any]:
    """A GHZ state in Clifford gates, so that each method can run it, and the noise of cx, sx and x."""
    from qiskit import QuantumCircuit
    from qiskit_aer.noise import NoiseModel, depolarizing_error

    circuit = QuantumCircuit(num_qubits)
    circuit.s(0)
    circuit.sx(0)
    circuit.s(0)
    for qubit in range(1, num_qubits):
        circuit.cx(qubit - 1, qubit)
    circuit.measure_all()
    noise = NoiseModel()
    noise.add_all_qubit_quantum_error(depolarizing_error(noise_level, 2), ["cx"])
    noise.add_all_qubit_quantum_error(depolarizing_error(noise_level / 10, 1), ["sx", "x"])
    return circuit, noise


def _time(run: Run, seed: int) -> float:
    """The seconds of CPU; all run on one thread, and a busy machine disturbs them less than a clock's seconds."""
    begun = time.process_time()
    run(seed)
    return time.process_time() - begun


def compare_circuit(name: str, repeats: int, order: random.Random) -> dict[str, Any]:
    """Seconds of CPU of each way, in a new order each repeat, and the domain's time over that of the best bare loop.

    A method that takes HOPELESS times as long as the best at first is not tried again.
    """
    from dfz_ray.domains.quantum.domain import DOMAIN

    parameters = DOMAIN.parameters.model_validate(CASES[name][0] | {"shots": SHOTS})
    ways = {**bare_runs(name), "dfz_ray": lambda seed: DOMAIN.compute(parameters, seed, 1)}
    chosen = ways["dfz_ray"](0)["method"]
    times: dict[str, list[float]] = defaultdict(list)
    first = {way: _time(run, 1) for way, run in ways.items()}
    bare = min(took for way, took in first.items() if way != "dfz_ray")
    ways = {way: run for way, run in ways.items() if way == "dfz_ray" or first[way] < HOPELESS * bare}
    for seed in range(repeats):
        for way in order.sample(list(ways), len(ways)):
            times[way].append(_time(ways[way], seed))
    best = min((way for way in times if way != "dfz_ray"), key=lambda way: median(times[way]))
    ratios = [own / bare for own, bare in zip(times["dfz_ray"], times[best], strict=True)]
    seconds = {way: estimated(times.get(way, [first[way]])) for way in first}
    return {
        "circuit": name,
        "chosen": chosen,
        "best": best,
        "at_most": CASES[name][1],
        "seconds": seconds,
        "ratio": estimated(ratios),
    }


def circuits_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """The time of each way, and the ratio beside the most that it may be."""
    ways = ("dfz_ray", *METHODS)
    shown = Table("circuit", *ways, "chosen", "over the best", "at most", title="ms of CPU for a task", box=None)
    for row in rows:
        times = (f"{1e3 * row['seconds'][way]['value']:.1f}" if way in row["seconds"] else "" for way in ways)
        shown.add_row(row["circuit"], *times, row["chosen"], f"{row['ratio']['value']:.2f}", str(row["at_most"]))
    return shown


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.option("--circuit", "names", type=click.Choice(list(CASES)), multiple=True, help="Which [both].")
@click.option("--repeats", type=click.IntRange(1), default=9, show_default=True)
def main(names: Sequence[str], repeats: int) -> None:
    """The domain's function against bare loops over Aer, without Ray (a part of domains.py)."""
    order = random.Random(0)  # noqa: S311 - no secret is drawn
    rows = [compare_circuit(name, repeats, order) for name in names or CASES]
    console = Console(width=140)
    console.print(circuits_table(rows))
    for row in rows:
        console.print(f"{row['circuit']}: {row['ratio']}")


if __name__ == "__main__":
    main()
