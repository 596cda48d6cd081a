"""The parameters of image_classification that older scripts give: they are real, and bounded where they cost."""

from __future__ import annotations

import random
import time
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from support.amount import amount

from dfz_ray.domains.image_classification.domain import DOMAIN
from dfz_ray.domains.image_classification.parameters import ImageClassificationParameters
from dfz_ray.specs.encoding import decode, encode
from dfz_ray.specs.problems import find_problems

torch = pytest.importorskip("torch")
pytest.importorskip("torchvision")
pytest.importorskip("sklearn")

SCORES = ("main_score", "confusion_matrix", "training_curve", "per_level", "classes")
QUICK: dict[str, Any] = {"image_size": 32, "num_categories": 3, "train_images": 24, "test_images": 12}


def parameters(**values: Any) -> ImageClassificationParameters:
    return ImageClassificationParameters.model_validate(values)


def compute(seed: int = 0, **values: Any) -> dict[str, Any]:
    result: dict[str, Any] = DOMAIN.compute(parameters(**values), seed, 1)
    return result


def scores_of(result: dict[str, Any]) -> dict[str, Any]:
    return {key: result[key] for key in SCORES}


def refusals(**values: Any) -> list[str]:
    """All that is said against parameters, in the words that their writer reads."""
    with pytest.raises(ValidationError) as caught:
        parameters(**values)
    return [str(problem) for problem in find_problems(caught.value, ImageClassificationParameters, "parameters")]


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"image_size": 31}, "parameters.image_size: found 31; expected 32 to 1024"),
        ({"image_size": 1025}, "parameters.image_size: found 1025; expected 32 to 1024"),
        ({"image_size": [64, 64]}, "parameters.image_size: found [64, 64]; expected a valid integer"),
        ({"num_categories": 1}, "parameters.num_categories: found 1; expected 2 to 9"),
        ({"num_categories": 10}, "parameters.num_categories: found 10; expected 2 to 9"),
        (
            {"data_source": "imagefolder:"},
            "parameters.data_source: found 'imagefolder:'; expected imagefolder:PATH, with",
        ),
        ({"data_source": "torchvision:MNIST"}, "expected torchvision:NAME:ROOT, with nothing left out"),
        ({"augmentation": "yes"}, "parameters.augmentation: found 'yes'; expected a valid boolean"),
        (
            {"model_type": "transformer"},
            "parameters.model_type: found 'transformer'; expected 'cnn', 'resnet' or 'vit'",
        ),
        ({"train_images": 1}, "parameters.train_images: found 1; expected 2 to 10000000"),
        ({"test_images": 0}, "parameters.test_images: found 0; expected 2 to 10000000"),
        (
            {"model_type": "resnet", "model": "small_cnn"},
            "parameters.model: found 'small_cnn'; expected 'resnet18', as model_type is 'resnet'",
        ),
        (
            {"num_categories": 3, "target_classes": ["1", "2"]},
            "parameters.num_categories: found 3; expected 2, as target_classes names so many",
        ),
    ],
)
def test_what_cannot_be_is_refused(values: dict[str, Any], said: str) -> None:
    """A value out of range, or two that contradict each other, are refused by one message with what was expected."""
    found = refusals(**values)
    assert len(found) == 1
    assert said in found[0]


def test_a_source_with_too_few_classes_is_told(tmp_path: Any) -> None:
    """More categories than the data source has classes are refused before the run."""
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "1.png").write_bytes(b"")
    (found,) = refusals(data_source=f"imagefolder:{tmp_path}", num_categories=3)
    assert "parameters.num_categories: found 3; expected at most 2, the classes of the data source" in found


