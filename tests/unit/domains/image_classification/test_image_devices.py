"""The device that a model is trained on is the one that was assigned, never one that is merely visible."""

from __future__ import annotations

import os
from typing import Any, Literal

import pytest

from dfz_ray.domains.domain import Domain, Parameters
from dfz_ray.domains.gpus import NO_GPUS, AssignedGpus, assign_gpus, assigned_gpus
from dfz_ray.domains.image_classification.domain import DOMAIN
from dfz_ray.execution.execute import Execution, Work, execute_chunk
from dfz_ray.specs.encoding import encode
from dfz_ray.specs.input_file import FileShelf

torch = pytest.importorskip("torch")
pytest.importorskip("sklearn")


def compute(**values: Any) -> dict[str, Any]:
    quick = {"epochs": 1, "num_categories": 2, "train_images": 8, "test_images": 4}
    small = DOMAIN.parameters.model_validate(quick | values)
    result: dict[str, Any] = DOMAIN.compute(small, 0, 1)
    return result


def first_gpu() -> str:
    """The name of the first GPU that is visible, as Ray has it."""
    return os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0].strip()


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


@pytest.mark.parametrize(
    ("share", "total_gib", "fraction"), [(1.0, 80, 1.0), (0.25, 80, 0.25 - 600 / 80 / 1024), (0.01, 8, 0.005)]
)
def test_a_share_of_a_gpu_leaves_room_for_what_cuda_takes(share: float, total_gib: int, fraction: float) -> None:
    """Four tasks that take their whole quarters fit on one card, together with CUDA's own memory of each process."""
    from dfz_ray.domains.image_classification.devices import find_fraction

    assert find_fraction(share, total_gib * 2**30) == pytest.approx(fraction)


class Greed(Parameters):
    """The error that the task ends with, if any."""

    error: Literal["torch", "cuda", "cublas"] | None


def take_memory(parameters: Greed, seed: int, threads: int) -> str:
    match parameters.error:
        case "torch":
            raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 80.00 GiB.")
        case "cuda":
            raise RuntimeError("CUDA error: out of memory. Tried to allocate 80.00 GiB.")
        case "cublas":
            raise RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED. Tried to allocate 80.00 GiB.")
    return "fine"


@pytest.mark.parametrize("error", ["torch", "cuda", "cublas"])
def test_a_gpu_without_memory_left_fails_the_guilty_task_alone(error: str) -> None:
    """The reason is out_of_memory, and the tasks around it in its process complete."""
    domain = Domain("greed", Greed, take_memory, lambda _: "greed")
    works = [Work(number, 0, encode({"error": error if number == 1 else None})) for number in range(3)]
    done: list[Execution] = execute_chunk(domain, works, 1, FileShelf())
    reasons = [one.failure and one.failure.reason for one in done]
    assert reasons == [None, "out_of_memory", None]
    assert done[1].failure is not None
    assert "Tried to allocate 80.00 GiB" in done[1].failure.message


@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch can use no GPU here")
class TestRealGpu:
    @pytest.mark.parametrize("model", ["small_cnn", "resnet18", "small_vit"])
    def test_an_assigned_gpu_is_used_and_told(self, model: str) -> None:
        """Each model is trained on the GPU, deterministically, and the result has its name and the peak of memory."""
        with assign_gpus(AssignedGpus((first_gpu(),), 0.25)):
            first, second = (compute(model=model, augmentation=True, image_size=32) for _ in range(2))
        assert first["device"]["type"] == first["model_details"]["device"] == "cuda"
        assert first["device"]["name"] == torch.cuda.get_device_name(0)
        weights = 4 * first["model_details"]["parameters"]
        assert first["device"]["peak_memory_bytes"] > 3 * weights  # with gradients and Adam's moments
        assert first["training_curve"] == second["training_curve"]
        assert compute()["device"]["type"] == "cpu"

    def test_a_share_that_is_too_small_is_out_of_memory(self) -> None:
        """The task alone fails, and the next one in its process, with the whole GPU, completes."""
        work = [Work(0, 0, encode({"epochs": 1, "model": "resnet18", "train_images": 8, "test_images": 4}))]
        reasons = []
        for share in (1e-5, 1.0):
            with assign_gpus(AssignedGpus((first_gpu(),), share)):
                done: list[Execution] = execute_chunk(DOMAIN, work, 1, FileShelf())
            reasons.append(done[0].failure and done[0].failure.reason)
        assert reasons == ["out_of_memory", None]
