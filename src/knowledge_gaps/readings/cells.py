"""Cells: one cohort of classifiers on one cohort of generators, every statistic with its interval.

The single pairs are in detections.csv, and which of them make up a cell is said by
`knowledge_gaps.readings.tables`. The intervals are of the two-way bootstrap over generator
and classifier instances, `knowledge_gaps.statistics.bootstrap`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from knowledge_gaps.core.columns import (
    CLASSIFIER_COHORT,
    CLASSIFIER_INSTANCE,
    GENERATOR_COHORT,
    GENERATOR_INSTANCE,
)
from knowledge_gaps.readings.pairs import PairSet
from knowledge_gaps.statistics.bootstrap import (
    Interval,
    PairMatrix,
    make_interval,
    resample_cells,
)
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
    REAL_ACCURACY,
)
from knowledge_gaps.statistics.signals import Signal, classify_signals

MEASURES = (  # of a pair, shares in [0, 1]
    DETECTION_RATE,
    REAL_ACCURACY,
    BALANCED_ACCURACY,
    AUC,
    AVERAGE_PRECISION,
    DETECTION_AT_1PCT,
    DETECTION_AT_5PCT,
    EQUAL_ERROR_RATE,
    CALIBRATION_ERROR,
)

CellKey = tuple[PairSet, str, str]  # pairs, classifier cohort, GAN cohort


@dataclass(frozen=True)
class CohortCell:
    """The pairs of one cell, summed up.

    Attributes:
        num_generators: instances that take part.
        num_classifiers: as num_generators.
        num_pairs: of both.
        measures: mean over the pairs with its 95 % interval, by the name of the column.
        fooling: number of pairs by what became of the classifier's signal, see `Signal`.
        c2st_log10_p: of the pair whose two-sample test is the least certain; NaN when one lacks it.
    """

    num_generators: int
    num_classifiers: int
    num_pairs: int
    measures: Mapping[str, Interval]
    fooling: Mapping[str, int]
    c2st_log10_p: float


def make_cells(
    detections: pd.DataFrame, keys: Iterable[CellKey], seed: int
) -> dict[CellKey, CohortCell]:
    """Sum up cells of the table.

    Args:
        detections: as from `tables.read_detections`.
        keys: which cells; one without a pair is left out.
        seed: of the resamples; another one moves the bounds in their third digit.
    """
    blocks = {key: block for key in keys if len(block := _select_block(detections, key)) > 0}
    if not blocks:
        return {}
    sizes = _count_instances(detections)
    intervals = {measure: _bound(blocks, sizes, measure, seed) for measure in MEASURES}
    return {
        key: CohortCell(
            num_generators=block[GENERATOR_INSTANCE].nunique(),
            num_classifiers=block[CLASSIFIER_INSTANCE].nunique(),
            num_pairs=len(block),
            measures={measure: intervals[measure][key] for measure in MEASURES},
            fooling=_count_fooling(block),
            c2st_log10_p=float(block[C2ST_LOG10_P].max(skipna=False)),
        )
        for key, block in blocks.items()
    }


def list_keys(detections: pd.DataFrame) -> list[CellKey]:
    """List every cell that the table could have, in the order of the table."""
    cohorts = detections[[CLASSIFIER_COHORT, GENERATOR_COHORT]].drop_duplicates()
    return [
        (pairs, classifiers, gans)
        for classifiers, gans in cohorts.itertuples(index=False)
        for pairs in PairSet
    ]


def tabulate_cells(cells: Mapping[CellKey, CohortCell]) -> pd.DataFrame:
    """Make a table with a row per cell: who, how many, every measure with its bounds."""
    return pd.DataFrame([_list_cell(key, cell) for key, cell in cells.items()])


def _list_cell(key: CellKey, cell: CohortCell) -> dict[str, object]:
    pairs, classifiers, gans = key
    row: dict[str, object] = {
        GENERATOR_COHORT: gans,
        CLASSIFIER_COHORT: classifiers,
        "pairs": pairs.value,
        "num_generators": cell.num_generators,
        "num_classifiers": cell.num_classifiers,
        "num_pairs": cell.num_pairs,
    }
    for measure, interval in cell.measures.items():
        row |= {
            measure: interval.point,
            f"{measure}_low": interval.low,
            f"{measure}_high": interval.high,
        }
    row |= {f"num_{name}": number for name, number in cell.fooling.items()}
    return row | {f"{C2ST_LOG10_P}_max": cell.c2st_log10_p}


def _select_block(detections: pd.DataFrame, key: CellKey) -> pd.DataFrame:
    pairs, classifiers, gans = key
    is_chosen = (detections[GENERATOR_COHORT] == gans) & (
        detections[CLASSIFIER_COHORT] == classifiers
    )
    return detections[is_chosen & pairs.select(detections)]


def _count_instances(detections: pd.DataFrame) -> dict[str, int]:
    """Count the instances of each cohort, as "gans/COHORT" and "classifiers/COHORT"."""
    sides = (
        ("gans", GENERATOR_COHORT, GENERATOR_INSTANCE),
        ("classifiers", CLASSIFIER_COHORT, CLASSIFIER_INSTANCE),
    )
    return {
        f"{kind}/{cohort}": int(number) + 1
        for kind, column, instance in sides
        for cohort, number in detections.groupby(column)[instance].max().items()
    }


def _bound(
    blocks: Mapping[CellKey, pd.DataFrame], sizes: Mapping[str, int], measure: str, seed: int
) -> dict[CellKey, Interval]:
    matrices = [_make_matrix(key, block, sizes, measure) for key, block in blocks.items()]
    resampled = resample_cells(matrices, seed)
    chosen = np.eye(len(matrices))
    return {
        key: make_interval(resampled, coefficients).clip(0.0, 1.0)
        for key, coefficients in zip(blocks, chosen, strict=True)
    }


def _make_matrix(
    key: CellKey, block: pd.DataFrame, sizes: Mapping[str, int], measure: str
) -> PairMatrix:
    _, classifiers, gans = key
    names = f"gans/{gans}", f"classifiers/{classifiers}"
    values: npt.NDArray[np.float64] = np.full([sizes[name] for name in names], np.nan)
    values[block[GENERATOR_INSTANCE], block[CLASSIFIER_INSTANCE]] = block[measure]
    return PairMatrix(values, *names)


def _count_fooling(block: pd.DataFrame) -> dict[str, int]:
    words = classify_signals(block[DETECTION_RATE].to_numpy(), block[AUC].to_numpy())
    found = Counter(str(word) for word in words)
    return {signal.value: found[signal.value] for signal in Signal}
