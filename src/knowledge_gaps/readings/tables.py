"""The tables of a study: detections.csv, a row per pair of generator and classifier of one chain,
quality.csv, a row per generator, and judges.csv, a row per judge, pool and generator."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from knowledge_gaps.core import layout, tables
from knowledge_gaps.core.errors import UserError
from knowledge_gaps.core.tables import Cast
from knowledge_gaps.statistics import measures
from knowledge_gaps.statistics.chains import Interval, Scale, bound_mean, compute_resolution
from knowledge_gaps.study import REALS, Study
from knowledge_gaps.study.graph import list_classifiers, list_detected, list_generators

Row = Mapping[str, Any]  # numbers by name: NAME_mean, NAME_std, NAME_min, NAME_max, NAME_num, ...

COLLAPSE = "collapse"  # a word: empty, collapsed, reduced or intact

# columns that name an instance
GENERATOR = [tables.GENERATOR_COHORT, tables.GENERATOR_CHAIN, tables.GENERATOR_INSTANCE]
CLASSIFIER = [tables.CLASSIFIER_COHORT, tables.CLASSIFIER_CHAIN, tables.CLASSIFIER_INSTANCE]
_CASTS = [Cast.NAME, Cast.COUNT, Cast.COUNT]
INSTANCES = dict(zip([*GENERATOR, *CLASSIFIER], _CASTS * 2, strict=True))
_NO_SHARES = (measures.C2ST_LOG10_P, measures.MEDIAN_SCORE, measures.MEDIAN_SCORE_REAL)
_DETECTION_COLUMNS = {
    **INSTANCES,
    tables.IN_LOSS: Cast.FLAG,
    tables.IN_TRAINING: Cast.FLAG,
    tables.NUM_IMAGES: Cast.COUNT,
    **dict.fromkeys(measures.DETECTION_MEASURES, Cast.SHARE),
    **dict.fromkeys(_NO_SHARES, Cast.NUMBER),
}
_JUDGED = [tables.JUDGE, tables.POOL, *GENERATOR]
_JUDGES_COLUMNS = {
    **dict(zip(_JUDGED, [Cast.NAME, Cast.NAME, *_CASTS], strict=True)),
    tables.IN_TRAINING: Cast.FLAG,
    tables.NUM_IMAGES: Cast.COUNT,
    **dict.fromkeys(measures.DETECTION_MEASURES[:3], Cast.SHARE),
}
_QUALITY_COLUMNS = {
    **dict(zip(GENERATOR, _CASTS, strict=True)),
    tables.PHI: Cast.NUMBER,
    COLLAPSE: Cast.NAME,
}


class PairSet(StrEnum):
    """Which pairs of generator and classifier a reading takes."""

    HELD_OUT = "held_out"  # neither was trained with the other
    IN_LOSS = "in_loss"  # the classifier was in the generator's loss
    IN_TRAINING = "in_training"  # the generator was in the classifier's pool

    def select(self, detections: pd.DataFrame) -> pd.Series[bool]:
        """Say of each row of detections.csv whether it belongs to the set."""
        if self is PairSet.HELD_OUT:
            return ~detections[tables.IN_LOSS] & ~detections[tables.IN_TRAINING]
        return detections[self.value]


def read_detections(path: Path) -> pd.DataFrame:
    """Read detections.csv: a row per pair; a missing rate is NaN. Raises UserError."""
    frame = tables.read_columns(path, _DETECTION_COLUMNS)
    tables.check_unique(path, frame, [*GENERATOR, *CLASSIFIER])
    return frame


def read_quality(path: Path) -> pd.DataFrame:
    """Read quality.csv: a row per generator instance, and one of cohort "real" for the floor.

    Raises:
        UserError: when it cannot be read, or a metric has no column.
    """
    header = tables.read_header(path)
    metrics = {name: metric for name in header if (metric := _get_metric(name)) is not None}
    for metric in measures.METRICS:
        if metric not in metrics.values():
            found = ", ".join(header)
            raise UserError(f"{path}: no column starts with '{metric}_' (found: {found})")
    frame = tables.read_columns(path, {**_QUALITY_COLUMNS, **dict.fromkeys(metrics, Cast.NUMBER)})
    tables.check_unique(path, frame, GENERATOR)
    return frame


def read_tables(root: Path, study: Study) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Read the rows of a study of the two tables below a root: detections, and quality.

    Raises:
        UserError: when a table is missing or malformed, or lacks a row of the study.
    """
    reports = layout.get_reports(root, study.study.name)
    detections = read_detections(reports / layout.DETECTIONS_FILE)
    quality = read_quality(reports / layout.QUALITY_FILE)
    gans = [(cohort, *instance) for cohort, instance in list_generators(study)]
    classifiers = [(cohort, *instance) for cohort, instance in list_classifiers(study)]
    pairs = [(*one, *other) for one in gans for other in classifiers if one[1] == other[1]]
    file = reports / layout.DETECTIONS_FILE
    is_asked = find_rows(file, detections, GENERATOR + CLASSIFIER, pairs)
    is_generator = find_rows(reports / layout.QUALITY_FILE, quality, GENERATOR, gans)
    is_floor = quality[tables.GENERATOR_COHORT] == REALS
    return detections[is_asked], quality[is_generator | is_floor]


