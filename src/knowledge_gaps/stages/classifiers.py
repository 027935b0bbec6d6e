"""classifiers@COHORT: train the GAN-classifiers of a cohort against their pool of generators."""

from __future__ import annotations

from functools import partial

from knowledge_gaps.stages.cohort import train_and_track
from knowledge_gaps.study import Kind

run = partial(train_and_track, Kind.CLASSIFIERS)
