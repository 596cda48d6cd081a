"""The data sets of torchvision, as they lie on disk: nothing is ever downloaded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dfz_ray.domains.image_classification.labelled_images import LabelledImages

_TEN_DIGITS = tuple("0123456789")
_IDX_FILES = tuple(f"{part}-{kind}-ubyte" for part in ("train", "t10k") for kind in ("images-idx3", "labels-idx1"))
_BY_TRAIN: tuple[Mapping[str, Any], ...] = ({"train": True}, {"train": False})
_BY_SPLIT: tuple[Mapping[str, Any], ...] = ({"split": "train"}, {"split": "test"})


@dataclass(frozen=True)
class Layout:
    """The files of one data set, and the arguments with which torchvision reads its two parts."""

    files: tuple[str, ...]
    """Paths under the root."""
    classes: tuple[str, ...] | None
    """The class names; None where they stand only in the files."""
    parts: tuple[Mapping[str, Any], ...] = _BY_TRAIN
    """Arguments for the training and for the test part."""


def _layout(folder: str, files: tuple[str, ...], classes: tuple[str, ...] | None) -> Layout:
    return Layout(tuple(f"{folder}/{file}" for file in files), classes)


LAYOUTS: Mapping[str, Layout] = MappingProxyType(
    {
        "MNIST": _layout("MNIST/raw", _IDX_FILES, _TEN_DIGITS),
        "KMNIST": _layout("KMNIST/raw", _IDX_FILES, ("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo")),
        "FashionMNIST": _layout(
            "FashionMNIST/raw",
            _IDX_FILES,
            (
                *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
                *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
            ),
        ),
        "CIFAR10": _layout(
            "cifar-10-batches-py",
            (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch", "batches.meta"),
            ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
        ),
        "CIFAR100": _layout("cifar-100-python", ("train", "test", "meta"), None),
        "SVHN": Layout(("train_32x32.mat", "test_32x32.mat"), _TEN_DIGITS, _BY_SPLIT),
    }
)


@dataclass(frozen=True)
class TorchvisionSet:
    """A data set of torchvision under a folder; its own test part is the test set."""

    name: str
    """A key of LAYOUTS, which is also the name of torchvision's class."""
    root: Path

    @property
    def text(self) -> str:
        """As the parameter `data_source`, with an absolute path."""
        return f"torchvision:{self.name}:{self.root}"

    @property
    def label(self) -> str:
        """The name of the data in a task's kind."""
        return self.name

    def find_classes(self) -> tuple[str, ...] | None:
        """The class names; None where they are known only once the data are loaded.

        Raises:
            ValueError: files are missing.
        """
        self._check_files()
        return LAYOUTS[self.name].classes

    def fingerprint(self) -> str:
        """The sizes and times of change of the files."""
        self._check_files()
        status = [(self.root / file).stat() for file in LAYOUTS[self.name].files]
        return repr([(entry.st_size, entry.st_mtime_ns) for entry in status])

    def load(self) -> LabelledImages:
        """Read both parts.

        Raises:
            ValueError: torchvision can't read the files.
        """
        import torchvision

        from dfz_ray.domains.image_classification.labelled_images import LabelledImages

        layout = LAYOUTS[self.name]
        self._check_files()
        try:
            training, test = (
                getattr(torchvision.datasets, self.name)(str(self.root), download=False, **arguments)
                for arguments in layout.parts
            )
        except (RuntimeError, ValueError, OSError, EOFError) as error:
            raise ValueError(f"files of {self.name} that torchvision can read; under {self.root}: {error}") from error
        classes = layout.classes or tuple(training.classes)
        own_test = LabelledImages(*_arrays(test), classes)
        return LabelledImages(*_arrays(training), classes, own_test=own_test)

    def _check_files(self) -> None:
        files = LAYOUTS[self.name].files
        missing = [str(self.root / file) for file in files if not (self.root / file).is_file()]
        if missing:
            others = f" and {len(missing) - 1} more of its {len(files)} files" if len(missing) > 1 else ""
            raise ValueError(
                f"the files of {self.name} as torchvision keeps them under {self.root}; missing: {missing[0]}{others}"
                " (nothing is downloaded during a run; do it once with "
                f"torchvision.datasets.{self.name}({str(self.root)!r}, download=True))"
            )


def _arrays(data: Any) -> tuple[Any, Any]:
    """Pixels of shape (images, channels, height, width), and labels, however this data set keeps them."""
    import numpy as np

    pixels = np.asarray(data.data, dtype=np.uint8)
    if pixels.ndim == 3:
        pixels = pixels[:, np.newaxis]
    elif pixels.shape[-1] == 3:
        pixels = pixels.transpose(0, 3, 1, 2)
    labels = data.targets if hasattr(data, "targets") else data.labels
    return np.ascontiguousarray(pixels), np.asarray(labels, dtype=np.int64)
