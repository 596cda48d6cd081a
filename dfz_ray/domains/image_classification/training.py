"""Training a classifier, the views that it is shown of images, and its predictions."""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

TEST_BATCH_SIZE = 512
LARGEST_TURN = math.radians(10)
LARGEST_SHIFT = 0.1
"""As a share of the side of an image."""

View = Callable[[torch.Tensor], torch.Tensor]
"""Turns a batch of images, of shape (images, channels, height, width), into the images that a model is shown."""

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
def reproducible_torch(seed: int, threads: int) -> Iterator[torch.device]:
    """Torch with the task's seed and threads, and deterministic algorithms; yields the device to train on.

    All this is state of the whole process. So one task at a time holds it, and the state before is restored at the end.
    Only the CPU's generator is seeded: models are made on the CPU, and no layer draws while it is trained. Only equal
    numbers of threads give equal results. The device is the GPU if one is visible (Ray shows one only to tasks that
    declare it).
    """
    with _one_at_a_time:
        deterministic = torch.are_deterministic_algorithms_enabled()
        warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
        threads_before = torch.get_num_threads()
        gpu = torch.cuda.is_available()
        if gpu:
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # without it cuBLAS is not deterministic
        try:
            with (
                torch.random.fork_rng(devices=()),
                torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True),
            ):
                torch.set_num_threads(threads)
                torch.use_deterministic_algorithms(True)
                torch.default_generator.manual_seed(seed)
                yield torch.device("cuda" if gpu else "cpu")
        finally:
            torch.use_deterministic_algorithms(deterministic, warn_only=warn_only)
            torch.set_num_threads(threads_before)
            if gpu:
                torch.cuda.empty_cache()


def train(
    model: nn.Module,
    pixels: npt.NDArray[np.float32],
    labels: npt.NDArray[np.int64],
    *,
    epochs: int,
    batch_size: int,
    learning_rate: float,
    rng: np.random.Generator,
    view: View = plain,
) -> list[dict[str, Any]]:
    """Fit a model by Adam (Kingma & Ba, 2015) on the cross-entropy, with a step size that falls linearly to zero.

    A last batch of a single image is left out of the epoch: batch normalisation needs two. Pixels have the shape
    (images, channels, height, width); `rng` draws the order of the images.

    Returns:
        Per epoch the mean loss and the accuracy on the training images, measured on each batch just before the model
        learned from it.
    """
    device = next(model.parameters()).device
    images, targets = torch.tensor(pixels, device=device), torch.tensor(labels, device=device)
    optimizer = torch.optim.Adam(model.parameters(), lr=learning_rate)
    steps = epochs * -(-len(labels) // batch_size)
    step = 0
    curve = []
    model.train()
    for epoch in range(1, epochs + 1):
        order = torch.tensor(rng.permutation(len(labels)), device=device)
        batches = [batch for batch in torch.split(order, batch_size) if len(batch) > 1]
        loss_sum, correct = torch.zeros((), device=device), torch.zeros((), dtype=torch.int64, device=device)
        for batch in batches:
            optimizer.param_groups[0]["lr"] = learning_rate * (1 - step / steps)
            optimizer.zero_grad(set_to_none=True)
            scores = model(view(images[batch]))
            loss = nn.functional.cross_entropy(scores, targets[batch])
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            step += 1
            loss_sum += loss.detach() * len(batch)
            correct += (scores.detach().argmax(1) == targets[batch]).sum()
        shown = sum(len(batch) for batch in batches)
        curve.append({"epoch": epoch, "loss": float(loss_sum) / shown, "accuracy": int(correct) / shown})
    return curve


def predict(
    model: nn.Module, pixels: npt.NDArray[np.float32], view: View = plain, batch_size: int = TEST_BATCH_SIZE
) -> npt.NDArray[np.int64]:
    """The class that a model finds most likely for each image, by a view of it."""
    device = next(model.parameters()).device
    model.eval()
    with torch.inference_mode():
        found = [
            model(view(torch.tensor(pixels[start : start + batch_size], device=device))).argmax(1).cpu()
            for start in range(0, len(pixels), batch_size)
        ]
    return torch.cat(found).numpy()
