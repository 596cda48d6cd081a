"""The device that a model is trained on is the one that was assigned, never one that is merely visible."""

from __future__ import annotations

from typing import Any

import pytest

from dfz_ray.domains.domain import Domain, Parameters
from dfz_ray.domains.gpus import NO_GPUS, AssignedGpus, assign_gpus, assigned_gpus
from dfz_ray.domains.image_classification.domain import DOMAIN
from dfz_ray.execution.execute import Execution, Work, execute_chunk
from dfz_ray.specs.encoding import encode
from dfz_ray.specs.input_file import FileShelf

torch = pytest.importorskip("torch")
pytest.importorskip("sklearn")


def compute() -> dict[str, Any]:
    small = DOMAIN.parameters.model_validate({"epochs": 1, "num_categories": 2, "train_images": 8, "test_images": 4})
    result: dict[str, Any] = DOMAIN.compute(small, 0, 1)
    return result


def test_a_task_that_asked_for_no_gpu_trains_on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many GPUs torch sees, a task without one trains on the CPU, and its result says so."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2,3")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    result = compute()
    assert result["device"]["type"] == result["model_details"]["device"] == "cpu"
    assert result["device"]["name"]
    assert result["device"]["peak_memory_bytes"] is None
    assert "device" in DOMAIN.volatile


def test_gpus_are_assigned_for_a_while() -> None:
    """The assignment of a lease ends with it."""
    ours = AssignedGpus(("3",), 0.25)
    with assign_gpus(ours):
        assert assigned_gpus() == ours
    assert assigned_gpus() == NO_GPUS


@pytest.mark.skipif(torch.cuda.is_available(), reason="torch can use a GPU here")
def test_an_assigned_gpu_that_cannot_be_used_fails_the_task() -> None:
    """A task that holds a GPU does not train on the CPU instead, unnoticed."""
    with (
        assign_gpus(AssignedGpus(("5",))),
        pytest.raises(RuntimeError, match=r"was assigned GPU 5, and torch .* no GPU"),
    ):
        compute()


@pytest.mark.parametrize(
    ("gpu", "visible", "number"),
    [("2", None, 2), ("3", "3", 0), ("3", "1,3", 1), ("0", "2, 0", 1), ("GPU-b", "GPU-a,GPU-b", 1)],
)
def test_a_gpu_has_the_number_of_its_place_among_the_visible_ones(gpu: str, visible: str | None, number: int) -> None:
    """Ray's name of a GPU becomes the number that this process has for it."""
    from dfz_ray.domains.image_classification.devices import find_index

    assert find_index(gpu, {} if visible is None else {"CUDA_VISIBLE_DEVICES": visible}) == number


@pytest.mark.parametrize("visible", ["", "0,1", None])
def test_a_gpu_that_is_not_visible_is_an_error(visible: str | None) -> None:
    """No other GPU is taken in its place."""
    from dfz_ray.domains.image_classification.devices import find_index

    with pytest.raises(
        RuntimeError, match=f"GPU GPU-c, which its process can't see: CUDA_VISIBLE_DEVICES is {visible}"
    ):
        find_index("GPU-c", {} if visible is None else {"CUDA_VISIBLE_DEVICES": visible})


class Greed(Parameters):
    """Whether the task asks for more memory than there is."""

    is_greedy: bool


def take_memory(parameters: Greed, seed: int, threads: int) -> str:
    if parameters.is_greedy:
        raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 80.00 GiB.")
    return "fine"


def test_a_gpu_without_memory_left_fails_the_guilty_task_alone() -> None:
    """The reason is out_of_memory, and the tasks around it in its process complete."""
    domain = Domain("greed", Greed, take_memory, lambda _: "greed")
    works = [Work(number, 0, encode({"is_greedy": number == 1})) for number in range(3)]
    done: list[Execution] = execute_chunk(domain, works, 1, FileShelf())
    reasons = [one.failure and one.failure.reason for one in done]
    assert reasons == [None, "out_of_memory", None]
    assert done[1].failure is not None
    assert "Tried to allocate 80.00 GiB" in done[1].failure.message
