"""Training a classifier, the views that it is shown of images, and its predictions."""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from dfz_ray.domains.gpus import NO_GPUS, AssignedGpus
from dfz_ray.domains.image_classification.devices import find_device

TEST_BATCH_SIZE = 512
TEST_BATCH_VALUES = 2_400_000
"""The most values of the images that are tested together, so that a model's activations fit into the memory."""
LARGEST_TURN = math.radians(10)
LARGEST_SHIFT = 0.1
"""As a share of the side of an image."""

View = Callable[[torch.Tensor], torch.Tensor]
"""Turns a batch of images, of shape (images, channels, height, width), into the images that a model is shown."""

Images = Callable[[npt.NDArray[np.int64]], npt.NDArray[np.float32]]
"""Returns the images at these places, of shape (images, channels, height, width)."""

_one_at_a_time = threading.Lock()


def plain(images: torch.Tensor) -> torch.Tensor:
    """The images as they are."""
    return images


def resized(side: int) -> View:
    """A view of the images as squares of that side, by bilinear interpolation."""

    def view(images: torch.Tensor) -> torch.Tensor:
        smaller = side < images.shape[-1]  # then all pixels have to count, not only those beside the new ones
        return nn.functional.interpolate(images, (side, side), mode="bilinear", align_corners=False, antialias=smaller)

    return view


def augmented(view: View, rng: np.random.Generator) -> View:
    """A view of each image turned by up to 10 degrees and shifted by up to a tenth, anew each time.

    Beyond the edge of the image its nearest pixel is repeated.
    """

    def moved(images: torch.Tensor) -> torch.Tensor:
        images = view(images)
        turns = rng.uniform(-LARGEST_TURN, LARGEST_TURN, len(images))
        shifts = rng.uniform(-2 * LARGEST_SHIFT, 2 * LARGEST_SHIFT, (len(images), 2))  # a side is 2 long in a grid
        rows = [[np.cos(turns), -np.sin(turns), shifts[:, 0]], [np.sin(turns), np.cos(turns), shifts[:, 1]]]
        maps = torch.tensor(np.array(rows, np.float32).transpose(2, 0, 1), device=images.device)
        grid = nn.functional.affine_grid(maps, list(images.shape), align_corners=False)
        return nn.functional.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)

    return moved


@contextmanager
def reproducible_torch(seed: int, threads: int, gpus: AssignedGpus = NO_GPUS) -> Iterator[torch.device]:
    """Torch with the task's seed and threads, and deterministic algorithms; yields the device to train on.

    By default tensors have 32 bits and lie on the CPU, and gradients are computed, whatever other code has set. All
    this is state of the whole process. So one task at a time holds it, and the state before is restored at the end.
    Only the CPU's generator is seeded: models are made on the CPU, and no layer draws while it is trained. Only equal
    numbers of threads give equal results. The device is the GPU that was assigned, if any.
    """
    with _one_at_a_time:
        deterministic = torch.are_deterministic_algorithms_enabled()
        warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
        threads_before, dtype_before = torch.get_num_threads(), torch.get_default_dtype()
        if gpus.ids:
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # without it cuBLAS is not deterministic
        try:
            with (
                torch.random.fork_rng(devices=()),
                torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True),
                torch.inference_mode(False),
                torch.enable_grad(),
                nullcontext() if torch.empty(0).device.type == "cpu" else torch.device("cpu"),  # it slows calls down
            ):
                torch.set_default_dtype(torch.float32)
                torch.set_num_threads(threads)
                torch.use_deterministic_algorithms(True)
                torch.default_generator.manual_seed(seed)
                yield find_device(gpus)
        finally:
            torch.use_deterministic_algorithms(deterministic, warn_only=warn_only)
            torch.set_num_threads(threads_before)
            torch.set_default_dtype(dtype_before)
            if gpus.ids and torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
                torch.cuda.empty_cache()


def train(
    model: nn.Module,
    images: Images,
    labels: npt.NDArray[np.int64],
    *,
    epochs: int,
    batch_size: int,
    learning_rate: float,
    rng: np.random.Generator,
    view: View = plain,
) -> list[dict[str, Any]]:
    """Fit a model by Adam (Kingma & Ba, 2015) on the cross-entropy, with a step size that falls linearly to zero.

    A last batch of a single image is left out of the epoch: batch normalisation needs two. `rng` draws the order of the
    images.

    Returns:
        Per epoch the mean loss and the accuracy on the training images, measured on each batch just before the model
        learned from it.
    """
    device = next(model.parameters()).device
    optimizer = torch.optim.Adam(model.parameters(), lr=learning_rate)
    steps = epochs * -(-len(labels) // batch_size)
    step = 0
    curve = []
    model.train()
    for epoch in range(1, epochs + 1):
        order = rng.permutation(len(labels))
        starts = range(0, len(order), batch_size)
        batches = [batch for start in starts if len(batch := order[start : start + batch_size]) > 1]
        loss_sum, correct = torch.zeros((), device=device), torch.zeros((), dtype=torch.int64, device=device)
        for batch in batches:
            optimizer.param_groups[0]["lr"] = learning_rate * (1 - step / steps)
            optimizer.zero_grad(set_to_none=True)
            targets = torch.from_numpy(labels[batch]).to(device)
            scores = model(view(torch.from_numpy(images(batch)).to(device)))
            loss = nn.functional.cross_entropy(scores, targets)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            step += 1
            loss_sum += loss.detach() * len(batch)
            correct += (scores.detach().argmax(1) == targets).sum()
        shown = sum(len(batch) for batch in batches)
        curve.append({"epoch": epoch, "loss": float(loss_sum) / shown, "accuracy": int(correct) / shown})
    return curve


def find_test_batch_size(image_size: tuple[int, int, int]) -> int:
    """How many images of a size (channels, height, width) are tested together."""
    return max(1, min(TEST_BATCH_SIZE, TEST_BATCH_VALUES // math.prod(image_size)))


def predict(
    model: nn.Module, images: Images, count: int, view: View = plain, batch_size: int = TEST_BATCH_SIZE
) -> npt.NDArray[np.int64]:
    """The class that a model finds most likely for each of so many images, by a view of it."""
    device = next(model.parameters()).device
    model.eval()
    with torch.inference_mode():
        found = [
            model(view(torch.from_numpy(images(np.arange(start, min(start + batch_size, count)))).to(device)))
            .argmax(1)
            .cpu()
            for start in range(0, count, batch_size)
        ]
    return torch.cat(found).numpy()
