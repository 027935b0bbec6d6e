"""The study: params.yaml as typed objects. `recipes` and `schema` have the types, `graph` checks
references, `load` reads the file. No torch, so that reading a study costs milliseconds.
"""

from __future__ import annotations

from knowledge_gaps.study.load import (
    PARAMS_FILE,
    load_study,
    parse_yaml,
    read_yaml,
    validate_study,
)
from knowledge_gaps.study.recipes import (
    NO_POOL,
    REALS,
    ClassifierCohort,
    ClassifierRecipe,
    GanCohort,
    GanRecipe,
    Kind,
    OptimizerSettings,
    TrainingSettings,
)
from knowledge_gaps.study.schema import (
    REALS_TRAIN,
    ClassifierSweep,
    DataSettings,
    EvaluationSettings,
    Iteration,
    Pool,
    ReportSettings,
    Study,
)
