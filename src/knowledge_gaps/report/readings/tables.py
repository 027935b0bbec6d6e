"""The two tables of a study, and the iteration table that is read from them.

detections.csv has a row per generator instance and classifier instance, quality.csv a row per
generator instance; every number of the report is a reading of these two. The readings along one
axis (phi, number of generators) are in `knowledge_gaps.report.readings.sweeps`, all readings of a
study together in `knowledge_gaps.report.readings.collected`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import pandas as pd

from knowledge_gaps.report.readings.columns import (
    AUC,
    CLASSIFIER_COHORT,
    CLASSIFIER_INSTANCE,
    DETECTION_RATE,
    GENERATOR_COHORT,
    GENERATOR_INSTANCE,
    IN_LOSS,
    IN_TRAINING,
    NUM_IMAGES,
    PHI,
    REAL_ACCURACY,
    Cast,
    check_unique,
    read_columns,
    read_header,
)
from knowledge_gaps.runtime.errors import UserError
from knowledge_gaps.study import Iteration

# a metric by the start of its column's name, which goes on with extractor and number of images
FID = "fid"
KID = "kid"
PRECISION = "precision"
RECALL = "recall"
CLASS_ENTROPY = "class_entropy"
METRICS = (FID, KID, PRECISION, RECALL, CLASS_ENTROPY)

_GENERATOR_KEY = (GENERATOR_COHORT, GENERATOR_INSTANCE)
_CLASSIFIER_KEY = (CLASSIFIER_COHORT, CLASSIFIER_INSTANCE)
_DETECTION_COLUMNS = {
    GENERATOR_COHORT: Cast.NAME,
    GENERATOR_INSTANCE: Cast.COUNT,
    CLASSIFIER_COHORT: Cast.NAME,
    CLASSIFIER_INSTANCE: Cast.COUNT,
    IN_LOSS: Cast.FLAG,
    IN_TRAINING: Cast.FLAG,
    NUM_IMAGES: Cast.COUNT,
    DETECTION_RATE: Cast.SHARE,
    REAL_ACCURACY: Cast.SHARE,
    AUC: Cast.SHARE,
}
_QUALITY_COLUMNS = {
    GENERATOR_COHORT: Cast.NAME,
    GENERATOR_INSTANCE: Cast.COUNT,
    PHI: Cast.NUMBER,
}


class PairSet(StrEnum):
    """Which pairs of generator and classifier a reading takes."""

    HELD_OUT = "held_out"  # neither was trained with the other
    IN_LOSS = "in_loss"  # the classifier was in the generator's loss
    IN_TRAINING = "in_training"  # the generator was in the classifier's training pool


@dataclass(frozen=True)
class Summary:
    """Mean and spread of some numbers.

    Attributes:
        mean: NaN when there are no numbers.
        std: sample standard deviation (divided by num - 1); NaN below two numbers.
        minimum: NaN when there are no numbers.
        maximum: NaN when there are no numbers.
        num: how many numbers there are.
        num_missing: how many were left out because they are no numbers.
    """

    mean: float
    std: float
    minimum: float
    maximum: float
    num: int
    num_missing: int = 0


@dataclass(frozen=True)
class Cell:
    """One cohort of classifiers on one cohort of generators: summaries over their pairs."""

    detection: Summary
    auc: Summary


@dataclass(frozen=True)
class IterationTable:
    """Classifier cohorts (rows) against GAN cohorts (columns), as in the paper's table C.

    Attributes:
        pairs: which pairs the cells are made of.
        classifiers: names of the rows.
        row_iterations: iteration of each row; the iteration of a column is its position.
        gans: names of the columns.
        cells: by (classifier cohort, GAN cohort).
        fid: by GAN cohort, over its instances.
        real_accuracy: by classifier cohort, over its instances.
    """

    pairs: PairSet
    classifiers: tuple[str, ...]
    row_iterations: tuple[int, ...]
    gans: tuple[str, ...]
    cells: Mapping[tuple[str, str], Cell]
    fid: Mapping[str, Summary]
    real_accuracy: Mapping[str, Summary]


def read_detections(path: Path) -> pd.DataFrame:
    """Read detections.csv.

    Returns:
        A row per pair; in_loss and in_training are bool, a missing rate is NaN.

    Raises:
        UserError: when the file cannot be read, a column is missing or holds something else than
            it should, or a pair stands twice.
    """
    frame = read_columns(path, _DETECTION_COLUMNS)
    check_unique(path, frame, (*_GENERATOR_KEY, *_CLASSIFIER_KEY))
    return frame


def read_quality(path: Path) -> pd.DataFrame:
    """Read quality.csv; its metrics are found by how their names start.

    Returns:
        A row per generator instance and one of cohort "real" for the floor; missing values are NaN.

    Raises:
        UserError: as `read_detections`, or when a metric has no column.
    """
    header = read_header(path)
    starts = tuple(f"{metric}_" for metric in METRICS)
    metrics = {name: Cast.NUMBER for name in header if name.startswith(starts)}
    for start in starts:
        if not any(name.startswith(start) for name in metrics):
            found = ", ".join(header)
            raise UserError(f"{path}: no column starts with {start!r} (found: {found})")
    frame = read_columns(path, {**_QUALITY_COLUMNS, **metrics})
    check_unique(path, frame, _GENERATOR_KEY)
    return frame


def find_metric(quality: pd.DataFrame, metric: str) -> str:
    """Return the name of the first column of a metric, such as "fid_lenet_4k" for "fid"."""
    return next(str(name) for name in quality.columns if str(name).startswith(f"{metric}_"))


def summarise(values: Iterable[float]) -> Summary:
    """Summarise numbers; those that are NaN are left out and counted."""
    everything = pd.Series(list(values), dtype="float64")
    numbers = everything.dropna()
    return Summary(
        mean=float(numbers.mean()),
        std=float(numbers.std(ddof=1)),
        minimum=float(numbers.min()),
        maximum=float(numbers.max()),
        num=len(numbers),
        num_missing=len(everything) - len(numbers),
    )


def summarise_quality(quality: pd.DataFrame, cohort: str) -> dict[str, Summary]:
    """Summarise every metric over the instances of a cohort, by the starts of the names."""
    rows = quality[quality[GENERATOR_COHORT] == cohort]
    return {metric: summarise(rows[find_metric(quality, metric)]) for metric in METRICS}


def summarise_real_accuracy(detections: pd.DataFrame, classifiers: str) -> Summary:
    """Summarise the share of reals called real over the instances of a classifier cohort."""
    rows = detections[detections[CLASSIFIER_COHORT] == classifiers]
    # the same number stands in every row of a classifier
    return summarise(rows.groupby(CLASSIFIER_INSTANCE)[REAL_ACCURACY].first())


def select_pairs(
    detections: pd.DataFrame, pairs: PairSet, gans: str, classifiers: str | None = None
) -> pd.DataFrame:
    """Select rows of one GAN cohort.

    Args:
        detections: the table.
        pairs: HELD_OUT leaves out a classifier that was in the generator's loss and a generator
            that the classifier was trained on; the other two take just these.
        gans: the GAN cohort.
        classifiers: the classifier cohort; None for all.
    """
    is_chosen = detections[GENERATOR_COHORT] == gans
    if classifiers is not None:
        is_chosen &= detections[CLASSIFIER_COHORT] == classifiers
    if pairs is PairSet.HELD_OUT:
        is_chosen &= ~detections[IN_LOSS] & ~detections[IN_TRAINING]
    else:
        is_chosen &= detections[IN_LOSS if pairs is PairSet.IN_LOSS else IN_TRAINING]
    return detections[is_chosen]


def make_iteration_table(
    detections: pd.DataFrame,
    quality: pd.DataFrame,
    iterations: Sequence[Iteration],
    pairs: PairSet = PairSet.HELD_OUT,
) -> IterationTable:
    """Read the detection rate of every iteration's classifiers on every iteration's generators.

    Args:
        detections: as from `read_detections`.
        quality: as from `read_quality`.
        iterations: iteration 0 first; one without classifiers makes a column and no row.
        pairs: which pairs make up a cell; a cell without pairs has NaN for its mean.
    """
    gans = tuple(iteration.gans for iteration in iterations)
    rows = {
        iteration.classifiers: number
        for number, iteration in enumerate(iterations)
        if iteration.classifiers is not None
    }
    cells = {
        (row, column): _make_cell(select_pairs(detections, pairs, column, row))
        for row in rows
        for column in gans
    }
    return IterationTable(
        pairs=pairs,
        classifiers=tuple(rows),
        row_iterations=tuple(rows.values()),
        gans=gans,
        cells=cells,
        fid={cohort: summarise_quality(quality, cohort)[FID] for cohort in gans},
        real_accuracy={name: summarise_real_accuracy(detections, name) for name in rows},
    )


def _make_cell(rows: pd.DataFrame) -> Cell:
    return Cell(detection=summarise(rows[DETECTION_RATE]), auc=summarise(rows[AUC]))
