"""The frame of cells: one cohort of classifiers on one cohort of GANs, with every statistic.

All readings, figures and tables of the report select rows of this frame. The single pairs are in
detections.csv. Intervals are over chains: a cell has one mean over its pairs in each chain.
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
    GENERATOR_CHAIN,
    GENERATOR_COHORT,
    GENERATOR_INSTANCE,
)
from knowledge_gaps.readings.tables import (
    CLASSIFIER,
    PairSet,
    bound_shares,
    name_bounds,
    summarise,
)
from knowledge_gaps.readings.transfers import TRANSFER, Transfers
from knowledge_gaps.statistics import measures
from knowledge_gaps.statistics.chains import Floats, Interval, bound_mean
from knowledge_gaps.statistics.rules import Signal, classify_signals

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
_ENDS = ("", "_low", "_high", "_degrees")  # of `tables.name_bounds`
_COHORT_COLUMNS = (  # of cohorts.csv
    GENERATOR_COHORT,
    CLASSIFIER_COHORT,
    PAIRS,
    "num_chains",
    "num_generators",
    "num_classifiers",
    "num_pairs",
    *(f"{measure}{end}" for measure in (*MEASURES, TRANSFER) for end in _ENDS),
    *(f"num_{word}" for word in Signal),
    C2ST_MAX,
)

# reading, GAN cohort, classifier cohort, coordinates
ReadingPlace = tuple[str, str, str, Mapping[str, float]]


def make_cells(
    detections: pd.DataFrame, places: Sequence[ReadingPlace], transfers: Transfers
) -> pd.DataFrame:
    """Make the frame of cells.

    Args:
        detections: as from `tables.read_detections`.
        places: which cohorts a reading reads together, and at which coordinates; a place without
            a coordinate of another one has NaN there.
        transfers: of GAN cohorts that fool classifiers, for the column `transfer`.

    Returns:
        A row per reading, place and set of pairs, and under the reading ALL a row per cell of the
        table. For each measure: MEASURE, _low, _high and _degrees are the mean over chains with its
        95 % interval and the degrees of freedom of that, the chains that have a number less 1;
        MEASURE_mean, _std, _min, _max, _num and _missing are over pairs, as of `summarise`.
        num_WORD counts pairs by `Signal`; c2st_log10_p_max is of the pair whose two-sample test is
        the least certain. A place without a pair has counts of 0 and NaN.
    """
    cells = tabulate(detections, transfers)
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


def tabulate(detections: pd.DataFrame, transfers: Transfers) -> pd.DataFrame:
    """Summarise every cell of the table that has a pair, in the order of the table."""
    rows = []
    for (gans, classifiers), pairs in detections.groupby(
        [GENERATOR_COHORT, CLASSIFIER_COHORT], sort=False
    ):
        found = transfers.get((str(gans), str(classifiers)), np.array([]))
        for kind in PairSet:
            if len(block := pairs[kind.select(pairs)]) > 0:
                row = _make_row((kind, gans, classifiers), block)
                rows.append(row | _bound_transfer(kind, found))
    return pd.DataFrame(rows)


def _bound_transfer(pairs: PairSet, transfers: Floats) -> dict[str, float]:
    """Bound the transfer of a cell of held-out pairs; NaN for others."""
    interval = bound_mean(transfers) if pairs is PairSet.HELD_OUT else Interval()
    return name_bounds(TRANSFER, interval)


def _make_row(key: tuple[Any, ...], block: pd.DataFrame) -> dict[str, Any]:
    row: dict[str, Any] = {
        GENERATOR_COHORT: key[1],
        CLASSIFIER_COHORT: key[2],
        PAIRS: key[0].value,
        "num_chains": block[GENERATOR_CHAIN].nunique(),
        "num_generators": block[GENERATOR_INSTANCE].nunique(),
        "num_classifiers": block[CLASSIFIER_INSTANCE].nunique(),
        "num_pairs": len(block),
        C2ST_MAX: float(block[measures.C2ST_LOG10_P].max(skipna=False)),
        **bound_shares(block, MEASURES),
    }
    # accuracy on reals is a number of the classifier, not of the pair
    of_classifier = block.drop_duplicates(CLASSIFIER)
    for measure in MEASURES:
        row |= summarise(
            (of_classifier if measure == measures.REAL_ACCURACY else block)[measure], measure
        )
    words = Counter(
        classify_signals(block[measures.DETECTION_RATE].to_numpy(), block[measures.AUC].to_numpy())
    )
    return row | {f"num_{word}": words[word.value] for word in Signal}
