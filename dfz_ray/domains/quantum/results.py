"""The keys of a result of the domain quantum."""

from __future__ import annotations

RESULTS: dict[str, str] = {
    "main_score": "1 is the best that can be reached, and what a flawless machine reaches but for chance. grover: share"
    " of the shots that found the marked state, over that of a flawless machine after as many iterations; qft,"
    " bernstein_vazirani: share of the shots with the right answer; ghz, qasm_file: circuit_fidelity over that of a"
    " flawless machine with as many shots; vqe: energy over exact_energy, 1 is the ground state, which enough layers"
    " come near. Null if nothing can be said (details.no_score says why)",
    "circuit_fidelity": "Hellinger fidelity of the counts to details.reference, 0 to 1. Few shots of a wide"
    " distribution can't look like it: see details.fidelity_of_perfect_machine. Null with main_score",
    "algorithm": "the algorithm, or qasm_file",
    "num_qubits": "qubits that take part",
    "shots": "how often the circuit was measured",
    "method": "Aer's method: statevector, density_matrix or stabilizer; statevector with noise simulates each shot"
    " anew, on a trajectory of its own",
    "method_reason": "the reason for the method",
    "depth": "gates on the longest path of the circuit as it is simulated",
    "gate_counts": "how often each gate is simulated: the circuit's own gates without noise, rz, sx, x, cx (and id of a"
    " file) with it; a loop or branch of a file counts as one",
    "counts": "all outcomes with their number of shots, the most frequent first",
    "distinct_outcomes": "number of outcomes",
    "details": "reference (where the exact outcomes come from), fidelity_of_perfect_machine (circuit_fidelity of as"
    " many shots without any error), no_score; grover: exact_success_probability; qasm_file: file, openqasm,"
    " measured_all_qubits, shots_simulated_one_by_one",
    "marked_states": "grover: the state to find",
    "total_states": "grover: number of states",
    "iterations": "grover: iterations done",
    "success_probability": "grover, qft, bernstein_vazirani: share of the shots with the right answer",
    "input_state": "qft: number that is transformed",
    "expected_state": "qft: number that is found without errors",
    "phase_shift": "qft: shift between the two transforms, in turns",
    "phase_error": "qft: mean over the shots, in turns",
    "phase_precision": "qft: 1 - 2 phase_error; 1 is exact, 0.5 is guessed",
    "all_zeros": "ghz: share of the shots",
    "all_ones": "ghz: share of the shots",
    "secret": "bernstein_vazirani: bits to find",
    "found": "bernstein_vazirani: most frequent outcome",
    "converged": "vqe: true if the optimisation ended because the energy falls no more, false if max_evaluations did",
    "energy": "vqe: lowest energy found, an exact expectation with the noise",
    "exact_energy": "vqe: energy of the ground state, by exact diagonalisation",
    "energy_error": "vqe: energy minus exact_energy",
    "sampled_energy": "vqe: energy from the shots",
    "ground_state_overlap": "vqe: of the circuit without noise with the ground state, squared",
    "convergence": "vqe: lowest energy after each gradient",
    "layers": "vqe: layers of the ansatz",
    "evaluations": "vqe: evaluations of the energy; without noise each brings its gradient, with noise a gradient takes"
    " 2 layers + 1",
    "max_evaluations": "vqe: most evaluations that were allowed",
    "warm_start_evaluations": "vqe: evaluations without noise before those with noise",
}
"""Key to meaning; a key that begins with the name of an algorithm is in its results alone."""
