"""The domain image_classification trains for real, and says what it measured."""

from __future__ import annotations

import functools
import itertools
import json
import random
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from support.amount import amount

from dfz_ray.domains.image_classification.domain import DOMAIN
from dfz_ray.domains.image_classification.parameters import ImageClassificationParameters
from dfz_ray.specs.input_file import FileShelf

torch = pytest.importorskip("torch")
pytest.importorskip("torchvision")
pytest.importorskip("sklearn")

DIGITS = tuple("0123456789")


def parameters(folder: Path | None = None, **values: Any) -> ImageClassificationParameters:
    """Checked as a batch file in that folder is."""
    return ImageClassificationParameters.model_validate(values, context=FileShelf(folder or Path.cwd()))


def compute(seed: int = 0, threads: int = 1, folder: Path | None = None, **values: Any) -> dict[str, Any]:
    result: dict[str, Any] = DOMAIN.compute(parameters(folder, **values), seed, threads)
    return result


@functools.cache
def measure(difficulty: str = "easy", seed: int = 0) -> dict[str, Any]:
    """One result for several tests to look at."""
    return compute(seed, difficulty=difficulty, epochs=4, hierarchy_depth=3)


def refusal(folder: Path | None = None, **values: Any) -> str:
    with pytest.raises(ValidationError) as caught:
        parameters(folder, **values)
    return str(caught.value)


@functools.cache
def digit_images() -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    from sklearn.datasets import load_digits

    digits = load_digits()
    return (digits.images * (255 / 16)).astype(np.uint8), digits.target


def write_images(root: Path, folders: dict[str, str], count: int) -> None:
    """Digits as PNG files: for each folder, `count` images of its digit."""
    from PIL import Image

    images, labels = digit_images()
    for folder, digit in folders.items():
        (root / folder).mkdir(parents=True)
        for number, index in enumerate(np.flatnonzero(labels == int(digit))[:count]):
            Image.fromarray(images[index]).save(root / folder / f"{number}.png")


def write_mnist(root: Path, train_count: int, test_count: int) -> None:
    """Digits in the files of MNIST."""
    images, labels = digit_images()
    raw = root / "MNIST" / "raw"
    raw.mkdir(parents=True)
    parts = {"train": slice(0, train_count), "t10k": slice(train_count, train_count + test_count)}
    for part, chosen in parts.items():
        for kind, values in (("images-idx3", images[chosen]), ("labels-idx1", labels[chosen].astype(np.uint8))):
            header = bytes([0, 0, 8, values.ndim]) + b"".join(size.to_bytes(4, "big") for size in values.shape)
            (raw / f"{part}-{kind}-ubyte").write_bytes(header + values.tobytes())


def test_digits_are_learned() -> None:
    """A few epochs of the small network recognise more than 85 % of digits that it has not seen."""
    result = measure()
    assert result["main_score"] == result["accuracy"] > 0.85
    assert result["details"]["majority_share"] < 0.15
    curve = result["training_curve"]
    assert [point["epoch"] for point in curve] == [1, 2, 3, 4]
    assert curve[-1]["loss"] < curve[0]["loss"] / 2
    assert curve[-1]["accuracy"] > curve[0]["accuracy"]


def is_as_before(before: dict[str, Any]) -> bool:
    """True if a result is that of a process whose torch nobody has changed."""
    now = compute(epochs=1)
    return all(now[key] == before[key] for key in ("training_curve", "confusion_matrix"))


def test_what_others_have_set_in_torch_changes_no_result() -> None:
    """A task trains in 32 bits, on the CPU and with gradients, whatever ran before it, and leaves torch as it was."""
    before = compute(epochs=1)

    with torch.no_grad():
        assert is_as_before(before)
        assert not torch.is_grad_enabled()
    with torch.inference_mode():
        assert is_as_before(before)
        assert torch.is_inference_mode_enabled()
    with torch.device("meta"):
        assert is_as_before(before)
        assert torch.empty(0).device.type == "meta"
    torch.set_default_dtype(torch.float64)
    try:
        assert is_as_before(before)
        assert torch.get_default_dtype() == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.long), pytest.param(2, marks=pytest.mark.long)])
def test_harder_tasks_score_less(seed: int) -> None:
    """With the same seed, medium scores less than easy, and hard less than medium."""
    easy, medium, hard = (measure(difficulty, seed)["accuracy"] for difficulty in ("easy", "medium", "hard"))
    assert easy > medium > hard > 0.4


