"""Folders of images: which folders are classes, at which size images are seen, and what is told of the data."""

from __future__ import annotations

import json
import os
import shutil
import struct
import tracemalloc
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from pydantic import ValidationError

from dfz_ray.domains.image_classification.domain import DOMAIN
from dfz_ray.domains.image_classification.parameters import ImageClassificationParameters

pytest.importorskip("torch")
pytest.importorskip("torchvision")
pytest.importorskip("sklearn")
Image = pytest.importorskip("PIL.Image")

KINDS = {"bright": 200, "dark": 40}
"""Two classes that any model tells apart, by the brightness of their pixels."""


def paint(seed: int, brightness: int, side: int = 8) -> npt.NDArray[np.uint8]:
    """A picture of noise in colour; no two are equal."""
    pixels = np.random.default_rng(seed).integers(-30, 31, (side, side, 3)) + brightness
    return pixels.astype(np.uint8)


def write(folder: Path, count: int, brightness: int, *, side: int = 8, first: int = 0) -> None:
    """A folder of pictures."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(first, first + count):
        Image.fromarray(paint(1000 * brightness + number, brightness, side)).save(folder / f"{number}.png")


def write_part(root: Path, count: int, *, side: int = 8, first: int = 0) -> None:
    """Both classes."""
    for name, brightness in KINDS.items():
        write(root / name, count, brightness, side=side, first=first)


def compute(root: Path, **values: Any) -> dict[str, Any]:
    checked = ImageClassificationParameters.model_validate(
        {"data_source": f"imagefolder:{root}", "epochs": 1, **values}
    )
    result: dict[str, Any] = DOMAIN.compute(checked, 0, 1)
    json.dumps(result, allow_nan=False)
    return result


def refusal(root: Path) -> str:
    with pytest.raises(ValidationError) as caught:
        ImageClassificationParameters(data_source=f"imagefolder:{root}")
    return str(caught.value)


@pytest.mark.parametrize(
    ("train", "test"),
    [("training", "testing"), ("Train", "Test"), ("train", "holdout"), ("TRAIN", "Val"), ("Training", "Hold-Out")],
)
def test_the_parts_of_a_data_set_are_no_classes(tmp_path: Path, train: str, test: str) -> None:
    """Known names of a training and a test folder are recognised in any case."""
    write_part(tmp_path / train, 6)
    write_part(tmp_path / test, 3, first=6)
    result = compute(tmp_path)
    assert result["classes"] == ["bright", "dark"]
    assert (result["model_details"]["train_images"], result["model_details"]["test_images"]) == (12, 6)
    assert result["details"]["test_set"] == "the source's own"
    assert result["warnings"] == []


def test_a_second_test_part_is_told(tmp_path: Path) -> None:
    """Where there are a test and a validation part, the test part is used, and the result says so."""
    write_part(tmp_path / "train", 4)
    write_part(tmp_path / "Validation", 2, first=10)
    write_part(tmp_path / "test", 3, first=20)
    result = compute(tmp_path)
    assert result["model_details"]["test_images"] == 6
    assert result["warnings"] == ["the folder 'Validation' is not used"]


@pytest.mark.parametrize("others", [["learn", "check"], ["train", "extra"], ["train", "test", "more"], ["a", "b"]])
def test_a_class_in_several_outer_folders_is_refused(tmp_path: Path, others: list[str]) -> None:
    """Outer folders that hold classes of the same names are the parts of a data set, whatever they are called."""
    for number, name in enumerate(others):
        write_part(tmp_path / name, 2, first=10 * number)
    text = refusal(tmp_path)
    assert "classes that have a name of their own" in text
    assert f"has 'bright' in {' and in '.join(sorted(others))}" in text
    assert "name the parts of a data set train and test" in text


def test_pictures_of_224_pixels_are_seen_at_224(tmp_path: Path) -> None:
    """The model is shown the very pixels of the files, none resampled."""
    from dfz_ray.domains.image_classification.folders import ImageFolder

    write_part(tmp_path, 4, side=224)
    details = compute(tmp_path)["model_details"]
    assert details["image_size"] == details["source_image_size"] == [3, 224, 224]
    seen = ImageFolder(tmp_path).load().pixels[np.array([5])][0]
    assert np.array_equal(seen.transpose(1, 2, 0), paint(1000 * KINDS["dark"] + 1, KINDS["dark"], 224))


def test_an_image_size_is_decoded_to_from_the_full_resolution(tmp_path: Path) -> None:
    """A smaller size is reached from the full resolution; pictures that are smaller are shown enlarged."""
    write_part(tmp_path, 4, side=100)
    smaller = compute(tmp_path, image_size=96)["model_details"]
    assert (smaller["source_image_size"], smaller["image_size"]) == ([3, 96, 96], [3, 96, 96])
    larger = compute(tmp_path, image_size=128)["model_details"]
    assert (larger["source_image_size"], larger["image_size"]) == ([3, 100, 100], [3, 128, 128])


def test_memory_is_bounded_and_the_bound_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """More pictures than the bound allows are streamed: they take no more memory than is told, and the same result."""
    from dfz_ray.domains.image_classification import folder_pixels, labelled_images, standardised, training

    write_part(tmp_path, 45, side=96)
    held = compute(tmp_path, difficulty="medium", batch_size=4)
    monkeypatch.setattr(folder_pixels, "KEPT_BYTES", 2**18)
    monkeypatch.setattr(standardised, "HELD_BYTES", 2**18)
    monkeypatch.setattr(standardised, "BLOCK_BYTES", 2**18)
    monkeypatch.setattr(training, "TEST_BATCH_VALUES", 4 * 3 * 96**2)
    labelled_images._load.cache_clear()
    tracemalloc.start()
    try:
        streamed = compute(tmp_path, difficulty="medium", batch_size=4)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
        labelled_images._load.cache_clear()
    told = streamed["model_details"].pop("pixel_memory_limit_bytes")
    assert told < held["model_details"].pop("pixel_memory_limit_bytes")
    assert told < 90 * 3 * 96**2 * 4  # all of them, once as numbers, would not fit
    assert peak < told + 2**20  # NumPy's memory; the rest is Python's own
    assert streamed["confusion_matrix"] == held["confusion_matrix"]
    assert streamed["training_curve"][0]["loss"] == pytest.approx(held["training_curve"][0]["loss"], rel=1e-4)


def test_a_batch_that_is_too_large_is_refused(tmp_path: Path) -> None:
    """A batch whose pixels exceed the bound is refused, with what fits."""
    write_part(tmp_path, 2, side=512)
    with pytest.raises(ValueError, match=r"found batch_size 4096 at 3145728 bytes .* give batch_size 341 at most"):
        compute(tmp_path, batch_size=4096)


def test_a_batch_is_bounded_at_the_size_at_which_it_is_shown(tmp_path: Path) -> None:
    """Small images that are shown large count with their large size."""
    write_part(tmp_path, 2)
    with pytest.raises(ValueError, match=r"for an image of 1024 pixels: give batch_size 85 at most, or a smaller"):
        compute(tmp_path, batch_size=4096, image_size=1024)


def test_the_bound_on_memory_has_room_to_decode_the_largest_file(tmp_path: Path) -> None:
    """A large picture among small ones has to be decoded as a whole, and the bound that is told says so."""
    write_part(tmp_path, 4)
    before = compute(tmp_path)["model_details"]["pixel_memory_limit_bytes"]
    Image.new("L", (3000, 3000)).save(tmp_path / "dark" / "large.png")
    after = compute(tmp_path)["model_details"]["pixel_memory_limit_bytes"]
    assert after - before > 3000 * 3000 * 12  # Pillow's own: the file's pixels, upright, and in colour


def test_copies_across_training_and_test_images_are_told(tmp_path: Path) -> None:
    """Test images that were trained on are counted, whatever they are called, and the result warns of its scores."""
    write_part(tmp_path / "train", 6)
    write_part(tmp_path / "test", 4, first=50)
    for number in range(3):
        shutil.copy(tmp_path / "train" / "dark" / f"{number}.png", tmp_path / "test" / "dark" / f"copy{number}.png")
    result = compute(tmp_path)
    assert result["details"]["test_images_also_in_training"] == 3
    assert result["warnings"] == [
        "3 of 11 test images are copies of training images: the scores are not those of unseen images"
    ]


def test_a_class_of_one_image_is_told(tmp_path: Path) -> None:
    """A class of one image is trained on, never tested, and warned of."""
    write_part(tmp_path, 4)
    write(tmp_path / "lonely", 1, 120)
    assert compute(tmp_path)["warnings"] == [
        "class 'lonely' has one image: it is trained on that alone, and never tested"
    ]


@pytest.mark.parametrize("damage", ["no image", "cut off"])
def test_bad_images_fail_the_task_or_are_skipped_and_counted(tmp_path: Path, damage: str) -> None:
    """A file that is no image, or half of one, fails the task; with on_bad_image: skip the others are used."""
    write_part(tmp_path, 8, side=16)
    bad = tmp_path / "dark" / "3.png"
    bad.write_bytes(b"no image" if damage == "no image" else bad.read_bytes()[:300])
    with pytest.raises(ValueError, match=r"images that can be \w+; .*3\.png: .* \(on_bad_image: skip leaves such"):
        compute(tmp_path)
    result = compute(tmp_path, on_bad_image="skip")
    details = result["model_details"]
    assert details["train_images"] + details["test_images"] == 15
    assert result["details"]["bad_images"] == 1
    assert result["warnings"] == ["1 images can't be decoded and were skipped, such as dark/3.png"]


@pytest.mark.parametrize("hostile", ["loop", "nothing", "pipe", "device", "empty", "bomb"])
def test_files_that_only_look_like_images_are_bad_images(tmp_path: Path, hostile: str) -> None:
    """Links to nothing, pipes, devices, empty files and decompression bombs fail the task or are skipped, at once."""
    write_part(tmp_path, 4)
    bad = tmp_path / "dark" / "bad.png"
    match hostile:
        case "loop":
            bad.symlink_to(bad)
        case "nothing":
            bad.symlink_to(tmp_path / "nothing.png")
        case "pipe":
            os.mkfifo(bad)
        case "device":
            bad.symlink_to("/dev/zero")
        case "empty":
            bad.touch()
        case _:  # a header that promises 400 million pixels
            size = struct.pack(">4sIIBBBBB", b"IHDR", 20_000, 20_000, 8, 0, 0, 0, 0)
            bad.write_bytes(b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + size + struct.pack(">I", zlib.crc32(size)))
    with pytest.raises(ValueError, match=r"images that can be opened; .*bad\.png: .* \(on_bad_image: skip leaves such"):
        compute(tmp_path)
    assert compute(tmp_path, on_bad_image="skip")["details"]["bad_images"] == 1


@pytest.mark.parametrize("flat", ["train", "test"])
def test_a_part_without_classes_is_refused(tmp_path: Path, flat: str) -> None:
    """Images that lie in a part itself, not in a folder of their class, are not left out without a word."""
    other = "train" if flat == "test" else "test"
    write_part(tmp_path / other, 2)
    write(tmp_path / flat, 2, 100)
    assert f"a subfolder for each class in {tmp_path / flat}" in refusal(tmp_path)


def test_a_source_with_more_images_than_labels_is_refused() -> None:
    """Images and labels of different numbers, or labels of no class, are an error and not left out silently."""
    from dfz_ray.domains.image_classification.labelled_images import LabelledImages

    pixels = np.zeros((5, 1, 2, 2), np.uint8)
    with pytest.raises(ValueError, match="one label for each image; found 5 images and 4 labels"):
        LabelledImages(pixels, np.array([0, 1, 0, 1]), ("a", "b"))
    with pytest.raises(ValueError, match="labels from 0 to 1, as the source has so many classes; found from 0 to 2"):
        LabelledImages(pixels, np.array([0, 1, 2, 1, 0]), ("a", "b"))
