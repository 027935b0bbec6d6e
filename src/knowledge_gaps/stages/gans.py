"""gans@COHORT: train the GANs of a cohort against their pool of frozen classifiers."""

from __future__ import annotations

from functools import partial

from knowledge_gaps.stages.cohort import train_and_track
from knowledge_gaps.study import Kind

run = partial(train_and_track, Kind.GANS)
