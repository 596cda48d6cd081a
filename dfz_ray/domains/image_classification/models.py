"""The classifiers: small_cnn, resnet18 and small_vit."""

from __future__ import annotations

import torch
from torch import nn

LARGEST_UNPOOLED_SIDE = 4
SMALL_IMAGE_SIDE = 64
LEARNING_RATES = {"small_cnn": 4e-3, "resnet18": 1e-3, "small_vit": 2e-3}
"""Adam's first step sizes. On digits, half of it costs small_cnn two points of accuracy."""
WIDTH, DEPTH, HEADS = 64, 4, 4
"""Features, blocks and attention heads of the transformer."""
MOST_PATCHES_A_SIDE = 8
SMALLEST_PATCH = 2


def build_model(name: str, image_size: tuple[int, int, int], classes: int) -> nn.Module:
    """A model with random weights, drawn from torch's generator of the CPU.

    The image size is channels, height and width; images are square.
    """
    channels, side, _ = image_size
    builders = {"small_cnn": _small_cnn, "resnet18": _resnet18, "small_vit": SmallTransformer}
    return builders[name](channels, side, classes)


def _small_cnn(channels: int, side: int, classes: int) -> nn.Module:
    """Two convolutions, and one more for each halving until the map is 4x4 or smaller; 9,930 weights for digits.

    On images of more than 64 pixels the first one has a stride, so that its map is no larger than 64x64.
    """
    stride = -(-side // SMALL_IMAGE_SIDE)
    layers: list[nn.Module] = [_first_convolution(channels, stride), nn.ReLU()]
    side = -(-side // stride)
    width = 16
    while True:
        wider = min(2 * width, 64)
        layers += [nn.Conv2d(width, wider, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
        width, side = wider, side // 2
        if side <= LARGEST_UNPOOLED_SIDE:
            return nn.Sequential(*layers, nn.Flatten(), nn.Linear(width * side**2, classes))


def _first_convolution(channels: int, stride: int) -> nn.Conv2d:
    if stride == 1:
        return nn.Conv2d(channels, 16, 3, padding=1)
    return nn.Conv2d(channels, 16, 2 * stride + 1, stride=stride, padding=stride)


def _resnet18(channels: int, side: int, classes: int) -> nn.Module:
    """ResNet-18 (He et al., 2016, Deep Residual Learning), whose stem keeps the resolution of small images (their
    section 4.2, on CIFAR-10): 3x3 without stride and pooling in place of 7x7 with both.
    """
    from torchvision.models import resnet18

    model: nn.Module = resnet18(weights=None, num_classes=classes)
    if side < SMALL_IMAGE_SIDE:
        model.conv1 = nn.Conv2d(channels, 64, 3, padding=1, bias=False)
        model.maxpool = nn.Identity()
    else:
        model.conv1 = nn.Conv2d(channels, 64, 7, stride=2, padding=3, bias=False)
    return model


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
    """Attention among the patches, then a network on each of them; both get normalised features."""

    def __init__(self) -> None:
        super().__init__()
        self.norm_attention, self.norm_network = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.project_in, self.project_out = (nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH))
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
