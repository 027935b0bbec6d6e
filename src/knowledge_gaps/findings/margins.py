"""What thresholds are made of: how far pairs of one cell lie apart in a pilot study.

A margin is twice the standard deviation over the pairs of a cell, pooled over cells. It is a size
below which a difference between cells is not worth the name, and no test: pairs share instances,
and cells differ in spread. The numbers of findings.yaml were derived here.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import pandas as pd

from knowledge_gaps.core.columns import GENERATOR_COHORT
from knowledge_gaps.readings.cells import MEASURES
from knowledge_gaps.readings.pairs import PairSet
from knowledge_gaps.readings.places import Reading, list_places
from knowledge_gaps.readings.tables import find_metric, select_pairs
from knowledge_gaps.statistics.measures import METRICS
from knowledge_gaps.study import Study

STDS_PER_MARGIN = 2.0
_DIGITS = 6


def derive_margins(
    detections: pd.DataFrame, quality: pd.DataFrame, study: Study
) -> dict[str, float]:
    """Derive the margin of every measure that a pilot's tables have.

    The cells are those of the fool-all and the memoryless iterations: over held-out pairs for a
    measure of pairs, over instances for a measure of generators.

    Args:
        detections: the pilot's rows; columns of measures may be missing.
        quality: as detections.
        study: the pilot.

    Returns:
        By measure; one that nowhere varies is left out.
    """
    readings = (Reading.ITERATIONS, Reading.MEMORYLESS)
    places = [place for reading in readings for place in list_places(study, reading)]
    cells = {(gans, classifiers) for gans, classifiers, _ in places}
    pairs = [select_pairs(detections, PairSet.HELD_OUT, *cell) for cell in sorted(cells)]
    cohorts = sorted({gans for gans, _ in cells})
    instances = [quality[quality[GENERATOR_COHORT] == gans] for gans in cohorts]
    margins = {
        measure: _pool(block[measure] for block in pairs)
        for measure in MEASURES
        if measure in detections.columns
    }
    for metric in METRICS:
        column = _find_column(quality, metric)
        if column is not None:
            margins[metric] = _pool(block[column] for block in instances)
    return {name: round(margin, _DIGITS) for name, margin in margins.items() if margin > 0}


def _pool(cells: Iterable[pd.Series[float]]) -> float:
    """Return the margin: the pooled standard deviation, each cell about its own mean, doubled."""
    squares, degrees = 0.0, 0
    for cell in cells:
        values = cell.dropna()
        if len(values) > 1:
            squares += float(((values - values.mean()) ** 2).sum())
            degrees += len(values) - 1
    return STDS_PER_MARGIN * math.sqrt(squares / degrees) if degrees > 0 else 0.0


def _find_column(quality: pd.DataFrame, metric: str) -> str | None:
    try:
        return find_metric(quality, metric)
    except StopIteration:
        return None
