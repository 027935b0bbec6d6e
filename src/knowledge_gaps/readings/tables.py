"""The two tables of a study, and the iteration table that is read from them.

detections.csv has a row per generator instance and classifier instance, quality.csv a row per
generator instance; every number of the report is a reading of these two. The readings along one
axis (phi, number of generators) are in `knowledge_gaps.readings.sweeps`, all readings of a
study together in `knowledge_gaps.readings.collected`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from knowledge_gaps.core.columns import (
    CLASSIFIER_COHORT,
    CLASSIFIER_INSTANCE,
    GENERATOR_COHORT,
    GENERATOR_INSTANCE,
    IN_LOSS,
    IN_TRAINING,
    NUM_IMAGES,
    PHI,
    Cast,
    check_unique,
    read_columns,
    read_header,
)
from knowledge_gaps.core.errors import UserError
from knowledge_gaps.readings.pairs import PairSet
from knowledge_gaps.statistics.measures import (
    AUC,
    AVERAGE_PRECISION,
    BALANCED_ACCURACY,
    C2ST_LOG10_P,
    CALIBRATION_ERROR,
    DETECTION_AT_1PCT,
    DETECTION_AT_5PCT,
    DETECTION_RATE,
    EQUAL_ERROR_RATE,
    FID,
    FRECHET,
    METRICS,
    REAL_ACCURACY,
    find_metric_of,
)
from knowledge_gaps.study import Iteration
from knowledge_gaps.study.schema import ArchitecturePair

COLLAPSE = "collapse"  # a word: empty, collapsed, reduced or intact

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
    BALANCED_ACCURACY: Cast.SHARE,
    AVERAGE_PRECISION: Cast.SHARE,
    DETECTION_AT_1PCT: Cast.SHARE,
    DETECTION_AT_5PCT: Cast.SHARE,
    EQUAL_ERROR_RATE: Cast.SHARE,
    CALIBRATION_ERROR: Cast.SHARE,
    C2ST_LOG10_P: Cast.NUMBER,
}
_QUALITY_COLUMNS = {
    GENERATOR_COHORT: Cast.NAME,
    GENERATOR_INSTANCE: Cast.COUNT,
    PHI: Cast.NUMBER,
    COLLAPSE: Cast.NAME,
}


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
    metrics = {name: _get_metric(name) for name in header}
    for metric in METRICS:
        if metric not in metrics.values():
            found = ", ".join(header)
            raise UserError(f"{path}: no column starts with '{metric}_' (found: {found})")
    numbers = {name: Cast.NUMBER for name, metric in metrics.items() if metric is not None}
    frame = read_columns(path, {**_QUALITY_COLUMNS, **numbers})
    check_unique(path, frame, _GENERATOR_KEY)
    return frame


def find_metric(quality: pd.DataFrame, metric: str) -> str:
    """Return the name of the first column of a metric, such as "fid_lenet_4k" for "fid".

    The readings have one key for the Frechet distance, FID, whatever it is called in features of
    the study's extractor: "frechet_random_vgg_4k" is found by "fid" too.
    """
    return next(str(name) for name in quality.columns if _get_metric(str(name)) == metric)


def _get_metric(column: str) -> str | None:
    metric = find_metric_of(column)
    return FID if metric == FRECHET else metric


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


def count_collapse(quality: pd.DataFrame, cohort: str) -> dict[str, int]:
    """Count the instances of a cohort by the verdict on their diversity."""
    words = quality.loc[quality[GENERATOR_COHORT] == cohort, COLLAPSE]
    return {str(word): int(number) for word, number in words.value_counts().sort_index().items()}


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
    return detections[is_chosen & pairs.select(detections)]


def make_iteration_table(
    detections: pd.DataFrame,
    quality: pd.DataFrame,
    iterations: Sequence[Iteration | ArchitecturePair],
    pairs: PairSet = PairSet.HELD_OUT,
) -> IterationTable:
    """Read the detection rate of every iteration's classifiers on every iteration's generators.

    Args:
        detections: as from `read_detections`.
        quality: as from `read_quality`.
        iterations: iteration 0 first; one without classifiers makes a column and no row. Or the
            entries of the paper's table A, which is read in the same way.
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
