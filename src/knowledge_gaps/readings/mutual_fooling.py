"""Who else is fooled by a GAN that was trained to fool one classifier (the paper's table B).

`knowledge_gaps.analyses.agreement` compares the matrix with how alike the classifiers are.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from knowledge_gaps.readings.reading import Metrics, Reading, Results
from knowledge_gaps.statistics.clusters import Clusters, find_clusters
from knowledge_gaps.study.graph import list_members

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class MutualFooling:
    """Detection rates of the R classifiers of a cohort on G GAN cohorts that each fool one."""

    cohort: str  # name of the classifier cohort
    gans: tuple[str, ...]  # names of the columns
    in_loss: tuple[int, ...]  # the instance that each column's GANs were trained to fool
    detection: FloatArray  # [R, G], means over the GAN instances; NaN where there is no rate
    clusters: Clusters | None = None  # of the fooled classifiers; None where none are looked for

    @property
    def fooled(self) -> tuple[int, ...]:
        """The instances that some GAN cohort fools, which make up the square part."""
        return tuple(sorted(set(self.in_loss)))

    @property
    def order(self) -> list[int]:
        """The fooled instances by cluster and number."""
        if self.clusters is None:
            return list(self.fooled)
        return [i for _, i in sorted(zip(self.clusters.labels, self.fooled, strict=True))]

    def get_square(self, order: Sequence[int] | None = None) -> FloatArray:
        """Return the rates of the fooled classifiers on the GANs against each of them, in an order:
        float64 [N, N], on whose diagonal is the classifier in the loss.
        """
        chosen = list(self.fooled if order is None else order)
        columns = [self.in_loss.index(instance) for instance in chosen]
        return self.detection[np.ix_(chosen, columns)]


class Mutual(Reading):
    """Every classifier of a cohort on GANs that each fool one of them, and clusters of these."""

    name, title, position = "mutual_fooling", "Mutual fooling", 70

    def read(self, results: Results) -> MutualFooling | None:
        """Return the matrix; None when the study names no GAN cohort for it."""
        study, detections = results.study, results.detections
        if not (gans := study.report.mutual_fooling):
            return None
        members = [list_members(study, study.gans[name].fools)[0] for name in gans]
        cohort = members[0][0].partition("/")[2]  # all fool one of the same cohort
        rows = detections[detections["classifier_cohort"] == cohort]
        rates = rows.groupby(["classifier_instance", "generator_cohort"])["detection_rate"].mean()
        instances = range(study.classifiers[cohort].instances)
        detection = rates.unstack().reindex(instances, columns=gans).to_numpy(np.float64)
        in_loss = tuple(instance for _, instance in members)
        fooling = MutualFooling(cohort, tuple(gans), in_loss, detection)
        square = fooling.get_square()
        is_whole = np.isfinite(square[~np.eye(len(square), dtype=bool)]).all()
        return (
            replace(fooling, clusters=find_clusters(square, results.seed)) if is_whole else fooling
        )

    def make_metrics(self, results: Results, content: Any) -> Metrics:
        """Average the rates of the classifier in the loss, and of the others that are fooled."""
        square = content.get_square()
        is_own = np.eye(len(square), dtype=bool)
        others = square[~is_own].mean() if len(square) > 1 else math.nan
        return {
            self.name: {"in_loss_detection": square[is_own].mean(), "held_out_detection": others}
        }
