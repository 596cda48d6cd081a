"""Three ways to optimise VQE with noise: forward differences (the domain's), parameter shifts, and SPSA."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import click
import numpy as np
from rich.console import Console
from rich.table import Table

from dfz_ray.domains.quantum import vqe
from dfz_ray.domains.quantum.ising import Ansatz, Vector
from dfz_ray.domains.quantum.simulator import Simulator
from dfz_ray.domains.quantum.translation import translate

BUDGETS = (100, 300, 1000)
"""Evaluations of the noisy energy."""
LONG_BUDGET = 10_000
"""For the energy that errors are measured from."""
FIRST_STEPS = (0.0005, 0.002, 0.01)
"""Of SPSA, in radians an angle; the best of them is told."""


class ShiftedMachine(vqe.NoisyMachine):
    """Gradients by the parameter-shift rule (Mitarai et al. 2018): gate by gate, since gates share their angles."""

    def __init__(self, ansatz: Ansatz, machine: Simulator) -> None:
        shared, circuit = ansatz.circuit(), ansatz.circuit().copy_empty_like()
        self.owners: list[int] = []
        """For each gate with an angle, the number of that angle."""
        from qiskit.circuit import ParameterVector

        most = ansatz.layers * (2 * ansatz.num_qubits - 1)
        own = ParameterVector("own", most)
        places = {parameter: number for number, parameter in enumerate(shared.parameters)}
        for instruction in shared.data:
            operation = instruction.operation
            if operation.params:
                operation = operation.to_mutable()
                number = len(self.owners)
                self.owners.append(places[operation.params[0]])
                operation.params = [own[number]]
            circuit.append(operation, instruction.qubits)
        super().__init__(translate(circuit), machine)

    def count_gradients(self, budget: int) -> int:
        """The number of gradients that a budget pays for."""
        return budget // (2 * len(self.owners) + 1)

    def energy_and_gradient(self, angles: Vector) -> tuple[float, Vector]:
        """The energy, which goes into the history, and its gradient."""
        point = angles[self.owners]
        steps = np.pi / 2 * np.eye(len(point))
        energies = self.energies_at(np.vstack([point, point + steps, point - steps]))
        self.history.append(float(energies[0]))
        ahead, behind = np.split(energies[1:], 2)
        return self.history[-1], np.bincount(self.owners, (ahead - behind) / 2, len(angles))

    def energy(self, angles: Vector) -> float:
        """The energy, which goes into the history."""
        return super().energy(angles[self.owners])


def spsa(machine: vqe.NoisyMachine, start: Vector, budget: int, first_step: float) -> float:
    """The energy after simultaneous perturbations, whose gains fall as Spall (1998) recommends.

    Ten evaluations set the length of the first step; the last one is that of the end.
    """
    rng = np.random.default_rng(0)
    size, steps = 0.05, (budget - 11) // 2
    signs = rng.choice([-1.0, 1.0], (5, len(start)))
    ahead, behind = np.split(machine.energies_at(start + size * np.vstack([signs, -signs])), 2)
    offset = 0.1 * steps
    first = first_step * (offset + 1) ** 0.602 / np.mean(np.abs(ahead - behind) / (2 * size))
    angles = start
    for step in range(steps):
        reach, sign = size / (step + 1) ** 0.101, rng.choice([-1.0, 1.0], len(start))
        ahead, behind = machine.energies_at(angles + reach * np.vstack([sign, -sign]))
        angles = angles - first / (step + 1 + offset) ** 0.602 * (ahead - behind) / (2 * reach) * sign
    return float(machine.energies_at(angles[np.newaxis])[0])


@dataclass(frozen=True)
class Ways:
    """The ways to go on from angles that are the best without noise."""

    ansatz: Ansatz
    machine: Simulator
    start: Vector

    def forward(self, budget: int) -> float:
        """As the domain does."""
        machine = vqe.NoisyMachine(translate(self.ansatz.circuit()), self.machine)
        return vqe.optimise(machine, self.start, budget)[1]

    def shifted(self, budget: int) -> float:
        """The domain's optimiser with parameter shifts."""
        return vqe.optimise(ShiftedMachine(self.ansatz, self.machine), self.start, budget)[1]

    def perturbed(self, budget: int, first_step: float) -> float:
        """SPSA."""
        return spsa(vqe.NoisyMachine(translate(self.ansatz.circuit()), self.machine), self.start, budget, first_step)


def measure(way: Callable[[int], float], budget: int, least: float) -> tuple[float, float]:
    """The error, and the seconds of CPU."""
    begun = time.process_time()
    error = way(budget) - least
    return error, time.process_time() - begun


def show(measured: Sequence[tuple[float, float]]) -> str:
    """The least error, and its seconds."""
    error, cpu_s = min(measured)
    return f"{error:.1e} in {cpu_s:.1f} s"


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.option("--qubits", type=click.IntRange(2, 8), default=5, show_default=True)
@click.option("--layers", type=click.IntRange(1, 20), default=4, show_default=True)
@click.option("--noise", type=float, default=0.01, show_default=True)
def main(qubits: int, layers: int, noise: float) -> None:
    """Error and CPU time of three ways to optimise VQE with noise, after so many evaluations of the noisy energy.

    All begin at the angles that are the best without noise. The error is that of the energy, from the lowest one that
    forward differences find without a budget. Of SPSA the best of three lengths of its first step is told.
    """
    ansatz, machine = Ansatz(qubits, layers), Simulator("density_matrix", noise, 1)
    ramp = vqe.draw_start(layers, np.random.default_rng(0))
    start = vqe.optimise(vqe.PerfectMachine(ansatz), ramp, LONG_BUDGET)[0]
    ways = Ways(ansatz, machine, start)
    least = ways.forward(LONG_BUDGET)
    table = Table("", *(f"{budget} evaluations" for budget in BUDGETS), box=None)
    table.title = f"{qubits} qubits, {layers} layers, noise {noise}: error of the energy, and seconds of CPU"
    named: dict[str, list[Any]] = {
        "forward differences": [ways.forward],
        "parameter shifts": [ways.shifted],
        "SPSA": [functools.partial(ways.perturbed, first_step=step) for step in FIRST_STEPS],
    }
    for name, one_way in named.items():
        cells = ([measure(way, budget, least) for way in one_way] for budget in BUDGETS)
        table.add_row(name, *map(show, cells))
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
