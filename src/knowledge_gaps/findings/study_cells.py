"""The cells of a study: its section `report` and its two tables, as labelled matrices of pairs.

Which cohorts a reading is made of is in `knowledge_gaps.readings.places`, what a claim
selects among the cells in `knowledge_gaps.findings.cells`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pandas as pd

from knowledge_gaps.core.columns import (
    CLASSIFIER_COHORT,
    CLASSIFIER_INSTANCE,
    GENERATOR_COHORT,
    GENERATOR_INSTANCE,
)
from knowledge_gaps.findings.cells import (
    Cell,
    NotAskedError,
    make_fooling_cells,
    need_members,
)
from knowledge_gaps.findings.selection import Selection
from knowledge_gaps.readings.cohorts import get_classifiers, get_gan, list_fooled
from knowledge_gaps.readings.mutual_fooling import MutualFooling, make_mutual_fooling
from knowledge_gaps.readings.pairs import PairSet
from knowledge_gaps.readings.places import Reading, list_gans, list_places
from knowledge_gaps.readings.tables import find_metric
from knowledge_gaps.statistics.bootstrap import PairMatrix, Resampled, Statistic, resample_cells
from knowledge_gaps.statistics.clusters import Clusters, find_clusters
from knowledge_gaps.statistics.measures import METRICS, find_metric_of
from knowledge_gaps.study import Kind, Study


@dataclass(frozen=True, eq=False)
class StudySource:
    """A study with its tables.

    Attributes:
        study: says which cohorts a reading is made of.
        detections: as from `tables.read_detections`.
        quality: as from `tables.read_quality`.
        seed: of draws and permutations.
        num_resamples: of the bootstrap.
    """

    study: Study
    detections: pd.DataFrame
    quality: pd.DataFrame
    seed: int
    num_resamples: int

    def list_cells(self, measure: str, selection: Selection) -> list[Cell]:
        """List the cells of a reading that have numbers; see `cells.Source`."""
        if not getattr(self.study.report, selection.reading):
            raise NotAskedError(f"the study names no {selection.reading}")
        if selection.pairs is None:
            cells = self._list_quality(measure, selection.reading)
        elif measure not in self.detections.columns:
            raise NotAskedError(f"the table of detections has no {measure}")
        elif selection.reading is Reading.MUTUAL_FOOLING:
            return self._list_fooling(selection)
        else:
            cells = self._list_pairs(measure, selection)
        if not cells:
            of = "" if selection.pairs is None else f" of {selection.pairs} pairs"
            raise NotAskedError(f"{selection.reading} has no {measure}{of}")
        return cells

    def resample(self, cells: Sequence[Cell], statistic: Statistic) -> Resampled:
        """Draw instances; see `cells.Source`."""
        matrices = [cell.numbers for cell in cells if isinstance(cell.numbers, PairMatrix)]
        return resample_cells(matrices, self.seed, statistic, self.num_resamples)

    def find_clusters(self, selection: Selection) -> Clusters | None:
        """Find the clusters of the study's matrix; see `cells.Source`."""
        return None if selection.same is None else self._clusters

    def find_extractor(self, measure: str) -> str | None:
        """Return the study's extractor for a measure of quality; see `cells.Source`."""
        return self.study.evaluation.extractor if measure in METRICS else None

    def name_measure(self, measure: str) -> str:
        """Return the metric that the study's column holds; see `cells.Source`."""
        if measure not in METRICS:
            return measure
        return find_metric_of(find_metric(self.quality, measure)) or measure

    @cached_property
    def _clusters(self) -> Clusters | None:
        assert self._fooling is not None  # nobody asks otherwise
        return find_clusters(self._fooling.get_square(), self.seed)

    @cached_property
    def _fooling(self) -> MutualFooling | None:
        return make_mutual_fooling(self.detections, self.study)

    @cached_property
    def _blocks(self) -> dict[tuple[str, str], pd.DataFrame]:
        return {
            (str(gans), str(classifiers)): block
            for (gans, classifiers), block in self.detections.groupby(
                [GENERATOR_COHORT, CLASSIFIER_COHORT]
            )
        }

    def _list_fooling(self, selection: Selection) -> list[Cell]:
        assert self._fooling is not None  # the study names the reading
        square = self._fooling.get_square()
        if selection.same is not None:
            need_members(square)
        columns = f"{Kind.GANS}/{Reading.MUTUAL_FOOLING}"
        rows = f"{Kind.CLASSIFIERS}/{self._fooling.cohort}"
        clusters = self.find_clusters(selection)
        instances = self._fooling.fooled
        cells = make_fooling_cells(square, instances, (columns, rows), selection, clusters)
        gan = get_gan(self.study, self._fooling.gans[0])
        classifiers = get_classifiers(self.study, [self._fooling.cohort])
        return [replace(cell, gan=gan, classifiers=classifiers) for cell in cells]

    def _list_pairs(self, measure: str, selection: Selection) -> list[Cell]:
        assert selection.pairs is not None
        cells = []
        for gans, classifiers, coordinates in list_places(self.study, selection.reading):
            matrix = self._make_matrix(gans, classifiers, measure, selection.pairs)
            if matrix is not None:
                cells.append(
                    Cell(
                        name=f"{classifiers} on {gans}",
                        coordinates=coordinates,
                        numbers=matrix,
                        is_same=self._is_kin(gans, classifiers, selection.reading),
                        gan=get_gan(self.study, gans),
                        classifiers=get_classifiers(self.study, [classifiers]),
                    )
                )
        return cells

    def _is_kin(self, gans: str, classifiers: str, reading: Reading) -> bool | None:
        """Say whether GANs fool classifiers of the same architecture; None if not asked."""
        if reading is not Reading.ARCHITECTURES:
            return None
        fooled = get_classifiers(self.study, list_fooled(self.study, gans))
        return fooled == get_classifiers(self.study, [classifiers])

    def _make_matrix(
        self, gans: str, classifiers: str, measure: str, pairs: PairSet
    ) -> PairMatrix | None:
        """Put the pairs of two cohorts into a matrix; None when there is none."""
        block = self._blocks.get((gans, classifiers))
        if block is None:
            return None
        rows = block[pairs.select(block)]
        sizes = self.study.gans[gans].instances, self.study.classifiers[classifiers].instances
        # a table may hold more than the study names by now
        rows = rows[(rows[GENERATOR_INSTANCE] < sizes[0]) & (rows[CLASSIFIER_INSTANCE] < sizes[1])]
        values = np.full(sizes, np.nan)
        values[rows[GENERATOR_INSTANCE], rows[CLASSIFIER_INSTANCE]] = rows[measure]
        if np.isnan(values).all():
            return None
        return PairMatrix(values, f"{Kind.GANS}/{gans}", f"{Kind.CLASSIFIERS}/{classifiers}")

    def _list_quality(self, measure: str, reading: Reading) -> list[Cell]:
        try:
            column = find_metric(self.quality, measure)
        except StopIteration:
            raise NotAskedError(f"the table of quality has no {measure}") from None
        cells = []
        for gans, coordinates in list_gans(self.study, reading):
            size = self.study.gans[gans].instances
            rows = self.quality[self.quality[GENERATOR_COHORT] == gans]
            rows = rows[rows[GENERATOR_INSTANCE] < size]
            values = np.full((size, 1), np.nan)
            values[rows[GENERATOR_INSTANCE], 0] = rows[column]
            if not np.isnan(values).all():
                numbers = PairMatrix(values, f"{Kind.GANS}/{gans}")
                fooled = get_classifiers(self.study, list_fooled(self.study, gans))
                cells.append(
                    Cell(gans, coordinates, numbers, None, get_gan(self.study, gans), fooled)
                )
        return cells
