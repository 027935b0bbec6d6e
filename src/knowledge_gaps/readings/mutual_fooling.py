"""Who else is fooled by a GAN that was trained to fool one classifier (the paper's table B).

`knowledge_gaps.analyses.agreement` compares the matrix with how alike the classifiers are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from knowledge_gaps.core.tables import (
    CLASSIFIER_CHAIN,
    CLASSIFIER_COHORT,
    CLASSIFIER_INSTANCE,
    GENERATOR_COHORT,
)
from knowledge_gaps.readings.reading import Metrics, Reading, Results
from knowledge_gaps.statistics.clusters import Clusters, find_clusters
from knowledge_gaps.statistics.measures import DETECTION_RATE
from knowledge_gaps.study.graph import list_members

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class MutualFooling:
    """Detection in one chain: R classifiers of a cohort on G GAN cohorts that each fool one."""

    cohort: str  # name of the classifier cohort
    gans: tuple[str, ...]  # names of the columns
    in_loss: tuple[int, ...]  # index of the classifier that each column's GANs fool
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
    """Every classifier of a cohort on GANs that each fool one of them, and clusters of these.

    Classifiers of different chains have nothing in common, so a chain has a matrix of its own.
    """

    name, title, position = "mutual_fooling", "Mutual fooling", 70

    def read(self, results: Results) -> list[MutualFooling]:
        """Return the matrix of each chain; none when the study names no GAN cohort for it."""
        if not results.study.report.mutual_fooling:
            return []
        return [self._read_chain(results, chain) for chain in range(results.study.study.chains)]

    def _read_chain(self, results: Results, chain: int) -> MutualFooling:
        study, detections = results.study, results.detections
        gans = study.report.mutual_fooling
        members = [list_members(study, study.gans[name].fools)[0] for name in gans]
        cohort = members[0][0].partition("/")[2]  # all fool one of the same cohort
        is_chosen = detections[CLASSIFIER_COHORT] == cohort
        rows = detections[is_chosen & (detections[CLASSIFIER_CHAIN] == chain)]
        rates = rows.groupby([CLASSIFIER_INSTANCE, GENERATOR_COHORT])[DETECTION_RATE].mean()
        indices = range(study.classifiers[cohort].instances)
        detection = rates.unstack().reindex(indices, columns=gans).to_numpy(np.float64)
        in_loss = tuple(index for _, index in members)
        fooling = MutualFooling(cohort, tuple(gans), in_loss, detection)
        square = fooling.get_square()
        is_whole = np.isfinite(square[~np.eye(len(square), dtype=bool)]).all()
        return (
            replace(fooling, clusters=find_clusters(square, results.seed)) if is_whole else fooling
        )

    def make_metrics(self, results: Results, content: Any) -> Metrics:
        """Average the rates of the classifier in the loss, and of the others that are fooled."""
        squares = np.array([fooling.get_square() for fooling in content])  # [chains, N, N]
        is_own = np.eye(squares.shape[1], dtype=bool)
        means = squares[:, is_own].mean(), squares[:, ~is_own].mean()
        return {
            self.name: dict(zip(("in_loss_detection", "held_out_detection"), means, strict=True))
        }
