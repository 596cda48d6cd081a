"""The classifiers that can be trained."""

from __future__ import annotations

from torch import nn

from dfz_ray.domains.images.transformer import SmallTransformer

LARGEST_UNPOOLED_SIDE = 4
SMALL_IMAGE_SIDE = 64
LEARNING_RATES = {"small_cnn": 4e-3, "resnet18": 1e-3, "small_vit": 2e-3}
"""Adam's first step sizes. For digits, half as much costs small_cnn two points of accuracy."""


def build_model(name: str, image_size: tuple[int, int, int], classes: int) -> nn.Module:
    """A model with random weights, drawn from torch's own generator of the CPU.

    Args:
        name: `small_cnn`, `resnet18` or `small_vit`.
        image_size: channels, height and width of an image, which is square.
        classes: how many classes there are.
    """
    channels, side, _ = image_size
    builders = {"small_cnn": _small_cnn, "resnet18": _resnet18, "small_vit": SmallTransformer}
    return builders[name](channels, side, classes)


def _small_cnn(channels: int, side: int, classes: int) -> nn.Module:
    """Two convolutions, and one more for each halving until the map is 4x4 or smaller; 9,930 weights for digits.

    The first one takes steps over images of more than 64 pixels, so that its map is no larger.
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