def test_harder_tasks_are_tested_on_the_same_images() -> None:
    """Difficulty changes the noise and how many images are learned from, but not which ones are tested on."""
    from dfz_ray.domains.image_classification.sources import Digits
    from dfz_ray.domains.image_classification.split import Difficulty, split_images

    images = Digits().load()
    full, small = (split_images(images, range(10), Difficulty(0.0, share), seed=5) for share in (1.0, 0.3))
    other = split_images(images, range(10), Difficulty(0.0, 1.0), seed=6)
    assert len(full.train.labels) + len(full.test.labels) == len(images.labels) == 1797
    assert len(small.train.labels) == pytest.approx(0.3 * len(full.train.labels), abs=10)
    assert np.array_equal(full.test.labels, small.test.labels)
    assert np.array_equal(full.test.positions, small.test.positions)
    assert not np.array_equal(full.test.positions, other.test.positions)
    assert set(small.train.positions.tolist()) < set(full.train.positions.tolist())


def test_noise_of_an_image_is_its_own() -> None:
    """The noise of an image differs in strength alone between difficulties, and is the same whenever it is read."""
    from dfz_ray.domains.image_classification.sources import Digits
    from dfz_ray.domains.image_classification.split import Difficulty, split_images

    weak, strong = (split_images(Digits().load(), range(10), Difficulty(level, 1.0), 5).test for level in (1e-3, 2e-3))
    plain = split_images(Digits().load(), range(10), Difficulty(0.0, 1.0), 5).test
    places = np.arange(20)
    inner = (plain.read(places) > 0.1) & (plain.read(places) < 0.9)  # nothing is clipped there
    noise, twice = ((part.read(places) - plain.read(places))[inner] for part in (weak, strong))
    assert noise.std() == pytest.approx(1e-3, rel=0.2)
    assert twice == pytest.approx(2 * noise, abs=1e-5)
    assert np.array_equal(strong.read(places)[7:8], strong.read(places[7:8]))


def test_same_seed_same_result() -> None:
    """Same parameters, seed and threads give the same result to the last digit, whatever ran before."""
    torch.manual_seed(99)
    assert compute(0, difficulty="easy", epochs=4, hierarchy_depth=3) == measure()


def test_another_seed_another_result() -> None:
    """Another seed gives another confusion matrix and other losses."""
    first, second = measure("hard", 0), measure("hard", 1)
    assert first["confusion_matrix"] != second["confusion_matrix"]
    assert first["training_curve"] != second["training_curve"]


def test_tasks_on_threads_do_not_disturb_each_other() -> None:
    """Tasks that are started at once in one process get the results that they get alone."""
    seeds = range(4)
    alone = [compute(seed, difficulty="hard", epochs=1) for seed in seeds]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda seed: compute(seed, difficulty="hard", epochs=1), seeds))
    assert together == alone


def test_state_of_the_process_is_left_alone(tmp_path: Path) -> None:
    """Neither the global generators nor torch's settings are changed, not even by a task that fails."""
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    for name in ("a/1.png", "b/1.png"):
        (tmp_path / name).write_text("no image")

    def state() -> list[Any]:
        return [
            torch.get_rng_state().tolist(),
            repr(np.random.get_state()),
            random.getstate(),
            torch.are_deterministic_algorithms_enabled(),
            torch.get_num_threads(),
            torch.backends.cudnn.benchmark,
            torch.is_grad_enabled(),
        ]

    before = state()
    compute(threads=torch.get_num_threads() + 1, difficulty="hard", epochs=1)
    assert state() == before
    with pytest.raises(ValueError, match=r"images that can be opened; .*1\.png"):
        compute(data_source=f"imagefolder:{tmp_path}")
    assert state() == before


def test_result_agrees_with_itself() -> None:
    """The confusion matrix counts every test image once, and all scores follow from it."""
    from sklearn.metrics import precision_recall_fscore_support

    result = measure("hard")
    matrix = np.array(result["confusion_matrix"])
    assert result["classes"] == list(DIGITS)
    assert matrix.sum() == result["model_details"]["test_images"] == 450
    assert result["accuracy"] == np.trace(matrix) / matrix.sum()
    true = np.repeat(np.arange(10), matrix.sum(1))
    predicted = np.concatenate([np.repeat(np.arange(10), row) for row in matrix])
    precision, recall, f1, support = precision_recall_fscore_support(true, predicted)
    for number, name in enumerate(DIGITS):
        scores = result["per_class"][name]
        assert scores["precision"] == pytest.approx(precision[number])
        assert scores["recall"] == result["per_class_accuracy"][name] == pytest.approx(recall[number])
        assert scores["f1"] == pytest.approx(f1[number])
        assert scores["test_images"] == support[number]
    assert [result[key] for key in ("precision", "recall", "f1")] == pytest.approx(
        [precision.mean(), recall.mean(), f1.mean()]
    )


