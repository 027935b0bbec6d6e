"""gans@COHORT: train the GANs of a cohort against their pool of frozen classifiers."""

from __future__ import annotations

from pathlib import Path

from knowledge_gaps.stages.cohort import train_and_track
from knowledge_gaps.study import Kind, Study


def run(
    root: Path,
    study: Study,
    name: str,
    num_processes: int | None = None,
    instance: int | None = None,
) -> None:
    """Train and publish models/gans/COHORT; arguments and errors as `train_and_track`."""
    train_and_track(root, study, Kind.GANS, name, num_processes, instance)
