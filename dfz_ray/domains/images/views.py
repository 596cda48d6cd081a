"""What a model sees of images: resized, and while it learns also moved and turned."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import nn

LARGEST_TURN = math.radians(10)
LARGEST_SHIFT = 0.1
"""Of the side of an image."""

View = Callable[[torch.Tensor], torch.Tensor]
"""From a batch of images, of shape (images, channels, height, width), to what a model is shown."""


def plain(images: torch.Tensor) -> torch.Tensor:
    """The images as they are."""
    return images


def resized(side: int) -> View:
    """A view in which images are squares of that side, made by bilinear interpolation."""

    def view(images: torch.Tensor) -> torch.Tensor:
        smaller = side < images.shape[-1]  # then all pixels are to count, not only those beside the new ones
        return nn.functional.interpolate(images, (side, side), mode="bilinear", align_corners=False, antialias=smaller)

    return view


def augmented(view: View, rng: np.random.Generator) -> View:
    """A view in which each image is turned by up to 10 degrees and shifted by up to a tenth, anew each time.

    What comes in from outside is the nearest pixel of the image.

    Args:
        view: what is turned and shifted.
        rng: draws how.
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
