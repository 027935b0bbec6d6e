"""Who else is fooled by a GAN that was trained to fool one classifier (the paper's table B).

The table is `knowledge_gaps.readings.tables`, the study's section report.mutual_fooling. How
the matrix stands beside the likeness of the classifiers is in
`knowledge_gaps.analyses.agreement.reading`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from knowledge_gaps.core.columns import (
    CLASSIFIER_COHORT,
    CLASSIFIER_INSTANCE,
    GENERATOR_COHORT,
)
from knowledge_gaps.readings.tables import Summary, summarise
from knowledge_gaps.statistics.measures import (
    DETECTION_RATE,
)
from knowledge_gaps.study import Study
from knowledge_gaps.study.graph import list_members

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class MutualFooling:
    """Detection rates of R classifiers of a cohort on G GAN cohorts that each fool one of them.

    Attributes:
        cohort: name of the classifier cohort.
        classifiers: instances of the rows, all of the cohort.
        gans: names of the columns.
        in_loss: the instance that each column's GANs were trained to fool.
        num_gans: instances of each column's GAN cohort.
        detection: float64 [R, G], means over the GAN instances; NaN where there is no rate.
        std: float64 [R, G], sample standard deviations over them; NaN below two.
    """

    cohort: str
    classifiers: tuple[int, ...]
    gans: tuple[str, ...]
    in_loss: tuple[int, ...]
    num_gans: tuple[int, ...]
    detection: FloatArray
    std: FloatArray

    @property
    def fooled(self) -> tuple[int, ...]:
        """The instances that some GAN cohort fools, which make up the square part."""
        return tuple(instance for instance in self.classifiers if instance in self.in_loss)

    def get_square(self, order: Sequence[int] | None = None) -> FloatArray:
        """Return the rates of the fooled classifiers on the GANs against each of them.

        Args:
            order: the instances of rows and columns; None for `fooled`.

        Returns:
            float64 [N, N]; the diagonal is the classifier in the loss.
        """
        chosen = self.fooled if order is None else tuple(order)
        rows = [self.classifiers.index(instance) for instance in chosen]
        columns = [self.in_loss.index(instance) for instance in chosen]
        return self.detection[np.ix_(rows, columns)]


def make_mutual_fooling(detections: pd.DataFrame, study: Study) -> MutualFooling | None:
    """Read the matrix of the study's report.mutual_fooling; None when it names no GAN cohort.

    Args:
        detections: as from `read_detections`.
        study: each of its GAN cohorts named there fools one classifier, all of one cohort.
    """
    gans = study.report.mutual_fooling
    if not gans:
        return None
    members = [list_members(study, study.gans[name].fools)[0] for name in gans]
    cohort = members[0][0].partition("/")[2]
    classifiers = tuple(range(study.classifiers[cohort].instances))
    rows = detections[detections[CLASSIFIER_COHORT] == cohort]

    def summarise_pair(classifier: int, name: str) -> Summary:
        is_pair = (rows[CLASSIFIER_INSTANCE] == classifier) & (rows[GENERATOR_COHORT] == name)
        return summarise(rows.loc[is_pair, DETECTION_RATE])

    cells = [[summarise_pair(classifier, name) for name in gans] for classifier in classifiers]
    return MutualFooling(
        cohort=cohort,
        classifiers=classifiers,
        gans=tuple(gans),
        in_loss=tuple(instance for _, instance in members),
        num_gans=tuple(study.gans[name].instances for name in gans),
        detection=np.array([[cell.mean for cell in row] for row in cells]),
        std=np.array([[cell.std for cell in row] for row in cells]),
    )
