"""The domain image_classification: train a classifier and measure it on images that it has not seen."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from dfz_ray.domains.domain import Domain
from dfz_ray.domains.image_classification.folders import ImageFolder
from dfz_ray.domains.image_classification.parameters import DEFAULT_BATCH_SIZE, ImageClassificationParameters
from dfz_ray.domains.image_classification.results import RESULTS
from dfz_ray.domains.image_classification.sources import Digits, ImageSource, choose_classes, parse_source

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from dfz_ray.domains.image_classification.labelled_images import LabelledImages
    from dfz_ray.domains.image_classification.split import ImageSplit
    from dfz_ray.domains.image_classification.standardised import Standardised

QUICK_EPOCHS = {"easy": (6, 12), "medium": (10, 20), "hard": (14, 28)}
"""Epochs of generated tasks, by difficulty. All take about as long, since a harder task has fewer images."""


def compute(parameters: ImageClassificationParameters, seed: int, threads: int) -> dict[str, Any]:
    """Train a classifier and measure it.

    The test set is the source's own where it has one, and else a quarter of every class, drawn from the seed
    (`split_images` says why). Equal parameters, seed and threads give the same result on the same kind of processor.

    Numbers of images that are given, and those of a `bounded` task (see `bound_images`), keep the first images of each
    class, and do not change which are for training and which for testing.

    The seed decides the split, the noise, the first weights, the order of training, and the augmentation.

    Returns:
        `main_score` and `accuracy` (share of test images recognised; 1 is the best), `precision`, `recall`, `f1` (means
        over the classes), `per_class_accuracy`, `per_class`, `confusion_matrix` (rows are true classes), `classes`,
        `per_level` (accuracy within groups of classes, coarse to fine), `training_curve`, `model_details` (the model,
        and the number and size of its images), `device` (type, name and peak memory), `warnings` (texts), `details`.

    Raises:
        ValueError: the images can't be read, or are too few.
    """
    from dfz_ray.domains.image_classification.labelled_images import load_images
    from dfz_ray.domains.image_classification.split import DIFFICULTIES, split_images

    images = load_images(_find_source(parameters))
    chosen = choose_classes(images.classes, parameters.target_classes)[: parameters.num_categories]
    at_hand = split_images(images, chosen, DIFFICULTIES[parameters.difficulty], seed)
    trained = _train_and_test(parameters, at_hand, len(chosen), seed, threads)
    return {
        **_score(parameters, images, chosen, trained.data, trained.predicted),
        "training_curve": trained.curve,
        "model_details": trained.model_details,
        "device": trained.device,
        **_look_at_data(parameters, images, chosen, trained.split),
    }


class _Trained(NamedTuple):
    """A model that was trained, and has seen the test images."""

    split: ImageSplit
    """The images that were used."""
    data: Standardised
    """The same, as the model saw them."""
    predicted: npt.NDArray[np.int64]
    """The class of each test image, as the model has it."""
    curve: list[dict[str, Any]]
    model_details: dict[str, Any]
    device: dict[str, Any]


def _train_and_test(
    parameters: ImageClassificationParameters, at_hand: ImageSplit, classes: int, seed: int, threads: int
) -> _Trained:
    """Train a model on so many classes, and show it the test images."""
    from dfz_ray.domains.gpus import assigned_gpus
    from dfz_ray.domains.image_classification import training
    from dfz_ray.domains.image_classification.bounds import bound_images
    from dfz_ray.domains.image_classification.devices import describe_device
    from dfz_ray.domains.image_classification.models import LEARNING_RATES, build_model
    from dfz_ray.domains.image_classification.split import draw_weights_seed, random_stream
    from dfz_ray.domains.image_classification.standardised import bound_bytes, standardise

    channels, own_side, _ = at_hand.train.image_size
    side = parameters.image_size or own_side
    with training.reproducible_torch(draw_weights_seed(seed), threads, assigned_gpus()) as device:
        model = build_model(parameters.model, (channels, side, side), classes).to(device)
        view = training.plain if side == own_side else training.resized(side)
        split = at_hand.take(*bound_images(parameters, model, view, at_hand.train.image_size))
        test_batch_size = training.find_test_batch_size((channels, max(side, own_side), max(side, own_side)))
        memory_bytes = bound_bytes(split, side, parameters.batch_size, min(test_batch_size, len(split.test.labels)))
        data = standardise(split)
        curve = training.train(
            model,
            data.train,
            data.train.labels,
            epochs=parameters.epochs,
            batch_size=parameters.batch_size,
            learning_rate=LEARNING_RATES[parameters.model],
            rng=random_stream(seed, "order"),
            view=training.augmented(view, random_stream(seed, "augmentation")) if parameters.augmentation else view,
        )
        predicted = training.predict(model, data.test, len(data.test), view, test_batch_size)
        model_details = {
            **_describe_model(parameters, model, device.type),
            **_describe_images(at_hand, split, [channels, side, side]),
            "num_categories": classes,
            "pixel_memory_limit_bytes": memory_bytes,
        }
        device_used = describe_device(device)
        del model  # so that its memory on the GPU is free at the end of this block
    return _Trained(split, data, predicted, curve, model_details, device_used)


def _find_source(parameters: ImageClassificationParameters) -> ImageSource:
    source = parse_source(parameters.data_source)
    if isinstance(source, ImageFolder):  # decoded at the size at which images are shown, unless their own is smaller
        return replace(source, largest_side=parameters.image_size, skips_bad=parameters.on_bad_image == "skip")
    return source


def _describe_images(at_hand: ImageSplit, used: ImageSplit, shown_size: list[int]) -> dict[str, Any]:
    """The sizes and numbers of the images: those at hand, and those used."""
    return {
        "image_size": shown_size,
        "source_image_size": list(at_hand.train.image_size),
        "train_images": len(used.train.labels),
        "test_images": len(used.test.labels),
        "train_images_at_hand": len(at_hand.train.labels),
        "test_images_at_hand": len(at_hand.test.labels),
    }


def _describe_model(parameters: ImageClassificationParameters, model: Any, device: str) -> dict[str, Any]:
    """The model as it was trained."""
    from dfz_ray.domains.image_classification.models import LEARNING_RATES

    return {
        "name": parameters.model,
        "parameters": sum(weight.numel() for weight in model.parameters()),
        "epochs": parameters.epochs,
        "batch_size": parameters.batch_size,
        "learning_rate": LEARNING_RATES[parameters.model],
        "augmentation": parameters.augmentation,
        "bounded": parameters.bounded,
        "device": device,
    }


def _score(
    parameters: ImageClassificationParameters,
    images: LabelledImages,
    chosen: Sequence[int],
    data: Standardised,
    predicted: npt.NDArray[np.int64],
) -> dict[str, Any]:
    """The keys of the result that judge the predictions."""
    from dfz_ray.domains.image_classification import scores

    classes = [images.classes[position] for position in chosen]
    confusions = scores.count_confusions(data.test.labels, predicted, len(classes))
    if images.lineage:
        levels = scores.levels_of_lineage([images.lineage[position] for position in chosen], parameters.hierarchy_depth)
    else:
        levels = scores.levels_of_means(data.class_means, parameters.hierarchy_depth)
    class_scores = scores.score_classes(confusions, classes)
    return {
        "main_score": class_scores["accuracy"],
        **class_scores,
        "confusion_matrix": confusions.tolist(),
        "classes": classes,
        "per_level": scores.score_levels(levels, confusions, classes),
    }


def _look_at_data(
    parameters: ImageClassificationParameters, images: LabelledImages, chosen: Sequence[int], split: ImageSplit
) -> dict[str, Any]:
    """The keys of the result that describe the data, and warn of what makes its scores worth less."""
    from dfz_ray.domains.image_classification.split import DIFFICULTIES

    copies, tested = split.count_copies(), len(split.test.labels)
    bad = [*images.bad_images, *(images.own_test.bad_images if images.own_test else ())]
    warnings = list(images.notes)
    if copies:
        warnings.append(
            f"{copies} of {tested} test images are copies of training images: the scores are not those of unseen images"
        )
    for position in chosen:
        if (images.labels == position).sum() == 1:
            rest = "" if images.own_test else ", and never tested"
            warnings.append(f"class {images.classes[position]!r} has one image: it is trained on that alone{rest}")
    if bad:
        warnings.append(f"{len(bad)} images can't be decoded and were skipped, such as {bad[0]}")
    return {
        "warnings": warnings,
        "details": {
            **DIFFICULTIES[parameters.difficulty]._asdict(),
            "majority_share": max(Counter(split.test.labels.tolist()).values()) / tested,
            "test_set": "the source's own" if images.own_test else "drawn from the seed",
            "groups": "folders" if images.lineage else "Ward tree over the classes' mean training images",
            "synthetic": parameters.data_source == "fake",
            "test_images_also_in_training": copies,
            "bad_images": len(bad),
            "data_sha256": images.sha256,
        },
    }


def kind(parameters: ImageClassificationParameters) -> str:
    """Tasks of one kind train one model on about as many images for as many epochs."""
    words = [parameters.model, parse_source(parameters.data_source).label]
    if parameters.image_size is not None:
        words.append(f"at {parameters.image_size}")
    words.append(parameters.difficulty)
    classes = len(parameters.target_classes) if parameters.target_classes else parameters.num_categories
    if classes:
        words.append(f"{classes} classes")
    if parameters.augmentation:
        words.append("augmented")
    words.append(f"{parameters.epochs} epoch{'s' if parameters.epochs > 1 else ''}")
    if parameters.batch_size != DEFAULT_BATCH_SIZE:
        words.append(f"batch {parameters.batch_size}")
    if parameters.train_images is not None:
        words.append(f"of {parameters.train_images}")
    return " ".join(words)


def draw(rng: random.Random, given: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters of a quick task (about 0.2 to 1.5 s on one core) that are valid beside the given ones.

    With a size or a large model among the given ones, a task may take much longer.
    """
    difficulty = rng.choice(list(QUICK_EPOCHS))
    some_digits = sorted(rng.sample(Digits().find_classes(), 6))
    drawn: dict[str, Any] = {
        "difficulty": difficulty,
        "hierarchy_depth": rng.randint(1, 3),
        "target_classes": rng.choice([None, some_digits]),
        "epochs": rng.choice(QUICK_EPOCHS.get(str(given.get("difficulty", difficulty)), (1,))),
    }
    if given.get("data_source", "digits") != "digits":
        drawn |= {"target_classes": None, "epochs": 1}
    if given.get("model", "small_cnn") != "small_cnn":
        drawn["epochs"] = 1
    if given.get("num_categories") is not None:
        drawn["target_classes"] = None
    older = given.get("image_size") is not None or given.get("model_type") is not None
    if older or given.get("model") == "small_vit":
        del drawn["epochs"]  # the default does for any size and model
    return {**drawn, **given}


DOMAIN = Domain(
    name="image_classification",
    parameters=ImageClassificationParameters,
    compute=compute,
    kind=kind,
    results=RESULTS,
    version=2,
    volatile=frozenset({"device"}),  # its name and the peak of its memory
    draw=draw,
    picks_gpu=True,
    exclusive=True,  # torch's number of threads and its determinism are state of the process
    libraries=("torch", "torchvision", "sklearn"),
    extra="image",
    summary="Train an image classifier and measure it on images that it has not seen.",
    repeatable=True,
)
