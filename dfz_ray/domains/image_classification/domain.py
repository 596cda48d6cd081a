"""The domain image_classification: train a classifier and measure it on images that it has not seen."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from dfz_ray.domains.domain import Domain
from dfz_ray.domains.image_classification.parameters import DEFAULT_BATCH_SIZE, ImageClassificationParameters
from dfz_ray.domains.image_classification.sources import Digits, choose_classes, parse_source
from dfz_ray.specs.input_file import FileShelf

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from dfz_ray.domains.image_classification.labelled_images import LabelledImages
    from dfz_ray.domains.image_classification.split import ImageSplit

RESIZED_TEST_BATCH_SIZE = 16
"""For resized images, which may be large, so that a model's activations fit into the memory."""
QUICK_EPOCHS = {"easy": (6, 12), "medium": (10, 20), "hard": (14, 28)}
"""Epochs of generated tasks, by difficulty. All take about as long, since a harder task has fewer images."""


def compute(parameters: ImageClassificationParameters, seed: int, threads: int) -> dict[str, Any]:
    """Train a classifier and measure it.

    The test set is the source's own where it has one, and else a quarter of every class, drawn from the seed
    (`split_images` says why). Equal parameters, seed and threads give the same result on the same kind of processor.

    Bounds on the numbers of images (see `bound_images`) keep the first ones of each class, and do not change which are
    for training and which for testing.

    The seed decides the split, the noise, the first weights, the order of training, and the augmentation.

    Returns:
        `main_score` and `accuracy` (share of test images recognised), `precision`, `recall`, `f1` (means over the
        classes), `per_class_accuracy`, `per_class`, `confusion_matrix` (rows are true classes), `classes`, `per_level`
        (accuracy within groups of classes, coarse to fine), `training_curve`, `model_details` (the model, and the
        number and size of its images), `details`.

    Raises:
        ValueError: the images can't be read, or are too few.
    """
    from dfz_ray.domains.image_classification import training
    from dfz_ray.domains.image_classification.bounds import bound_images
    from dfz_ray.domains.image_classification.labelled_images import load_images
    from dfz_ray.domains.image_classification.models import LEARNING_RATES, build_model
    from dfz_ray.domains.image_classification.split import DIFFICULTIES, draw_weights_seed, random_stream, split_images

    source = parse_source(parameters.data_source, FileShelf())
    with training.reproducible_torch(draw_weights_seed(seed), threads) as device:
        images = load_images(source)
        chosen = choose_classes(images.classes, parameters.target_classes)[: parameters.num_categories]
        at_hand = split_images(images, chosen, DIFFICULTIES[parameters.difficulty], seed)
        channels, side, _ = at_hand.image_size
        side = parameters.image_size or side
        model = build_model(parameters.model, (channels, side, side), len(chosen)).to(device)
        view = training.resized(side) if parameters.image_size else training.plain
        split = at_hand.take(*bound_images(parameters, model, view, at_hand.image_size))
        curve = training.train(
            model,
            split.train_pixels,
            split.train_labels,
            epochs=parameters.epochs,
            batch_size=parameters.batch_size,
            learning_rate=LEARNING_RATES[parameters.model],
            rng=random_stream(seed, "order"),
            view=training.augmented(view, random_stream(seed, "augmentation")) if parameters.augmentation else view,
        )
        test_batch_size = RESIZED_TEST_BATCH_SIZE if parameters.image_size else training.TEST_BATCH_SIZE
        predicted = training.predict(model, split.test_pixels, view, test_batch_size)
        model_details = {
            **_describe_model(parameters, model, len(curve), device.type),
            "image_size": [channels, side, side],
            **_count_images(parameters, split, at_hand, len(chosen)),
        }
        del model  # so that its memory on the GPU is free at the end of this block
    scores = _score(parameters, images, chosen, split, predicted)
    return {**scores, "training_curve": curve, "model_details": model_details}


def _describe_model(parameters: ImageClassificationParameters, model: Any, epochs: int, device: str) -> dict[str, Any]:
    """The model as it was trained."""
    from dfz_ray.domains.image_classification.models import LEARNING_RATES

    return {
        "name": parameters.model,
        "parameters": sum(weight.numel() for weight in model.parameters()),
        "epochs": epochs,
        "batch_size": parameters.batch_size,
        "learning_rate": LEARNING_RATES[parameters.model],
        "device": device,
    }


def _count_images(
    parameters: ImageClassificationParameters, split: ImageSplit, at_hand: ImageSplit, categories: int
) -> dict[str, Any]:
    """The numbers of images that were used; where they may have been bounded, also how many there were."""
    used = {"train_images": len(split.train_labels), "test_images": len(split.test_labels)}
    if not (parameters.is_bounded or parameters.train_images or parameters.test_images):
        return used
    return {
        **used,
        "augmentation": parameters.augmentation,
        "num_categories": categories,
        "source_image_size": list(at_hand.image_size),
        "train_images_at_hand": len(at_hand.train_labels),
        "test_images_at_hand": len(at_hand.test_labels),
    }


def _score(
    parameters: ImageClassificationParameters,
    images: LabelledImages,
    chosen: Sequence[int],
    split: ImageSplit,
    predicted: npt.NDArray[np.int64],
) -> dict[str, Any]:
    """The keys of the result that judge the predictions, and those that describe the data."""
    from dfz_ray.domains.image_classification import scores
    from dfz_ray.domains.image_classification.split import DIFFICULTIES

    classes = [images.classes[position] for position in chosen]
    confusions = scores.count_confusions(split.test_labels, predicted, len(classes))
    if images.lineage:
        levels = scores.levels_of_lineage([images.lineage[position] for position in chosen], parameters.hierarchy_depth)
    else:
        levels = scores.levels_of_means(split.train_pixels, split.train_labels, parameters.hierarchy_depth)
    class_scores = scores.score_classes(confusions, classes)
    return {
        "main_score": class_scores["accuracy"],
        **class_scores,
        "confusion_matrix": confusions.tolist(),
        "classes": classes,
        "per_level": scores.score_levels(levels, confusions, classes),
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
    words = [parameters.model, parse_source(parameters.data_source, FileShelf()).label]
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

    With parameters of older scripts among the given ones, a task may take up to 20 s.
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
    draw=draw,
    exclusive=True,  # torch's number of threads and its determinism are state of the process
    libraries=("torch", "torchvision", "sklearn"),
    extra="image",
    summary="Train an image classifier and measure it on images that it has not seen.",
)
