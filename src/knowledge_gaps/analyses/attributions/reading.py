"""The attributions and their agreement that the stage `attributions` stored."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from knowledge_gaps.analyses.arrays import read_array
from knowledge_gaps.core import layout
from knowledge_gaps.core.errors import UserError
from knowledge_gaps.core.files import read_json
from knowledge_gaps.core.tables import CLASSIFIER_COHORT, NUM_IMAGES, Cast, read_columns

FloatArray = npt.NDArray[np.float64]

COLUMNS = {
    "images": Cast.NAME,
    CLASSIFIER_COHORT: Cast.NAME,
    "classifier_a": Cast.COUNT,
    "classifier_b": Cast.COUNT,
    "a_in_loss": Cast.FLAG,
    "b_in_loss": Cast.FLAG,
    NUM_IMAGES: Cast.COUNT,
    "spearman_mean": Cast.NUMBER,
    "spearman_std": Cast.NUMBER,
}


@dataclass(frozen=True)
class ImageSetAttributions:
    """Attributions of one set of images by K classifiers.

    Attributes:
        images: uint8 [E, C, H, W], the set's first images.
        attributions: float64 [K, E, C, H, W], logits per pixel; positive speaks for "real".
        means: float64 [K, C, H, W], mean of |attribution| over num_images images.
        num_images: how many.
    """

    images: npt.NDArray[np.uint8]
    attributions: FloatArray
    means: FloatArray
    num_images: int


@dataclass(frozen=True)
class AttributionReading:
    """Attributions by a classifier in the loss and by held-out ones, and their agreement.

    Attributes:
        gans: the GAN cohort whose loss the first classifier is in.
        classifier_cohort: of all classifiers.
        classifiers: their instances; the one in the loss first.
        sets: by GAN cohort, and the reals under their name; generator instance 0 of each.
        agreement: the rows of attributions.csv.
    """

    gans: str
    classifier_cohort: str
    classifiers: tuple[int, ...]
    sets: Mapping[str, ImageSetAttributions]
    agreement: pd.DataFrame


def read(root: Path) -> AttributionReading | None:
    """Read attributions and agreement; None when no GAN cohort of the iterations fools.

    Raises:
        UserError: when a file cannot be read or holds something else.
    """
    directory = layout.get_attributions_directory(root)
    path, reports = directory / layout.ATTRIBUTION_INDEX_FILE, layout.get_reports_directory(root)
    index = read_json(path)
    try:
        if index["gans"] is None:
            return None
        counts = {name: index["num_images"][name] for name in index["images"]}
        return AttributionReading(
            gans=index["gans"],
            classifier_cohort=index["classifier_cohort"],
            classifiers=tuple(index["classifiers"]),
            sets={name: _read_set(directory / name, num) for name, num in counts.items()},
            agreement=read_columns(reports / layout.ATTRIBUTIONS_FILE, COLUMNS),
        )
    except KeyError as error:
        raise UserError(f"{path}: key {error} is missing") from error


def _read_set(directory: Path, num_images: int) -> ImageSetAttributions:
    return ImageSetAttributions(
        images=read_array(directory / layout.EXAMPLE_IMAGES_FILE, num_dims=4).astype(np.uint8),
        attributions=read_array(directory / layout.EXAMPLE_ATTRIBUTIONS_FILE, num_dims=5),
        means=read_array(directory / layout.ATTRIBUTION_MEANS_FILE, num_dims=4),
        num_images=num_images,
    )
