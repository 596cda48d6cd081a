"""The parameters of the domain image_classification, with the other names that older scripts give them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from dfz_ray.domains.domain import Parameters
from dfz_ray.domains.image_classification.sources import choose_classes, parse_source
from dfz_ray.specs.input_file import FileShelf

DEFAULT_MODEL: Literal["small_cnn"] = "small_cnn"
DEFAULT_EPOCHS = 3
DEFAULT_BATCH_SIZE = 32
BOUNDED_BATCH_SIZE = 8
"""The default of a bounded task with resized images: it shows only few, and more steps learn more from these."""
TRANSFORMER_EPOCHS = 6
"""A transformer learns slowly, since nothing about images is built into it."""
BOUNDED_RESNET_EPOCHS = 1
"""A bounded task shows it only few large images, and it learns more from new ones than from the same again."""
MODEL_TYPES = {"cnn": "small_cnn", "resnet": "resnet18", "vit": "small_vit"}
"""Other names of the models."""
MOST_IMAGES = 10_000_000


class ImageClassificationParameters(Parameters):
    """Train an image classifier and measure it on images that it has not seen; `main_score` is the test accuracy."""

    difficulty: Literal["easy", "medium", "hard"] = Field(
        "easy",
        description="easy: the images as they are; medium: pixel noise of 0.2 (white is 1) and half of the training"
        " images; hard: noise of 0.3 and 30 % of them",
    )
    data_source: str = Field(
        "digits",
        description="digits (with scikit-learn), imagefolder:PATH (one subfolder per class, or nested ones),"
        " torchvision:NAME:ROOT (never downloaded) or fake (made-up images, to try things out)",
    )
    target_classes: list[str] | None = Field(
        None, min_length=2, description="the classes to tell apart, two at least; none: all of the source"
    )
    num_categories: int | None = Field(
        None,
        ge=2,
        le=9,
        description="the first so many classes of the source, in its order; none: all, or the target_classes",
    )
    hierarchy_depth: int = Field(
        2,
        ge=1,
        le=10,
        description="levels of groups of classes to report the accuracy for, the classes themselves included",
    )
    model_type: Literal["cnn", "resnet", "vit"] | None = Field(
        None, description="another name of the model: cnn is small_cnn, resnet is resnet18, vit is small_vit"
    )
    model: Literal["small_cnn", "resnet18", "small_vit"] = Field(
        DEFAULT_MODEL,
        description="small_cnn (quick, for small images), resnet18 (11 million weights) or small_vit (a vision"
        " transformer of 4 blocks on at most 64 patches)",
    )
    image_size: int | None = Field(
        None,
        ge=32,
        le=1024,
        description="the side, in pixels, at which images are shown (bilinear); none: as they are, in a folder as"
        " squares of the median of their shorter sides",
    )
    augmentation: bool = Field(
        False, description="whether each training image is turned by up to 10 degrees and shifted by up to 10 %, anew"
    )
    epochs: int = Field(
        DEFAULT_EPOCHS,
        ge=1,
        le=1000,
        description=f"how often every training image is shown; where not given, {TRANSFORMER_EPOCHS} for small_vit",
    )
    batch_size: int = Field(
        DEFAULT_BATCH_SIZE,
        ge=2,
        le=4096,
        description="images per training step",
    )
    train_images: int | None = Field(
        None,
        ge=2,
        le=MOST_IMAGES,
        description="training images to use at most, as many of each class and one at least; none: all",
    )
    test_images: int | None = Field(
        None,
        ge=2,
        le=MOST_IMAGES,
        description="test images to use at most, as train_images; none: all",
    )
    bounded: bool = Field(
        False,
        description="whether to use no more images than one core trains on in about 15 s, and tests in about 3 s, where"
        " their numbers are not given; with image_size the defaults are then a batch_size of"
        f" {BOUNDED_BATCH_SIZE}, and {BOUNDED_RESNET_EPOCHS} epoch for resnet18 (scripts of the older module get this)",
    )
    on_bad_image: Literal["fail", "skip"] = Field(
        "fail",
        description="an image of a folder that can't be decoded fails the task, or is left out and counted",
    )

    @model_validator(mode="before")
    @classmethod
    def _fill(cls, given: Any) -> Any:
        """Fill in the defaults that follow from other parameters, so that the stored parameters say all."""
        if not isinstance(given, Mapping):
            return given
        filled = dict(given)
        if (model_type := filled.get("model_type")) is not None:
            filled.setdefault("model", MODEL_TYPES.get(str(model_type), DEFAULT_MODEL))
        if filled.get("model") == "small_vit":
            filled.setdefault("epochs", TRANSFORMER_EPOCHS)
        if filled.get("bounded") is True and filled.get("image_size") is not None:
            filled.setdefault("batch_size", BOUNDED_BATCH_SIZE)
            if filled.get("model") == "resnet18":
                filled.setdefault("epochs", BOUNDED_RESNET_EPOCHS)
        return filled

    @field_validator("data_source")
    @classmethod
    def _check_source(cls, value: str, info: ValidationInfo) -> str:
        shelf = info.context if isinstance(info.context, FileShelf) else None
        source = parse_source(value, shelf)
        source.find_classes()  # raises if something is missing; no image is read
        return source.text

    @field_validator("target_classes")
    @classmethod
    def _know_classes(cls, value: list[str] | None, info: ValidationInfo) -> list[str] | None:
        if value is not None and "data_source" in info.data:  # else the source is refused already
            known = parse_source(info.data["data_source"]).find_classes()
            choose_classes(known or tuple(value), value)
        return value

    @field_validator("num_categories")
    @classmethod
    def _agree_with_classes(cls, value: int | None, info: ValidationInfo) -> int | None:
        if value is None or not {"data_source", "target_classes"} <= info.data.keys():
            return value
        named = info.data["target_classes"]
        if named is not None and len(named) != value:
            raise ValueError(f"{len(named)}, as target_classes names so many; or one of the two alone")
        known = parse_source(info.data["data_source"]).find_classes()
        if known is not None and len(known) < value:
            raise ValueError(f"at most {len(known)}, the classes of the data source")
        return value

    @field_validator("model")
    @classmethod
    def _agree_with_type(cls, value: str, info: ValidationInfo) -> str:
        model_type = info.data.get("model_type")
        if model_type is not None and MODEL_TYPES[model_type] != value:
            raise ValueError(f"{MODEL_TYPES[model_type]!r}, as model_type is {model_type!r}; or one of the two alone")
        return value
