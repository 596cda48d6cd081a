"""ResNet-18 learns what a plain loop of torch teaches it: from all training images, in all epochs that were asked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dfz_ray.domains.image_classification.domain import DOMAIN
from dfz_ray.domains.image_classification.parameters import ImageClassificationParameters

torch = pytest.importorskip("torch")
torchvision = pytest.importorskip("torchvision")
Image = pytest.importorskip("PIL.Image")

SIDE = 8


def stripes(seed: int, name: str) -> Any:
    """A grey picture of stripes in one direction, under noise; the direction is its class."""
    rng = np.random.default_rng([seed, *name.encode()])
    across, down = np.meshgrid(np.arange(SIDE), np.arange(SIDE))
    along = {"lying": down, "standing": across, "slanting": across + down}[name]
    wave = np.sin(2 * np.pi * (along / 5 + rng.random()))
    return (127 + 60 * wave + rng.normal(0, 25, (SIDE, SIDE))).clip(0, 255).astype(np.uint8)


def write(root: Path, count: int) -> None:
    """A training and a test part of the three classes."""
    for part, seeds in (("train", range(count)), ("test", range(1000, 1000 + count // 2))):
        for name in ("lying", "slanting", "standing"):
            (root / part / name).mkdir(parents=True)
            for seed in seeds:
                Image.fromarray(stripes(seed, name)).save(root / part / name / f"{seed}.png")


def read(root: Path) -> tuple[Any, Any]:
    """All pictures of a part and their labels, as torchvision reads them."""
    grey = torchvision.transforms.Compose([torchvision.transforms.Grayscale(), torchvision.transforms.ToTensor()])
    data = list(torchvision.datasets.ImageFolder(str(root), transform=grey))
    return torch.stack([image for image, _ in data]), torch.tensor([label for _, label in data])


def train_plainly(root: Path, epochs: int, batch_size: int) -> float:
    """The test accuracy of a plain loop with torchvision's own model and augmentation."""
    images, labels = read(root / "train")
    seen, true = read(root / "test")
    mean, spread = images.mean(), images.std()
    move = torchvision.transforms.RandomAffine(10, translate=(0.1, 0.1))
    threads = torch.get_num_threads()
    with torch.random.fork_rng(devices=()):
        torch.set_num_threads(1)
        torch.manual_seed(1)
        model = torchvision.models.resnet18(weights=None, num_classes=3)
        model.conv1, model.maxpool = torch.nn.Conv2d(1, 64, 3, padding=1, bias=False), torch.nn.Identity()
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
        for _ in range(epochs):
            for batch in torch.randperm(len(labels)).split(batch_size):
                moved = torch.stack([move((images[number] - mean) / spread) for number in batch])
                optimizer.zero_grad()
                torch.nn.functional.cross_entropy(model(moved), labels[batch]).backward()
                optimizer.step()
        model.eval()
        with torch.inference_mode():
            accuracy = float((model((seen - mean) / spread).argmax(1) == true).float().mean())
        torch.set_num_threads(threads)
        return accuracy


def train_ours(root: Path, epochs: int, batch_size: int) -> dict[str, Any]:
    values: dict[str, Any] = {"model_type": "resnet", "augmentation": True, "epochs": epochs, "batch_size": batch_size}
    checked = ImageClassificationParameters.model_validate({"data_source": f"imagefolder:{root}", **values})
    result: dict[str, Any] = DOMAIN.compute(checked, 0, 1)
    return result


def assert_as_a_plain_loop(root: Path, count: int, epochs: int, batch_size: int) -> None:
    write(root, count)
    result = train_ours(root, epochs, batch_size)
    assert result["model_details"]["train_images"] == 3 * count
    assert len(result["training_curve"]) == result["model_details"]["epochs"] == epochs
    assert result["main_score"] > train_plainly(root, epochs, batch_size) - 0.15
    assert result["main_score"] > 0.6


@pytest.mark.long
def test_resnet18_learns_in_two_epochs_what_a_plain_loop_learns(tmp_path: Path) -> None:
    """With augmentation, all training images are used, and the accuracy is that of a plain loop."""
    assert_as_a_plain_loop(tmp_path, count=32, epochs=2, batch_size=8)


@pytest.mark.long
def test_resnet18_learns_in_a_hundred_epochs_what_a_plain_loop_learns(tmp_path: Path) -> None:
    """The same for a hundred epochs."""
    assert_as_a_plain_loop(tmp_path, count=16, epochs=100, batch_size=24)
