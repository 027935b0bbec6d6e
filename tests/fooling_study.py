"""A study whose GANs fool classifiers of one cohort one by one, as params.yaml would have it."""

from __future__ import annotations

from typing import Any

import yaml

from knowledge_gaps.study.graph import check_graph
from knowledge_gaps.study.schema import Study
from study_tools import SMOKE_FILE

_COHORTS: dict[str, Any] = {
    "pools": {
        "seen": {"extends": "none", "cohort": "gans/base", "instances": [0, 2]},
        "c0": {"extends": "none", "cohort": "classifiers/c", "instances": [0]},
        "c2": {"extends": "none", "cohort": "classifiers/c", "instances": [2]},
    },
    "gans": {
        "base": {"recipe": "dcgan", "instances": 4, "fools": "none", "phi": 0.0},
        "fool_0": {"recipe": "dcgan", "instances": 3, "fools": "c0", "phi": 1.0},
        "fool_2": {"recipe": "dcgan", "instances": 2, "fools": "c2", "phi": 1.0},
        "idle_0": {"recipe": "dcgan", "instances": 2, "fools": "c0", "phi": 0.0},
    },
    "classifiers": {
        "c": {"recipe": "cnn", "instances": 3, "detects": "seen"},
        "d": {"recipe": "cnn", "instances": 2, "detects": "seen"},
    },
    "evaluation": {"num_images": 30},
}


def make_study(**report: Any) -> Study:
    """Make the study with entries of its report."""
    smoke = yaml.safe_load(SMOKE_FILE.read_text(encoding="utf-8"))
    study = Study.model_validate({**smoke, **_COHORTS, "report": report})
    check_graph(study)
    return study
