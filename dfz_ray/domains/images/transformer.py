"""A small vision transformer."""

from __future__ import annotations

import torch
from torch import nn

WIDTH, DEPTH, HEADS = 64, 4, 4
MOST_PATCHES_A_SIDE = 8
SMALLEST_PATCH = 2


class SmallTransformer(nn.Module):
    """A vision transformer (Dosovitskiy et al., 2021, An Image is Worth 16x16 Words) of four blocks and 64 features.

    An image is cut into at most 8x8 patches, so that a large one costs little more than a small one. The class is read
    from the mean over the patches. Attention is written out: PyTorch's own is not deterministic on a GPU.
    """

    def __init__(self, channels: int, side: int, classes: int) -> None:
        super().__init__()
        patch = max(SMALLEST_PATCH, -(-side // MOST_PATCHES_A_SIDE))
        patches = -(-side // patch)
        self.edge = patches * patch - side
        self.embedding = nn.Conv2d(channels, WIDTH, patch, stride=patch)
        self.places = nn.Parameter(0.02 * torch.randn(1, patches**2, WIDTH))
        self.blocks = nn.Sequential(*(_Block() for _ in range(DEPTH)))
        self.norm = nn.LayerNorm(WIDTH)
        self.head = nn.Linear(WIDTH, classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Scores of the classes, of shape (images, classes)."""
        padded = nn.functional.pad(images, (0, self.edge, 0, self.edge))
        patches = self.embedding(padded).flatten(2).transpose(1, 2) + self.places
        scores: torch.Tensor = self.head(self.norm(self.blocks(patches)).mean(1))
        return scores


class _Block(nn.Module):
    """Attention among the patches, and a network on each of them, both on what is normalised before."""

    def __init__(self) -> None:
        super().__init__()
        self.norm_attention, self.norm_network = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.project_in, self.project_out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.network = nn.Sequential(nn.Linear(WIDTH, 2 * WIDTH), nn.GELU(), nn.Linear(2 * WIDTH, WIDTH))

    def forward(self, patches: torch.Tensor) -> torch.Tensor:
        images, places, _ = patches.shape
        projected = self.project_in(self.norm_attention(patches)).view(images, places, 3, HEADS, WIDTH // HEADS)
        query, key, value = projected.permute(2, 0, 3, 1, 4)
        attention = (query @ key.transpose(-2, -1) * (WIDTH // HEADS) ** -0.5).softmax(-1)
        attended = (attention @ value).transpose(1, 2).reshape(images, places, WIDTH)
        patches = patches + self.project_out(attended)
        changed: torch.Tensor = patches + self.network(self.norm_network(patches))
        return changed