def test_result_is_plain_data() -> None:
    """A result is made of numbers, texts, lists and dictionaries, without NaN."""
    text = json.dumps(measure(), allow_nan=False)
    assert measure().keys() == DOMAIN.results.keys()  # `dfz domains image_classification` explains each
    assert json.loads(text) == measure()


def test_scores_of_a_class_nobody_saw_are_none() -> None:
    """A class without test images has no scores, and one that is never predicted no precision."""
    from dfz_ray.domains.image_classification.scores import score_classes

    scores = score_classes(np.array([[3, 0, 1], [2, 0, 0], [0, 0, 0]]), ["a", "b", "c"])
    assert scores["per_class_accuracy"] == {"a": 0.75, "b": 0.0, "c": None}
    assert [scores["per_class"][name]["precision"] for name in "abc"] == [0.6, None, None]
    assert scores["recall"] == pytest.approx(0.375)
    assert scores["precision"] == pytest.approx(0.3)
    assert scores["accuracy"] == 0.5


def test_groups_are_easier_than_classes() -> None:
    """Without folders, the levels are a tree over the class means, from a few groups down to the classes."""
    result = measure("hard")
    levels = result["per_level"]
    assert [len(level["groups"]) for level in levels] == [2, 5, 10]
    assert [level["level"] for level in levels] == [1, 2, 3]
    accuracies = [level["accuracy"] for level in levels]
    assert accuracies == sorted(accuracies, reverse=True)
    assert accuracies[-1] == result["accuracy"] < accuracies[0]


@given(st.integers(2, 12), st.integers(1, 10), st.integers(0, 2**32))
@settings(max_examples=amount(50), deadline=None)
def test_each_level_divides_the_groups_of_the_one_before(classes: int, depth: int, seed: int) -> None:
    """Every level of the tree cuts groups of the one before into smaller ones, down to the classes."""
    from dfz_ray.domains.image_classification.scores import levels_of_means

    levels = levels_of_means(np.random.default_rng(seed).random((classes, 16)), depth)
    assert len(levels) == min(depth, classes - 1)
    assert len(set(levels[0])) >= 2
    assert len(set(levels[-1])) == classes
    for coarse, fine in itertools.pairwise(levels):
        assert len(set(coarse)) < len(set(fine)) == len(set(zip(coarse, fine, strict=True)))


def test_target_classes_are_a_real_subset() -> None:
    """Only images of the target classes are learned and tested, in the order of the source."""
    result = compute(target_classes=["8", "1", "3"], epochs=2)
    assert result["classes"] == ["1", "3", "8"]
    assert np.array(result["confusion_matrix"]).shape == (3, 3)
    details = result["model_details"]
    assert details["train_images"] + details["test_images"] == sum((digit_images()[1] == d).sum() for d in (1, 3, 8))
    assert result["accuracy"] > 0.7
    assert result == compute(target_classes=["1", "3", "8"], epochs=2)


def test_unknown_class_is_refused_with_the_nearest_name() -> None:
    """A class that the source does not have is refused before the run, naming the nearest one it has."""
    text = refusal(target_classes=["fake_3", "fake-7"], data_source="fake")
    assert "'fake-7' is none of them, did you mean 'fake_7'?" in text
    text = refusal(target_classes=["1", "11", "cat"])
    assert "'11' is none of them, did you mean '1'?; 'cat' is none of them" in text


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"target_classes": ["1"]}, "at least 2"),
        ({"target_classes": ["1", "2", "1"]}, "'1' comes twice"),
        ({"target_classes": [1, 2]}, "valid string"),
        ({"difficulty": "easier"}, "'easy', 'medium' or 'hard'"),
        ({"hierarchy_depth": 0}, "greater than or equal to 1"),
        ({"epochs": 0}, "greater than or equal to 1"),
        ({"epochs": 2.0}, "valid integer"),
        ({"batch_size": 1}, "greater than or equal to 2"),
        ({"model": "resnet"}, "'small_cnn', 'resnet18' or 'small_vit'"),
        ({"data_source": "digit"}, "did you mean 'digits'?"),
        ({"data_source": "imagefolder:"}, "imagefolder:PATH"),
        ({"data_source": "torchvision:MNIST"}, "torchvision:NAME:ROOT"),
        ({"data_source": "torchvision:CIFAR11:/data"}, "did you mean 'CIFAR10'?"),
        ({"epoch": 3}, "Extra inputs"),
    ],
)
def test_wrong_parameters_are_refused(values: dict[str, Any], expected: str) -> None:
    """What can't be run is refused, with what was expected."""
    assert expected in refusal(**values)


