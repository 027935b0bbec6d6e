"""Variance components: how much of a number is its chain's, its generator's, its classifier's."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from knowledge_gaps.core.tables import CLASSIFIER_INSTANCE, GENERATOR_CHAIN, GENERATOR_INSTANCE
from knowledge_gaps.readings.reading import Reading, Results
from knowledge_gaps.readings.tables import PairSet, select_pairs
from knowledge_gaps.statistics.chains import Floats
from knowledge_gaps.statistics.components import estimate_components
from knowledge_gaps.statistics.measures import AUC, DETECTION_RATE
from knowledge_gaps.study import Study


class VarianceComponents(Reading):
    """Components of the held-out cells of the iterations, of the rate and of the AUC."""

    name, title, position = "components", "Variance components", 205

    def is_asked(self, study: Study) -> bool:
        return bool(study.report.iterations)

    def read(self, results: Results) -> Any:
        """Return a row for each cell: its names, and the components of each measure."""
        return [
            {
                "generator_cohort": cell["generator_cohort"],
                "classifier_cohort": cell["classifier_cohort"],
                **{
                    measure: estimate_components(_arrange(results, cell, measure))
                    for measure in (DETECTION_RATE, AUC)
                },
            }
            for cell in results.select("iterations", PairSet.HELD_OUT)
            if cell["num_pairs"] > 0
        ]


def _arrange(results: Results, cell: Any, measure: str) -> Floats:
    """Arrange a cell's pairs by chain, generator and classifier: float64 [S, n, m], else NaN."""
    names = cell["generator_cohort"], cell["classifier_cohort"]
    rows: pd.DataFrame = select_pairs(results.detections, PairSet.HELD_OUT, *names)
    study = results.study
    shape = (
        study.study.chains,
        study.gans[names[0]].instances,
        study.classifiers[names[1]].instances,
    )
    values = np.full(shape, np.nan)
    keys = [rows[name] for name in (GENERATOR_CHAIN, GENERATOR_INSTANCE, CLASSIFIER_INSTANCE)]
    values[tuple(keys)] = rows[measure]
    return values