@pytest.mark.parametrize(
    ("given", "means"),
    [
        ({}, ("small_cnn", 3, 32)),
        ({"model_type": "cnn"}, ("small_cnn", 3, 32)),
        ({"model_type": "cnn", "model": "small_cnn", "image_size": 64}, ("small_cnn", 3, 32)),
        ({"model_type": "cnn", "image_size": 64, "bounded": True}, ("small_cnn", 3, 8)),
        ({"model_type": "resnet"}, ("resnet18", 3, 32)),
        ({"model_type": "resnet", "image_size": 64}, ("resnet18", 3, 32)),
        ({"model_type": "resnet", "image_size": 64, "bounded": True}, ("resnet18", 1, 8)),
        ({"model_type": "resnet", "image_size": 64, "epochs": 5, "batch_size": 16}, ("resnet18", 5, 16)),
        ({"model": "resnet18"}, ("resnet18", 3, 32)),
        ({"model_type": "vit"}, ("small_vit", 6, 32)),
        ({"model": "small_vit", "image_size": 64}, ("small_vit", 6, 32)),
    ],
)
def test_what_is_meant(given: dict[str, Any], means: tuple[str, int, int]) -> None:
    """model_type is another name of the model; defaults follow from what is given, which always wins."""
    checked = parameters(**given)
    assert (checked.model, checked.epochs, checked.batch_size) == means
    assert ImageClassificationParameters.model_validate(decode(encode(checked.model_dump()))) == checked


def test_nothing_is_bounded_unasked() -> None:
    """A task uses all images, whatever it asks for; only a bounded one does not."""
    details = compute(epochs=1, difficulty="hard", augmentation=True, num_categories=3)["model_details"]
    assert details["train_images"] == details["train_images_at_hand"] > 100
    assert details["test_images"] == details["test_images_at_hand"] > 100
    assert (details["bounded"], details["augmentation"], details["num_categories"]) == (False, True, 3)


def test_model_type_trains_the_model_that_it_names() -> None:
    """cnn gives the scores of small_cnn."""
    assert scores_of(compute(model_type="cnn", epochs=1)) == scores_of(compute(model="small_cnn", epochs=1))


def test_num_categories_are_the_first_classes() -> None:
    """Three categories are the first three classes, learned and tested alone, as if they were named."""
    result = compute(num_categories=3, epochs=2)
    assert result["classes"] == ["0", "1", "2"]
    assert np.array(result["confusion_matrix"]).shape == (3, 3)
    assert result["main_score"] > 0.8
    named = compute(target_classes=["0", "1", "2"], epochs=2)
    assert scores_of(result) == scores_of(named)
    both = compute(num_categories=3, target_classes=["2", "0", "1"], epochs=2)
    assert both == result


@pytest.mark.parametrize("model_type", ["cnn", pytest.param("resnet", marks=pytest.mark.long), "vit"])
def test_images_are_resized_for_every_model(model_type: str) -> None:
    """Each model is trained on images of the size asked for, says so, and gives the same result again."""
    task = {**QUICK, "model_type": model_type, "image_size": 33, "augmentation": True, "epochs": 2}
    result = compute(**task)
    details = result["model_details"]
    assert (details["image_size"], details["source_image_size"]) == ([1, 33, 33], [1, 8, 8])
    assert (details["num_categories"], details["epochs"], details["augmentation"]) == (3, 2, True)
    assert (details["train_images"], details["test_images"]) == (24, 12)
    assert details["train_images_at_hand"] > 400
    assert result["training_curve"][1]["loss"] != result["training_curve"][0]["loss"]
    assert compute(**task) == result


@pytest.mark.long
def test_resized_digits_are_learned() -> None:
    """On digits of 32x32 pixels the small network and the transformer learn to tell three classes apart."""
    for model_type in ("cnn", "vit"):
        result = compute(model_type=model_type, image_size=32, num_categories=3, test_images=90)
        assert result["main_score"] > 0.75


def test_size_is_no_difficulty() -> None:
    """The noise of a difficulty is on the pixels of the source: resizing shows the same images in another size."""
    from dfz_ray.domains.image_classification.training import resized

    images = torch.tensor(np.random.default_rng(0).random((2, 1, 8, 8), np.float32))
    larger = resized(32)(images)
    assert larger.shape == (2, 1, 32, 32)
    assert torch.nn.functional.avg_pool2d(larger, 4).sub(images).abs().mean() < 0.15
    assert resized(4)(torch.full((1, 3, 64, 64), 0.25)).tolist() == torch.full((1, 3, 4, 4), 0.25).tolist()
    checkers = (torch.arange(64)[:, None] + torch.arange(64)).remainder(2).float()[None, None]
    assert resized(32)(checkers).sub(0.5).abs().max() < 0.1  # every pixel counts, not only each second one