def read_judges(root: Path, study: Study, judges: Sequence[str]) -> pd.DataFrame:
    """Read judges.csv below a root: the rows of judges on a study's pools and generators.

    Raises:
        UserError: when it is missing or malformed, or lacks a row of the study.
    """
    path = layout.get_reports(root, study.study.name) / layout.JUDGES_FILE
    frame = tables.read_columns(path, _JUDGES_COLUMNS)
    tables.check_unique(path, frame, _JUDGED)
    needed = [
        (judge, pool, cohort, *instance)
        for judge in judges
        for pool in list_detected(study)
        for cohort, instance in list_generators(study)
    ]
    return frame[find_rows(path, frame, _JUDGED, needed)]


def find_metric(quality: pd.DataFrame, metric: str) -> str:
    """Return the name of the first column of a metric, such as "fid_lenet_4k" for "fid".

    The readings have one key for the Frechet distance, FID, whatever it is called in features of
    the study's extractor: "frechet_random_vgg_4k" is found by "fid" too.
    """
    return next(str(name) for name in quality.columns if _get_metric(str(name)) == metric)


def select_pairs(
    detections: pd.DataFrame, pairs: PairSet, gans: str, classifiers: str | None = None
) -> pd.DataFrame:
    """Select the pairs of one GAN cohort with one classifier cohort; None for all of these."""
    is_chosen = detections[tables.GENERATOR_COHORT] == gans
    if classifiers is not None:
        is_chosen &= detections[tables.CLASSIFIER_COHORT] == classifiers
    return detections[is_chosen & pairs.select(detections)]


def summarise(values: Iterable[float], name: str) -> dict[str, Any]:
    """Summarise numbers; those that are NaN are left out and counted.

    Returns:
        NAME_mean, NAME_std (sample standard deviation), NAME_min and NAME_max, NaN where there are
        too few numbers; NAME_num numbers and NAME_missing that are NaN.
    """
    everything = pd.Series(list(values), dtype="float64")
    numbers = everything.dropna()
    return {
        **{f"{name}_{word}": float(numbers.agg(word)) for word in ("mean", "std", "min", "max")},
        f"{name}_num": len(numbers),
        f"{name}_missing": len(everything) - len(numbers),
    }


def bound_shares(rows: pd.DataFrame, names: Sequence[str]) -> dict[str, float]:
    """Bound means over chains of columns of shares; each chain has one mean over its rows.

    Args:
        rows: perhaps none, with the chains and numbers of images that the tables name.
        names: of the columns.

    Returns:
        As of `name_bounds`, for each column.
    """
    means = rows.groupby(tables.GENERATOR_CHAIN)[list(names)].mean()  # [S, names]
    bounded: dict[str, float] = {}
    for name in names:
        interval = Interval()
        if len(rows) > 0:
            least = compute_resolution(int(rows[tables.NUM_IMAGES].min()))
            interval = bound_mean(means[name].to_numpy(), Scale.SHARE, least)
        bounded |= name_bounds(name, interval)
    return bounded


def name_bounds(name: str, interval: Interval) -> dict[str, float]:
    """Return an interval as NAME, NAME_low, NAME_high and NAME_degrees of freedom."""
    ends = interval.low, interval.high, interval.degrees
    named = dict(zip(("_low", "_high", "_degrees"), ends, strict=True))
    return {name: interval.point, **{f"{name}{end}": value for end, value in named.items()}}


def summarise_quality(quality: pd.DataFrame, cohort: str) -> Row:
    """Summarise every metric over the instances of a cohort, see `summarise`."""
    rows = quality[quality[tables.GENERATOR_COHORT] == cohort]
    summary: dict[str, Any] = {}
    for metric in measures.METRICS:
        summary |= summarise(rows[find_metric(quality, metric)], metric)
    return summary


def find_rows(
    path: Path, frame: pd.DataFrame, keys: list[str], needed: Sequence[tuple[object, ...]]
) -> npt.NDArray[np.bool_]:
    """Say of each row whether it is needed, by its key columns; UserError when one is missing."""
    found = pd.MultiIndex.from_frame(frame[keys])
    missing = [row for row in needed if row not in found]
    if missing:
        named = zip(keys, missing[0], strict=True)
        first = ", ".join(f"{column} {value}" for column, value in named)
        raise UserError(f"{path}: {len(missing)} of {len(needed)} rows are missing, first {first}")
    return found.isin(needed)


def _get_metric(column: str) -> str | None:
    metric = measures.find_metric_of(column)
    return measures.FID if metric == measures.FRECHET else metric
