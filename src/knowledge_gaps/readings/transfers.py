"""How far GANs that fool classifiers shift held-out ones, for how far they shift those in the loss.

The transfer knows no threshold; see `statistics.transfer`. A classifier's own separation is that of
reals from generators of the cohorts in its pool, held out from it where there are such.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import numpy as np
import pandas as pd

from knowledge_gaps.core.tables import (
    CLASSIFIER_COHORT,
    GENERATOR_CHAIN,
    GENERATOR_COHORT,
    IN_TRAINING,
)
from knowledge_gaps.readings.cohorts import list_fooled
from knowledge_gaps.readings.tables import CLASSIFIER, PairSet
from knowledge_gaps.statistics.chains import Floats
from knowledge_gaps.statistics.measures import MEDIAN_SCORE, MEDIAN_SCORE_REAL
from knowledge_gaps.statistics.transfer import compute_shifts, compute_transfer
from knowledge_gaps.study import Study
from knowledge_gaps.study.graph import list_members

TRANSFER = "transfer"
SHIFT = "shift"

# by GAN cohort and classifier cohort, a number of each chain, float64 [S]
Transfers = Mapping[tuple[str, str], Floats]


def compute_transfers(
    study: Study, detections: pd.DataFrame, pairs: Iterable[tuple[str, str]] | None = None
) -> Transfers:
    """Compute the transfer of every GAN cohort to each classifier cohort that it fools, or of these
    pairs of what the column of GAN cohorts names and of a classifier cohort.
    """
    shifted = measure_shifts(study, detections)
    return {
        (gans, classifiers): compute_transfer(
            _average(shifted, PairSet.IN_LOSS, gans, classifiers, study.study.chains),
            _average(shifted, PairSet.HELD_OUT, gans, classifiers, study.study.chains),
        )
        for gans, classifiers in (_list_fooling(study) if pairs is None else pairs)
    }


def measure_shifts(study: Study, detections: pd.DataFrame) -> pd.DataFrame:
    """Add the column `shift` to the pairs; NaN where the classifier's separation is not known."""
    own = pd.concat(
        _find_own(study, detections, name) for name in study.classifiers
    )  # by classifier
    keys = pd.MultiIndex.from_frame(detections[CLASSIFIER])
    medians: Floats = np.asarray(own.reindex(keys), np.float64)
    real, fooling = (detections[name].to_numpy() for name in (MEDIAN_SCORE_REAL, MEDIAN_SCORE))
    return detections.assign(**{SHIFT: compute_shifts(real, fooling, medians)})


def _list_fooling(study: Study) -> Iterator[tuple[str, str]]:
    for name, gans in study.gans.items():
        if gans.phi > 0:
            yield from (
                (name, classifiers) for classifiers in dict.fromkeys(list_fooled(study, name))
            )


def _find_own(study: Study, detections: pd.DataFrame, classifiers: str) -> pd.Series[float]:
    """Average the medians of the generators that each classifier was trained to detect."""
    pool = list_members(study, study.classifiers[classifiers].detects)
    cohorts = {path.partition("/")[2] for path, _ in pool}
    is_own = detections[GENERATOR_COHORT].isin(cohorts)
    rows = detections[is_own & (detections[CLASSIFIER_COHORT] == classifiers)]
    held_out = rows[~rows[IN_TRAINING]]
    chosen = rows if held_out.empty else held_out
    return chosen.groupby(CLASSIFIER)[MEDIAN_SCORE].mean()


def _average(
    shifted: pd.DataFrame, pairs: PairSet, gans: str, classifiers: str, num_chains: int
) -> Floats:
    is_chosen = (shifted[GENERATOR_COHORT] == gans) & (shifted[CLASSIFIER_COHORT] == classifiers)
    rows = shifted[is_chosen & pairs.select(shifted)]
    means = rows.groupby(GENERATOR_CHAIN)[SHIFT].mean()
    return means.reindex(range(num_chains)).to_numpy(np.float64)
