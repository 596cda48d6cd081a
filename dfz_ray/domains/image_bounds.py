"""How many images a task may use so that it ends within about 20 s on one core."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from dfz_ray.domains.image_views import View

TRAINING_S = 15.0
TESTING_S = 3.0
FLOPS_PER_S = {"small_cnn": 70e9, "resnet18": 100e9, "small_vit": 40e9}
"""What one core of an AMD EPYC was seen to reach with each model, in float32. This and what follows are no more than a
scale: how many images are used must not depend on the machine."""
PASSES = 3
"""Going back through a model costs about twice what going forward does."""
STEP_S_PER_WEIGHT = 4e-9
"""To change a weight in a training step."""
VIEW_S_PER_PIXEL = {False: 2e-9, True: 6e-9}
"""To resize an image; and to turn and shift it as well."""


class Bounds(NamedTuple):
    """How many images a task may use at most."""

    train_images: int
    test_images: int


def bound_images(
    name: str,
    model: nn.Module,
    view: View,
    image_size: tuple[int, int, int],
    *,
    epochs: int,
    batch_size: int,
    augmentation: bool,
) -> Bounds:
    """The numbers of images that take about 20 s on one core, training and test together.

    Args:
        name: the model's, a key of FLOPS_PER_S.
        model: its operations on one image are counted; it is in evaluation mode afterwards.
        view: what the model is shown.
        image_size: channels, height and width of the image that the view is of.
        epochs: how often each training image will be shown.
        batch_size: images per training step.
        augmentation: whether training images will be turned and shifted.
    """
    model.eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        seen = view(torch.zeros(1, *image_size, device=next(model.parameters()).device))
        model(seen)
    forward_s = counter.get_total_flops() / FLOPS_PER_S[name]
    test_s = forward_s + seen.numel() * VIEW_S_PER_PIXEL[False]
    step_s = STEP_S_PER_WEIGHT * sum(weight.numel() for weight in model.parameters())
    train_s = PASSES * forward_s + seen.numel() * VIEW_S_PER_PIXEL[augmentation] + step_s / batch_size
    return Bounds(int(TRAINING_S / (epochs * train_s)), int(TESTING_S / test_s))
