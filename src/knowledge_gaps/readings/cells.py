"""The frame of cells: one cohort of classifiers on one cohort of GANs, with every statistic.

All readings, figures and tables of the report select rows of this frame. The single pairs are in
detections.csv. Intervals are of the two-way bootstrap over generator and classifier instances.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from knowledge_gaps.core.tables import (
    CLASSIFIER_COHORT,
    CLASSIFIER_INSTANCE,
    GENERATOR_COHORT,
    GENERATOR_INSTANCE,
)
from knowledge_gaps.readings.tables import PairSet, summarise
from knowledge_gaps.statistics import measures
from knowledge_gaps.statistics.bootstrap import PairMatrix, make_interval, resample_cells
from knowledge_gaps.statistics.rules import Signal, classify_signals
from knowledge_gaps.study import Kind

MEASURES = (  # of a pair, shares in [0, 1]
    measures.DETECTION_RATE,
    measures.REAL_ACCURACY,
    measures.BALANCED_ACCURACY,
    measures.AUC,
    measures.AVERAGE_PRECISION,
    measures.DETECTION_AT_1PCT,
    measures.DETECTION_AT_5PCT,
    measures.EQUAL_ERROR_RATE,
    measures.CALIBRATION_ERROR,
)
READING = "reading"
PAIRS = "pairs"
ALL = "all"  # the reading of the cells that cohorts.csv has
C2ST_MAX = f"{measures.C2ST_LOG10_P}_max"
_COHORT_COLUMNS = (  # of cohorts.csv
    GENERATOR_COHORT,
    CLASSIFIER_COHORT,
    PAIRS,
    "num_generators",
    "num_classifiers",
    "num_pairs",
    *(name for measure in MEASURES for name in (measure, f"{measure}_low", f"{measure}_high")),
    *(f"num_{word}" for word in Signal),
    C2ST_MAX,
)

# reading, GAN cohort, classifier cohort, coordinates
ReadingPlace = tuple[str, str, str, Mapping[str, float]]


def make_cells(detections: pd.DataFrame, places: Sequence[ReadingPlace], seed: int) -> pd.DataFrame:
    """Make the frame of cells.

    Args:
        detections: as from `tables.read_detections`.
        places: which cohorts a reading reads together, and at which coordinates; a place without
            a coordinate of another one has NaN there.
        seed: of the resamples; another one moves the bounds in their third digit.

    Returns:
        A row per reading, place and set of pairs, and under the reading ALL a row per cell of the
        table. For each measure: MEASURE, MEASURE_low and MEASURE_high are the mean over pairs with
        its 95 % interval; MEASURE_mean, _std, _min, _max, _num and _missing as of `summarise`.
        num_WORD counts pairs by `Signal`; c2st_log10_p_max is of the pair whose two-sample test is
        the least certain. A place without a pair has counts of 0 and NaN.
    """
    cells = _tabulate(detections, seed)
    keys = [GENERATOR_COHORT, CLASSIFIER_COHORT, PAIRS]
    rows = [
        (reading, gans, classifiers, pairs.value)
        for reading, gans, classifiers, _ in places
        for pairs in PairSet
    ]
    coordinates = [place for *_, place in places for _ in PairSet]
    named = pd.DataFrame(rows, columns=[READING, *keys]).join(pd.DataFrame(coordinates))
    named = named.merge(cells, how="left", on=keys)
    frame = pd.concat([cells.assign(**{READING: ALL}), named], ignore_index=True)
    counts = [name for name in map(str, cells) if name.startswith("num_") or name.endswith("_num")]
    return frame.fillna(dict.fromkeys(counts, 0)).astype(dict.fromkeys(counts, int))


def list_cohorts(cells: pd.DataFrame) -> pd.DataFrame:
    """Select what cohorts.csv has: every cell of the table once."""
    return cells.loc[cells[READING] == ALL, list(_COHORT_COLUMNS)]


def _tabulate(detections: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Summarise every cell of the table that has a pair, in the order of the table."""
    cohorts = detections.groupby([GENERATOR_COHORT, CLASSIFIER_COHORT], sort=False)
    blocks: dict[tuple[Any, ...], pd.DataFrame] = {  # by pairs, GAN cohort, classifier cohort
        (pairs, *names): block
        for names, rows in cohorts
        for pairs in PairSet
        if len(block := rows[pairs.select(rows)]) > 0
    }
    cells = pd.DataFrame([_make_row(key, block) for key, block in blocks.items()])
    sides = ((GENERATOR_COHORT, GENERATOR_INSTANCE), (CLASSIFIER_COHORT, CLASSIFIER_INSTANCE))
    sizes = [1 + detections.groupby(cohort)[instance].max() for cohort, instance in sides]
    for measure in MEASURES:
        matrices = [
            make_matrix(block, measure, (sizes[0][gans], sizes[1][classifiers]), gans, classifiers)
            for (_, gans, classifiers), block in blocks.items()
        ]
        resampled = resample_cells(matrices, seed)
        intervals = [make_interval(resampled, cell).clip(0, 1) for cell in np.eye(len(matrices))]
        bounds = [(each.point, each.low, each.high) for each in intervals]
        cells[[measure, f"{measure}_low", f"{measure}_high"]] = bounds
    return cells


def make_matrix(
    pairs: pd.DataFrame, measure: str, shape: tuple[int, int], gans: str, classifiers: str
) -> PairMatrix:
    """Arrange a measure of a cell's pairs by instances; NaN where there is no pair."""
    values = np.full(shape, np.nan)
    values[pairs[GENERATOR_INSTANCE], pairs[CLASSIFIER_INSTANCE]] = pairs[measure]
    return PairMatrix(values, f"{Kind.GANS}/{gans}", f"{Kind.CLASSIFIERS}/{classifiers}")


def _make_row(key: tuple[Any, ...], block: pd.DataFrame) -> dict[str, Any]:
    row: dict[str, Any] = {
        GENERATOR_COHORT: key[1],
        CLASSIFIER_COHORT: key[2],
        PAIRS: key[0].value,
        "num_generators": block[GENERATOR_INSTANCE].nunique(),
        "num_classifiers": block[CLASSIFIER_INSTANCE].nunique(),
        "num_pairs": len(block),
        C2ST_MAX: float(block[measures.C2ST_LOG10_P].max(skipna=False)),
    }
    # accuracy on reals is a number of the classifier, not of the pair
    of_classifier = block.drop_duplicates(CLASSIFIER_INSTANCE)
    for measure in MEASURES:
        row |= summarise(
            (of_classifier if measure == measures.REAL_ACCURACY else block)[measure], measure
        )
    words = Counter(
        classify_signals(block[measures.DETECTION_RATE].to_numpy(), block[measures.AUC].to_numpy())
    )
    return row | {f"num_{word}": words[word.value] for word in Signal}
