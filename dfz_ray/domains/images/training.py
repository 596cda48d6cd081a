"""Training a classifier, and asking it."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from dfz_ray.domains.images.views import View, plain

TEST_BATCH_SIZE = 512

_one_at_a_time = threading.Lock()


@contextmanager
def reproducible_torch(seed: int, threads: int) -> Iterator[torch.device]:
    """Torch as a task needs it: its own seed, its own threads, deterministic algorithms, and the fastest device.

    All this is state of the whole process. So one task at a time holds it, and afterwards it is as it was. Only the
    CPU's generator is seeded: models are made on the CPU, and no layer draws while it is trained.

    Args:
        seed: for the first weights.
        threads: how many threads torch may use. Results are equal only for equal numbers of threads.

    Yields:
        The device to train on: the GPU where one is visible (Ray shows one only to tasks that asked), else the CPU.
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
    """Fit a model by Adam (Kingma & Ba, 2015) on the cross-entropy, with a step size that falls linearly to nothing.

    An image that is left over as a batch of its own sits out the epoch: batch normalisation can't do with one.

    Args:
        model: changed in place, on its device.
        pixels: of shape (images, channels, height, width); two images at least.
        labels: of shape (images,).
        epochs: how often every image is shown.
        batch_size: images per step; 2 at least.
        learning_rate: the first step size.
        rng: draws the order of the images.
        view: what the model is shown of a batch.

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
    """The class that a model finds most likely for each image, of which it is shown a view."""
    device = next(model.parameters()).device
    model.eval()
    with torch.inference_mode():
        found = [
            model(view(torch.tensor(pixels[start : start + batch_size], device=device))).argmax(1).cpu()
            for start in range(0, len(pixels), batch_size)
        ]
    return torch.cat(found).numpy()
