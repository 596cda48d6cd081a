"""Bounds on the number of images, so that a task of an older script takes about 20 s on one core.

They follow from counted operations and not from a clock: how many images are used must not depend on the machine.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from dfz_ray.domains.image_classification.training import View

if TYPE_CHECKING:
    from dfz_ray.domains.image_classification.parameters import ImageClassificationParameters

TRAINING_S = 15.0
TESTING_S = 3.0
FLOPS_PER_S = {"small_cnn": 70e9, "resnet18": 100e9, "small_vit": 40e9}
"""Measured with each model, in float32, on one core of an AMD EPYC. This and the constants below only set a scale."""
PASSES = 3
"""The pass back through a model costs about twice the pass forward."""
STEP_S_PER_WEIGHT = 4e-9
"""The time to change a weight in a training step."""
VIEW_S_PER_PIXEL = {False: 2e-9, True: 6e-9}
"""The time to resize an image; True: including augmentation."""


def bound_images(
    parameters: ImageClassificationParameters, model: nn.Module, view: View, image_size: tuple[int, int, int]
) -> tuple[int | None, int | None]:
    """The numbers of training and test images that a task may use; None: all images.

    The parameters may give them. Otherwise there is no bound, unless the task is `bounded`: then as many are used as
    take about 20 s on one core, training and test together. The model's operations on one image are counted; it may be
    in evaluation mode afterwards. The image size is channels, height and width.
    """
    train_images, test_images = parameters.train_images, parameters.test_images
    if not parameters.bounded or (train_images and test_images):
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
