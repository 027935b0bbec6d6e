"""classifiers@COHORT: train the GAN-classifiers of a cohort against their pool of generators."""

from __future__ import annotations

from pathlib import Path

from knowledge_gaps.stages.cohort import train_and_track
from knowledge_gaps.study import Kind, Study


def run(root: Path, study: Study, name: str) -> None:
    """Train and publish models/classifiers/COHORT; errors as `training.cohort.train_cohort`."""
    train_and_track(root, study, Kind.CLASSIFIERS, name)