def test_every_parameter_is_explained() -> None:
    """Every parameter has a description for `dfz domains`."""
    fields = DOMAIN.parameters.model_fields
    assert [name for name, field in fields.items() if not field.description] == []


def test_nested_folders_are_the_hierarchy(tmp_path: Path) -> None:
    """Classes in nested folders are grouped as their folders are; the path is relative to the batch."""
    write_images(tmp_path / "pets", {f"round/{d}": d for d in "0689"} | {f"long/{d}": d for d in "17"}, 60)
    result = compute(data_source="imagefolder:pets", folder=tmp_path, epochs=6, hierarchy_depth=4)
    assert result["classes"] == ["long/1", "long/7", "round/0", "round/6", "round/8", "round/9"]
    groups = [level["groups"] for level in result["per_level"]]
    assert groups == [[result["classes"][:2], result["classes"][2:]], [[name] for name in result["classes"]]]
    assert result["details"]["groups"] == "folders"
    assert result["per_level"][0]["accuracy"] >= result["per_level"][1]["accuracy"] > 0.6
    assert result["model_details"]["image_size"] == [1, 8, 8]
    assert result["model_details"]["test_images"] == 90
    checked = parameters(tmp_path, data_source="imagefolder:pets")
    assert checked.data_source == f"imagefolder:{tmp_path / 'pets'}"
    assert DOMAIN.kind(checked) == "small_cnn imagefolder pets easy 3 epochs"
    message = refusal(tmp_path, data_source="imagefolder:pets", target_classes=["long/1", "6"])
    assert "did you mean 'round/6'?" in message


def test_flat_folder_and_its_changes(tmp_path: Path) -> None:
    """A flat folder has a tree of class means; images that are added later are seen by the next task."""
    write_images(tmp_path, {"one": "1", "two": "2", "three": "3"}, 12)
    source = f"imagefolder:{tmp_path}"
    first = compute(data_source=source, epochs=1)
    assert [len(level["groups"]) for level in first["per_level"]] == [2, 3]
    assert (first["model_details"]["train_images"], first["model_details"]["test_images"]) == (27, 9)
    write_images(tmp_path, {"four": "4"}, 12)
    second = compute(data_source=source, epochs=1)
    assert second["classes"] == ["four", "one", "three", "two"]
    assert second["details"]["data_sha256"] != first["details"]["data_sha256"]


def test_folder_with_its_own_test_part(tmp_path: Path) -> None:
    """Folders `train` and `test` are the two parts; a class without test images has no accuracy."""
    write_images(tmp_path, {"train/a": "0", "train/b": "1", "train/c": "2", "test/a": "0", "test/b": "1"}, 15)
    result = compute(data_source=f"imagefolder:{tmp_path}", epochs=4, difficulty="hard")
    assert result["classes"] == ["a", "b", "c"]
    assert result["per_class_accuracy"]["c"] is None
    assert result["per_class"]["c"]["f1"] is None
    assert result["model_details"]["train_images"] == 3 * 4
    assert result["model_details"]["test_images"] == 2 * 15
    assert result["details"]["test_set"] == "the source's own"
    write_images(tmp_path, {"test/d": "3"}, 1)
    assert "also has 'd'" in refusal(data_source=f"imagefolder:{tmp_path}")


