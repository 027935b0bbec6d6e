"""Who else is fooled by a GAN that was trained to fool one classifier (the paper's table B).

`knowledge_gaps.analyses.agreement` compares the matrix with how alike the classifiers are.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from knowledge_gaps.readings.reading import Metrics, Reading, Results
from knowledge_gaps.statistics.clusters import Clusters, find_clusters
from knowledge_gaps.study.graph import list_members
from knowledge_gaps.study.schema import Study

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class MutualFooling:
    """Detection rates of R classifiers of a cohort on G GAN cohorts that each fool one of them.

    Attributes:
        cohort: name of the classifier cohort.
        classifiers: instances of the rows, all of the cohort.
        gans: names of the columns.
        in_loss: the instance that each column's GANs were trained to fool.
        detection: float64 [R, G], means over the GAN instances; NaN where there is no rate.
    """

    cohort: str
    classifiers: tuple[int, ...]
    gans: tuple[str, ...]
    in_loss: tuple[int, ...]
    detection: FloatArray

    @property
    def fooled(self) -> tuple[int, ...]:
        """The instances that some GAN cohort fools, which make up the square part."""
        return tuple(instance for instance in self.classifiers if instance in self.in_loss)

    def get_square(self, order: Sequence[int] | None = None) -> FloatArray:
        """Return the rates of the fooled classifiers on the GANs against each of them, in an order:
        float64 [N, N], on whose diagonal is the classifier in the loss.
        """
        chosen = self.fooled if order is None else tuple(order)
        rows = [self.classifiers.index(instance) for instance in chosen]
        columns = [self.in_loss.index(instance) for instance in chosen]
        return self.detection[np.ix_(rows, columns)]


def make_mutual_fooling(detections: pd.DataFrame, study: Study) -> MutualFooling | None:
    """Read the matrix of the study's report.mutual_fooling; None when it names no GAN cohort."""
    gans = study.report.mutual_fooling
    if not gans:
        return None
    members = [list_members(study, study.gans[name].fools)[0] for name in gans]
    cohort = members[0][0].partition("/")[2]  # all fool one of the same cohort
    classifiers = tuple(range(study.classifiers[cohort].instances))
    rows = detections[detections["classifier_cohort"] == cohort]
    rates = rows.groupby(["classifier_instance", "generator_cohort"])["detection_rate"].mean()
    return MutualFooling(
        cohort=cohort,
        classifiers=classifiers,
        gans=tuple(gans),
        in_loss=tuple(instance for _, instance in members),
        detection=rates.unstack().reindex(index=classifiers, columns=gans).to_numpy(np.float64),
    )


class Mutual(Reading):
    """Every classifier of a cohort on GANs that each fool one of them, and clusters of these."""

    name, title, position = "mutual_fooling", "Mutual fooling", 70

    def read(self, results: Results) -> Any:
        """Return the matrix as `fooling`, its `clusters`, None where none are looked for, and the
        fooled classifiers by cluster and number as `order`.
        """
        fooling = make_mutual_fooling(results.detections, results.study)
        if fooling is None:
            return {"fooling": None, "clusters": None, "order": []}
        square = fooling.get_square()
        is_whole = np.isfinite(square[~np.eye(len(square), dtype=bool)]).all()
        clusters = find_clusters(square, results.seed) if is_whole else None
        return {
            "fooling": fooling,
            "clusters": clusters,
            "order": _order(fooling.fooled, clusters),
        }

    def make_metrics(self, results: Results, content: Any) -> Metrics:
        """Average the rates of the classifier in the loss, and of the others that are fooled."""
        square = content["fooling"].get_square()
        is_own = np.eye(len(square), dtype=bool)
        others = float(np.mean(square[~is_own])) if len(square) > 1 else math.nan
        own = float(np.mean(square[is_own]))
        return {self.name: {"in_loss_detection": own, "held_out_detection": others}}


def _order(fooled: Sequence[int], clusters: Clusters | None) -> list[int]:
    labels = [0] * len(fooled) if clusters is None else clusters.labels.tolist()
    return [instance for _, instance in sorted(zip(labels, fooled, strict=True))]


READINGS = (Mutual(),)