def test_augmentation_moves_and_turns() -> None:
    """Each view of an image is another one, moved by no more than a tenth of its side and turned by a few degrees."""
    from dfz_ray.domains.image_classification.training import augmented, plain

    dot = torch.zeros(200, 1, 41, 41)
    dot[:, :, 20, 20] = 1
    seen = augmented(plain, np.random.default_rng(0))(dot)
    at = seen.flatten(1).argmax(1)
    offsets = torch.stack([at // 41 - 20, at % 41 - 20], 1)
    assert offsets.abs().max() == 4
    assert len(set(map(tuple, offsets.tolist()))) > 40
    assert torch.equal(seen, augmented(plain, np.random.default_rng(0))(dot))

    bar = torch.zeros(200, 1, 41, 41)
    bar[:, :, :, 20] = 1
    slopes = [
        np.polyfit(np.arange(10, 31), image[0, 10:31].argmax(1).numpy(), 1)[0]
        for image in augmented(plain, np.random.default_rng(1))(bar)
    ]
    assert 0.1 < np.abs(slopes).max() < np.tan(np.radians(12))
    assert np.std(slopes) > 0.05

    white = augmented(plain, np.random.default_rng(2))(torch.ones(5, 1, 9, 9))
    assert white.sub(1).abs().max() < 1e-5  # nothing dark comes in from outside


def test_augmentation_is_of_training_only_and_follows_the_seed() -> None:
    """Augmentation changes the training and not which images are tested, and the same seed gives the same result."""
    task = {**QUICK, "epochs": 2}
    moved, still = compute(5, **task, augmentation=True), compute(5, **task, augmentation=False)
    assert moved["training_curve"] != still["training_curve"]
    assert moved == compute(5, **task, augmentation=True)
    per_class = [{name: one["test_images"] for name, one in result["per_class"].items()} for result in (moved, still)]
    assert per_class[0] == per_class[1] == {"0": 4, "1": 4, "2": 4}


def test_fewer_images_are_the_first_of_each_class() -> None:
    """Fewer images are as many of each class, one at least, and the ones that come first among all."""
    from dfz_ray.domains.image_classification.sources import Digits
    from dfz_ray.domains.image_classification.split import DIFFICULTIES, split_images

    full = split_images(Digits().load(), range(10), DIFFICULTIES["easy"], 1)
    some = full.take(57, 3)
    assert np.bincount(some.train.labels).tolist() == [5] * 10
    assert np.bincount(some.test.labels).tolist() == [1] * 10
    for label in range(10):
        first = full.train.positions[full.train.labels == label][:5]
        assert np.array_equal(some.train.positions[some.train.labels == label], first)
    assert np.array_equal(full.take(None, 10**6).test.positions, full.test.positions)


@pytest.mark.parametrize("side", [8, 9, 32, 63, 64, 65, 129, 255])
@pytest.mark.parametrize("name", ["small_cnn", "resnet18", "small_vit"])
def test_models_take_images_of_any_size(name: str, side: int) -> None:
    """Every model takes square images of any size, with one channel or three."""
    from dfz_ray.domains.image_classification.models import build_model

    with torch.random.fork_rng(devices=()), torch.no_grad():
        for channels in (1, 3):
            model = build_model(name, (channels, side, side), 5)
            assert model(torch.zeros(2, channels, side, side)).shape == (2, 5)


def bounds(**values: Any) -> tuple[int | None, int | None]:
    """How many digits a bounded task may use."""
    from dfz_ray.domains.image_classification.bounds import bound_images
    from dfz_ray.domains.image_classification.models import build_model
    from dfz_ray.domains.image_classification.training import plain, resized

    checked = parameters(**{"bounded": True, **values})
    side = checked.image_size or 8
    with torch.random.fork_rng(devices=()):
        model = build_model(checked.model, (1, side, side), 9)
    return bound_images(checked, model, resized(side) if checked.image_size else plain, (1, 8, 8))


@pytest.mark.parametrize("model_type", ["cnn", pytest.param("resnet", marks=pytest.mark.long), "vit"])
def test_what_costs_more_gets_fewer_images(model_type: str) -> None:
    """The larger the images, the more the epochs, and the more is done to an image, the fewer images are used."""

    def numbers(image_size: int, **values: Any) -> tuple[int, int]:
        train, test = bounds(model_type=model_type, image_size=image_size, epochs=1, **values)
        assert train is not None
        assert test is not None
        return train, test

    train, test = numbers(255)
    assert numbers(255) == (train, test)
    assert numbers(128)[0] > train
    assert numbers(128)[1] > test
    assert numbers(255, augmentation=True)[0] <= train
    assert numbers(255, batch_size=2)[0] < train
    more_epochs, _ = bounds(model_type=model_type, image_size=255, epochs=3)
    assert more_epochs == pytest.approx(train / 3, abs=1)


def test_numbers_that_are_given_win() -> None:
    """Numbers of images that are given are used, whatever they cost; a task that is not bounded uses all others."""
    costly: dict[str, Any] = {"model_type": "resnet", "image_size": 255, "epochs": 900}
    assert bounds(**costly, train_images=5000, test_images=600) == (5000, 600)
    train, test = bounds(**costly, test_images=600)
    assert (train, test) == (0, 600)  # of which one of each class remains
    assert bounds(**costly, bounded=False) == (None, None)
    assert bounds(model="resnet18", test_images=7, bounded=False) == (None, 7)


def all_of_them() -> list[dict[str, Any]]:
    """The most costly tasks of each model, and of each way of its stem."""
    sides = {"cnn": (64, 255), "resnet": (None, 63, 64, 255), "vit": (32, 255)}
    return [{"model_type": model, "image_size": side} for model, each in sides.items() for side in each]


@pytest.mark.long
@pytest.mark.parametrize("task", all_of_them(), ids=str)
def test_the_largest_tasks_take_about_twenty_seconds(task: dict[str, Any]) -> None:
    """Bounded, with nine categories and augmentation, each model at its most costly sizes takes some 20 s of a core."""
    DOMAIN.load()
    compute(epochs=1)
    begun = time.process_time()
    result = compute(**task, num_categories=9, augmentation=True, bounded=True)
    assert time.process_time() - begun < 45  # CPU time, on a machine that may be half as fast as the one measured
    details = result["model_details"]
    assert 9 * 5 <= details["train_images"] <= details["train_images_at_hand"]
    if details["image_size"] == [1, 255, 255]:
        assert details["train_images"] < details["train_images_at_hand"]


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "image_size": st.none() | st.integers(32, 255),
            "num_categories": st.none() | st.integers(2, 9),
            "augmentation": st.booleans(),
            "bounded": st.booleans(),
            "model_type": st.sampled_from(["cnn", "resnet", "vit"]),
            "epochs": st.integers(1, 1000),
            "difficulty": st.sampled_from(["easy", "medium", "hard"]),
            "data_source": st.sampled_from(["digits", "fake"]),
            "train_images": st.none() | st.integers(2, 10_000_000),
        },
    ),
    st.integers(0, 2**64),
)
@settings(max_examples=amount(200), deadline=None)
def test_drawn_parameters_are_valid(fixed: dict[str, Any], seed: int) -> None:
    """Parameters that are drawn are valid beside any of these, and mean the same when they are read again."""
    assert DOMAIN.draw
    drawn = DOMAIN.draw(random.Random(seed), fixed)  # noqa: S311 - no secret is drawn
    checked = parameters(**drawn)
    assert all(getattr(checked, name) == value for name, value in fixed.items())
    assert ImageClassificationParameters.model_validate(decode(encode(checked.model_dump()))) == checked
    assert 10 < len(DOMAIN.kind(checked)) < 90


def test_kinds_tell_what_costs() -> None:
    """A kind names the size, the number of classes and the augmentation where they are asked for."""
    old = {"image_size": 255, "num_categories": 9, "augmentation": True, "model_type": "vit"}
    assert DOMAIN.kind(parameters(**old)) == "small_vit digits at 255 easy 9 classes augmented 6 epochs"
    assert DOMAIN.kind(parameters(train_images=50)) == "small_cnn digits easy 3 epochs of 50"