def test_images_of_all_sorts_become_squares_of_one_size(tmp_path: Path) -> None:
    """Colour, grey, 16-bit and differently shaped images are decoded to one size, and none is clipped to white."""
    from PIL import Image

    from dfz_ray.domains.image_classification.folders import ImageFolder

    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    (tmp_path / "a" / ".hidden.png").write_text("no image")
    (tmp_path / "a" / "notes.txt").write_text("no image")
    Image.new("RGB", (30, 20), (200, 100, 0)).save(tmp_path / "a" / "wide.jpg", quality=95)
    Image.fromarray(np.full((20, 20), 25_600, np.uint16)).save(tmp_path / "a" / "deep.png")
    Image.new("L", (10, 50), 100).save(tmp_path / "b" / "tall.bmp")
    Image.new("RGBA", (20, 40), (100, 100, 100, 255)).save(tmp_path / "b" / "clear.webp", lossless=True)
    images = ImageFolder(tmp_path).load()
    assert images.pixels.shape == (4, 3, 20, 20)
    assert images.labels.tolist() == [0, 0, 1, 1]
    deep, wide, clear, tall = images.pixels[np.arange(4)]
    assert [np.unique(image).tolist() for image in (deep, clear, tall)] == [[100]] * 3
    assert wide.mean((1, 2)) == pytest.approx([200, 100, 0], abs=3)


def test_link_that_leads_back_ends(tmp_path: Path) -> None:
    """A folder with a link to a folder around it is read once."""
    write_images(tmp_path, {"a": "1", "b": "2"}, 2)
    (tmp_path / "a" / "back").symlink_to(tmp_path)
    (tmp_path / "c").symlink_to(tmp_path / "d")
    (tmp_path / "d").mkdir()
    message = refusal(data_source=f"imagefolder:{tmp_path}", target_classes=["a", "c"])
    assert "classes of the data source (a, b)" in message


@pytest.mark.parametrize(
    ("folders", "expected"),
    [({}, "at least two subfolders"), ({"only": "1"}, "at least two subfolders; .* has 1")],
)
def test_folder_without_classes_is_refused(tmp_path: Path, folders: dict[str, str], expected: str) -> None:
    """A folder that is no classification task is refused before the run."""
    write_images(tmp_path, folders, 2)
    with pytest.raises(ValidationError, match=expected):
        parameters(tmp_path, data_source="imagefolder:.")


def test_missing_folder_is_named(tmp_path: Path) -> None:
    """A folder that is not there is refused with the place that was looked at."""
    assert f"there is none at {tmp_path / 'nowhere'}" in refusal(tmp_path, data_source="imagefolder:nowhere")


def test_too_few_images_are_refused(tmp_path: Path) -> None:
    """Where nothing is left to test on, the task fails and says so."""
    write_images(tmp_path, {"a": "1", "b": "2"}, 1)
    with pytest.raises(ValueError, match="at least one image to test on"):
        compute(data_source=f"imagefolder:{tmp_path}")


def test_missing_torchvision_files_are_named(tmp_path: Path) -> None:
    """Missing files of a torchvision set are refused before the run: which, where, and how to get them."""
    text = refusal(tmp_path, data_source="torchvision:FashionMNIST:data")
    place = tmp_path / "data"
    assert f"missing: {place}/FashionMNIST/raw/train-images-idx3-ubyte and 3 more of its 4 files" in text
    assert f"torchvision.datasets.FashionMNIST('{place}', download=True)" in text
    write_mnist(place, 4, 4)
    (place / "MNIST" / "raw" / "t10k-labels-idx1-ubyte").unlink()
    text = refusal(tmp_path, data_source="torchvision:MNIST:data")
    assert f"missing: {place}/MNIST/raw/t10k-labels-idx1-ubyte (nothing is downloaded" in text


def test_torchvision_set_is_tested_on_its_own_part(tmp_path: Path) -> None:
    """A torchvision set is read as it lies on disk, and its own test part is the test set."""
    write_mnist(tmp_path, 600, 200)
    checked = parameters(tmp_path, data_source="torchvision:MNIST:.", target_classes=["3", "5"])
    assert DOMAIN.kind(checked) == "small_cnn MNIST easy 2 classes 3 epochs"
    result = DOMAIN.compute(checked, 3, 1)
    assert result["model_details"]["test_images"] == np.isin(digit_images()[1][600:800], (3, 5)).sum()
    assert result["accuracy"] > 0.8
    assert result["details"]["test_set"] == "the source's own"


def test_damaged_torchvision_files_fail_clearly(tmp_path: Path) -> None:
    """Files that are there but wrong make the task fail with what torchvision says about them."""
    folder = tmp_path / "cifar-100-python"
    folder.mkdir()
    for name in ("train", "test", "meta"):
        (folder / name).write_text("damaged")
    with pytest.raises(ValueError, match=f"files of CIFAR100 .* under {tmp_path}: .*corrupted"):
        compute(data_source=f"torchvision:CIFAR100:{tmp_path}")


