"""The parts of the state that libraries and imports touch: what is put back, and what stays."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from support.child import in_child

from dfz_ray.domains.domain import Domain, Parameters
from dfz_ray.execution.execute import Work, execute_chunk
from dfz_ray.specs.encoding import decode, encode
from dfz_ray.specs.input_file import FileShelf
from dfz_ray.worker.process_state import ProcessState


def execute(state: ProcessState, *tasks: Callable[[], Any]) -> list[Any]:
    """Execute tasks as a chunk of a worker; returns their results."""
    domain = Domain("acts", Parameters, lambda parameters, seed, threads: tasks[seed](), lambda _: "acts")
    works = [Work(number, number, encode({})) for number in range(len(tasks))]
    executions = execute_chunk(domain, works, 1, FileShelf(), settle=state.settle)
    state.rest()
    return [one.failure.message if one.failure else decode(one.result or b"") for one in executions]


TORCH = {
    "gradients": lambda torch: torch.set_grad_enabled(False),
    "type": lambda torch: torch.set_default_dtype(torch.float64),
    "device": lambda torch: torch.set_default_device("meta"),
    "algorithms": lambda torch: torch.use_deterministic_algorithms(True),
    "precision": lambda torch: torch.set_float32_matmul_precision("medium"),
}


@pytest.mark.parametrize("what", TORCH)
def test_settings_of_torch_are_put_back(what: str) -> None:
    """What a task sets in torch, and does not restore, the next one does not find."""
    torch = pytest.importorskip("torch")

    def feel() -> list[str]:
        made = torch.ones(1, requires_grad=True).sum()
        precision = torch.get_float32_matmul_precision()
        return [str(made), str(made.device), str(torch.are_deterministic_algorithms_enabled()), precision]

    def play() -> tuple[Any, ...]:
        state = ProcessState()
        (before,) = execute(state, feel)
        execute(state, lambda: TORCH[what](torch))
        return before, execute(state, feel), state.change

    before, after, change = in_child(play)

    assert (after, change) == ([before], "")


def test_a_mode_of_torch_that_is_left_on_ends_its_process() -> None:
    """Inference mode can't be switched off from outside: no task is executed in that process any more."""
    torch = pytest.importorskip("torch")

    def play() -> tuple[Any, ...]:
        state = ProcessState()
        execute(state, lambda: None, mode.__enter__, lambda: None)
        return state.change, state.is_of_one

    mode = torch.inference_mode()
    assert in_child(play) == ("torch settings", False)
