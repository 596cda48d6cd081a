"""The domain image_classification: train a classifier and measure it on images that it has not seen."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, ValidationInfo, field_validator

from dfz_ray.domains.domain import Domain, Parameters
from dfz_ray.domains.image_sources import Digits, choose_classes, find_source, parse_source
from dfz_ray.specs.input_file import FileShelf

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from dfz_ray.domains.image_split import ImageSplit
    from dfz_ray.domains.labelled_images import LabelledImages

DEFAULT_BATCH_SIZE = 32
QUICK_EPOCHS = {"easy": (6, 12), "medium": (10, 20), "hard": (14, 28)}
"""Epochs of generated tasks: all take about as long, since a harder task has fewer images."""


class ImageClassificationParameters(Parameters):
    """Train an image classifier and measure it on images that it has not seen; `main_score` is the test accuracy."""

    difficulty: Annotated[
        Literal["easy", "medium", "hard"],
        Field(
            description="easy: the images as they are; medium: pixel noise of 0.2 (white is 1) and half of the training"
            " images; hard: noise of 0.3 and 30 % of them"
        ),
    ] = "easy"
    data_source: Annotated[
        str,
        Field(
            description="digits (with scikit-learn), imagefolder:PATH (one subfolder per class, or nested ones),"
            " torchvision:NAME:ROOT (never downloaded) or fake (made-up images, to try things out)"
        ),
    ] = "digits"
    target_classes: Annotated[
        list[str] | None,
        Field(min_length=2, description="the classes to tell apart, two at least; none: all of the source"),
    ] = None
    hierarchy_depth: Annotated[
        int,
        Field(
            ge=1,
            le=10,
            description="levels of groups of classes to report the accuracy for, the classes themselves included",
        ),
    ] = 2
    model: Annotated[
        Literal["small_cnn", "resnet18"],
        Field(description="small_cnn (quick, for small images) or resnet18 (11 million weights)"),
    ] = "small_cnn"
    epochs: Annotated[int, Field(ge=1, le=1000, description="how often every training image is shown")] = 3
    batch_size: Annotated[int, Field(ge=2, le=4096, description="images per training step")] = DEFAULT_BATCH_SIZE

    @field_validator("data_source")
    @classmethod
    def _find_source(cls, value: str, info: ValidationInfo) -> str:
        shelf = info.context if isinstance(info.context, FileShelf) else FileShelf()
        return find_source(value, shelf).text

    @field_validator("target_classes")
    @classmethod
    def _know_classes(cls, value: list[str] | None, info: ValidationInfo) -> list[str] | None:
        if value is not None and "data_source" in info.data:  # else it is refused already
            known = parse_source(info.data["data_source"], FileShelf()).find_classes()
            choose_classes(known or tuple(value), value)
        return value


def compute(parameters: ImageClassificationParameters, seed: int, threads: int) -> dict[str, Any]:
    """Train a classifier and measure it.

    The test set is the source's own where it has one, and else a quarter of every class, drawn from the seed (see
    `split_images` for why). Same parameters, seed and threads: the same result, on the same kind of processor.

    Args:
        parameters: what to learn, and with what.
        seed: decides the split, the noise, the first weights and the order of training.
        threads: how many threads torch may use.

    Returns:
        `main_score` and `accuracy` (share of test images recognised), `precision`, `recall`, `f1` (means over the
        classes), `per_class_accuracy`, `per_class`, `confusion_matrix` (rows are true classes), `classes`, `per_level`
        (accuracy within groups of classes, coarse to fine), `training_curve`, `model_details`, `details`.

    Raises:
        ValueError: the images can't be read, or do not suffice.
    """
    from dfz_ray.domains.image_models import LEARNING_RATES, build_model
    from dfz_ray.domains.image_split import DIFFICULTIES, draw_weights_seed, random_stream, split_images
    from dfz_ray.domains.image_training import predict, reproducible_torch, train
    from dfz_ray.domains.labelled_images import load_images

    source = parse_source(parameters.data_source, FileShelf())
    with reproducible_torch(draw_weights_seed(seed), threads) as device:
        images = load_images(source)
        chosen = choose_classes(images.classes, parameters.target_classes)
        split = split_images(images, chosen, DIFFICULTIES[parameters.difficulty], seed)
        model = build_model(parameters.model, split.image_size, len(chosen)).to(device)
        weights = sum(weight.numel() for weight in model.parameters())
        learning_rate = LEARNING_RATES[parameters.model]
        curve = train(
            model,
            split.train_pixels,
            split.train_labels,
            epochs=parameters.epochs,
            batch_size=parameters.batch_size,
            learning_rate=learning_rate,
            rng=random_stream(seed, "order"),
        )
        predicted = predict(model, split.test_pixels)
        del model  # so that its memory on the GPU is given back on leaving
    model_details = {
        "name": parameters.model,
        "parameters": weights,
        "epochs": parameters.epochs,
        "batch_size": parameters.batch_size,
        "learning_rate": learning_rate,
        "device": device.type,
        "image_size": list(split.image_size),
        "train_images": len(split.train_labels),
        "test_images": len(split.test_labels),
    }
    scores = _score(parameters, images, chosen, split, predicted)
    return {**scores, "training_curve": curve, "model_details": model_details}


def _score(
    parameters: ImageClassificationParameters,
    images: LabelledImages,
    chosen: Sequence[int],
    split: ImageSplit,
    predicted: npt.NDArray[np.int64],
) -> dict[str, Any]:
    """What the predictions for the test images are worth, and what is to be known of the data."""
    from dfz_ray.domains.class_hierarchy import levels_of_lineage, levels_of_means, score_levels
    from dfz_ray.domains.image_scores import count_confusions, score_classes
    from dfz_ray.domains.image_split import DIFFICULTIES

    classes = [images.classes[position] for position in chosen]
    confusions = count_confusions(split.test_labels, predicted, len(classes))
    if images.lineage:
        levels = levels_of_lineage([images.lineage[position] for position in chosen], parameters.hierarchy_depth)
    else:
        levels = levels_of_means(split.train_pixels, split.train_labels, parameters.hierarchy_depth)
    scores = score_classes(confusions, classes)
    return {
        "main_score": scores["accuracy"],
        **scores,
        "confusion_matrix": confusions.tolist(),
        "classes": classes,
        "per_level": score_levels(levels, confusions, classes),
        "details": {
            **DIFFICULTIES[parameters.difficulty]._asdict(),
            "majority_share": int(confusions.sum(1).max()) / len(split.test_labels),
            "test_set": "the source's own" if images.own_test else "drawn from the seed",
            "groups": "folders" if images.lineage else "Ward tree over the classes' mean training images",
            "synthetic": parameters.data_source == "fake",
            "data_sha256": images.sha256,
        },
    }


def kind(parameters: ImageClassificationParameters) -> str:
    """Tasks of one kind train one model on about as many images for as many epochs."""
    words = [parameters.model, parse_source(parameters.data_source, FileShelf()).label, parameters.difficulty]
    if parameters.target_classes is not None:
        words.append(f"{len(parameters.target_classes)} classes")
    words.append(f"{parameters.epochs} epoch{'s' if parameters.epochs > 1 else ''}")
    if parameters.batch_size != DEFAULT_BATCH_SIZE:
        words.append(f"batch {parameters.batch_size}")
    return " ".join(words)


def draw(rng: random.Random, given: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters of a quick task (about 0.2 to 1.5 s on one core) that are valid beside the given ones."""
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
    return {**drawn, **given}


DOMAIN = Domain(
    name="image_classification",
    parameters=ImageClassificationParameters,
    compute=compute,
    kind=kind,
    draw=draw,
    exclusive=True,  # the number of torch's threads, and whether it is deterministic, are matters of the process
    libraries=("torch", "torchvision", "sklearn"),
    extra="image",
    summary="Train an image classifier and measure it on images that it has not seen.",
)
