"""How many images a task may use so that it ends within about 20 s on one core."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from dfz_ray.domains.images.views import View

if TYPE_CHECKING:
    from dfz_ray.domains.images.parameters import ImageClassificationParameters

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


def bound_images(
    parameters: ImageClassificationParameters, model: nn.Module, view: View, image_size: tuple[int, int, int]
) -> tuple[int | None, int | None]:
    """How many training and how many test images a task may use.

    Args:
        parameters: a number that is given is obeyed. One that is not has no bound, unless a parameter of older scripts
            is given: then as many are used as take about 20 s on one core, training and test together.
        model: its operations on one image are counted; it may be in evaluation mode afterwards.
        view: what the model is shown.
        image_size: channels, height and width of the image that the view is of.

    Returns:
        The two numbers; None: all.
    """
    train_images, test_images = parameters.train_images, parameters.test_images
    if not parameters.is_bounded or (train_images and test_images):
        return train_images, test_images
    model.eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        seen = view(torch.zeros(1, *image_size, device=next(model.parameters()).device))
        model(seen)
    forward_s = counter.get_total_flops() / FLOPS_PER_S[parameters.model]
    step_s = STEP_S_PER_WEIGHT * sum(weight.numel() for weight in model.parameters())
    test_s = forward_s + seen.numel() * VIEW_S_PER_PIXEL[False]
    train_s = (
        PASSES * forward_s + seen.numel() * VIEW_S_PER_PIXEL[parameters.augmentation] + step_s / parameters.batch_size
    )
    return train_images or int(TRAINING_S / (parameters.epochs * train_s)), test_images or int(TESTING_S / test_s)