def test_fake_images_are_called_synthetic() -> None:
    """The made-up images try out the plumbing with three channels, and the result says that they are made up."""
    result = compute(data_source="fake", difficulty="medium", epochs=2, hierarchy_depth=1)
    assert result["details"]["synthetic"] is True
    assert result["model_details"]["image_size"] == [3, 16, 16]
    assert result["accuracy"] > 0.5
    assert len(result["per_level"]) == 1
    assert measure()["details"]["synthetic"] is False


@pytest.mark.long
def test_resnet18_is_trained() -> None:
    """ResNet-18 takes small grey images, and gives the same result again."""
    tiny: dict[str, Any] = {"model": "resnet18", "target_classes": ["0", "1"], "difficulty": "hard", "epochs": 2}
    tiny["batch_size"] = 80
    result = compute(**tiny)
    assert result["model_details"]["parameters"] > 11_000_000
    assert result["model_details"]["train_images"] % 80 == 1  # the one left over sits out: else training would fail
    assert result["training_curve"][1]["loss"] < result["training_curve"][0]["loss"]
    assert result == compute(**tiny)


def test_resnet18_keeps_its_stem_for_large_images() -> None:
    """From 64 pixels on, ResNet-18 begins as it was published."""
    from dfz_ray.domains.image_classification.models import build_model

    with torch.random.fork_rng(devices=()):
        model = build_model("resnet18", (3, 64, 64), 5)
    assert dict(model.named_parameters())["conv1.weight"].shape == (64, 3, 7, 7)
    assert model(torch.zeros(2, 3, 64, 64)).shape == (2, 5)


@st.composite
def given_values(draw: st.DrawFn) -> dict[str, Any]:
    """Some valid parameters, as a user fixes them for generated tasks."""
    source = draw(st.sampled_from(["digits", "fake"]))
    names = DIGITS if source == "digits" else [f"fake_{number}" for number in range(10)]
    strategies = {
        "difficulty": st.sampled_from(["easy", "medium", "hard"]),
        "target_classes": st.none() | st.lists(st.sampled_from(names), min_size=2, unique=True),
        "hierarchy_depth": st.integers(1, 10),
        "model": st.sampled_from(["small_cnn", "resnet18"]),
        "epochs": st.integers(1, 1000),
        "batch_size": st.integers(2, 4096),
    }
    fixed = draw(st.fixed_dictionaries({}, optional=strategies))
    return fixed if source == "digits" and draw(st.booleans()) else {**fixed, "data_source": source}


@given(given_values(), st.integers(0, 2**64))
@settings(max_examples=amount(200), deadline=None)
def test_drawn_parameters_are_valid(fixed: dict[str, Any], seed: int) -> None:
    """Drawn parameters are always valid, keep what was given, and are the same for the same generator."""
    assert DOMAIN.draw
    drawn, again = (DOMAIN.draw(random.Random(seed), fixed) for _ in range(2))  # noqa: S311 - no secret is drawn
    checked = parameters(**drawn)
    assert {**drawn, **fixed} == drawn
    assert drawn == again
    assert 10 < len(DOMAIN.kind(checked)) < 60


def test_kinds_are_short_and_tell_what_costs() -> None:
    """A kind names the model, the data and how much is trained; its number of levels costs nothing."""
    assert DOMAIN.kind(parameters(hierarchy_depth=5)) == DOMAIN.kind(parameters()) == "small_cnn digits easy 3 epochs"
    other = parameters(model="resnet18", difficulty="hard", epochs=1, batch_size=64, target_classes=["1", "2"])
    assert DOMAIN.kind(other) == "resnet18 digits hard 2 classes 1 epoch batch 64"


def test_nothing_heavy_is_imported_before_it_is_needed() -> None:
    """The domain is known, and its parameters are checked, without torch, torchvision, scikit-learn, scipy or NumPy."""
    program = (
        "import sys; from dfz_ray.domains.image_classification.domain import DOMAIN;"
        "DOMAIN.kind(DOMAIN.parameters(target_classes=['1', '2']));"
        "print([m for m in ('torch', 'torchvision', 'sklearn', 'scipy', 'numpy', 'PIL', 'ray') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
