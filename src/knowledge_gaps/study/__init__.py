"""The study: what an experiment is. `schema` types params.yaml, `graph` checks what stands on
what, `load` reads the file. No torch, so that reading a study costs milliseconds.
"""

from __future__ import annotations

from knowledge_gaps.study.load import PARAMS_FILE, load_study
from knowledge_gaps.study.schema import (
    NO_POOL,
    ClassifierCohort,
    ClassifierRecipe,
    DataSettings,
    EvaluationSettings,
    GanCohort,
    GanRecipe,
    Iteration,
    Kind,
    OptimizerSettings,
    Pool,
    ReportSettings,
    Study,
    TrainingSettings,
)

__all__ = [
    "NO_POOL",
    "PARAMS_FILE",
    "ClassifierCohort",
    "ClassifierRecipe",
    "DataSettings",
    "EvaluationSettings",
    "GanCohort",
    "GanRecipe",
    "Iteration",
    "Kind",
    "OptimizerSettings",
    "Pool",
    "ReportSettings",
    "Study",
    "TrainingSettings",
    "load_study",
]
