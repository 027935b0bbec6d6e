"""The cells of a study: its section `report` and its two tables, as labelled matrices of pairs.

What a claim selects among them is in `knowledge_gaps.report.findings.cells`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from knowledge_gaps.report.findings.cells import (
    Cell,
    NotAskedError,
    make_fooling_cells,
    need_members,
)
from knowledge_gaps.report.findings.schema import Reading, Selection
from knowledge_gaps.report.readings.columns import (
    CLASSIFIER_COHORT,
    CLASSIFIER_INSTANCE,
    GENERATOR_COHORT,
    GENERATOR_INSTANCE,
)
from knowledge_gaps.report.readings.mutual_fooling import MutualFooling, make_mutual_fooling
from knowledge_gaps.report.readings.pairs import PairSet
from knowledge_gaps.report.readings.tables import find_metric
from knowledge_gaps.statistics.bootstrap import PairMatrix, Resampled, Statistic, resample_cells
from knowledge_gaps.statistics.clusters import Clusters, find_clusters
from knowledge_gaps.study import Kind, Study
from knowledge_gaps.study.graph import list_members
from knowledge_gaps.study.schema import ClassifierSweep

Place = tuple[str, str, dict[str, float]]  # GAN cohort, classifier cohort, coordinates


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
        if selection.reading is Reading.ARCHITECTURES:
            raise NotAskedError("a study has no reading of several classifier architectures")
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
        return make_fooling_cells(square, instances, (columns, rows), selection, clusters)

    def _list_pairs(self, measure: str, selection: Selection) -> list[Cell]:
        assert selection.pairs is not None
        cells = []
        for gans, classifiers, coordinates in list_places(self.study, selection.reading):
            matrix = self._make_matrix(gans, classifiers, measure, selection.pairs)
            if matrix is not None:
                cells.append(Cell(f"{classifiers} on {gans}", coordinates, matrix))
        return cells

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
        for gans, coordinates in _list_gans(self.study, reading):
            size = self.study.gans[gans].instances
            rows = self.quality[self.quality[GENERATOR_COHORT] == gans]
            rows = rows[rows[GENERATOR_INSTANCE] < size]
            values = np.full((size, 1), np.nan)
            values[rows[GENERATOR_INSTANCE], 0] = rows[column]
            if not np.isnan(values).all():
                cells.append(Cell(gans, coordinates, PairMatrix(values, f"{Kind.GANS}/{gans}")))
        return cells


def list_places(study: Study, reading: Reading) -> list[Place]:
    """List who is asked about whom in a reading of cohorts, with coordinates."""
    if reading in (Reading.ITERATIONS, Reading.MEMORYLESS, Reading.MEMORY):
        return list(_list_chain(study, reading))
    if reading in (Reading.GENERALISATION, Reading.TRUNCATION):
        return list(_list_classifiers(study, reading))
    gans = _list_gans(study, reading)
    seen = sorted({name for cohort, _ in gans for name in _list_fooled(study, cohort)})
    return [(cohort, name, coordinates) for cohort, coordinates in gans for name in seen]


def _list_chain(study: Study, reading: Reading) -> Iterator[Place]:
    chain = getattr(study.report, reading)
    for row, entry in enumerate(chain):
        for column, other in enumerate(chain):
            if entry.classifiers is not None:
                place = {"row": float(row), "column": float(column), "lag": float(column - row)}
                yield other.gans, entry.classifiers, place


def _list_classifiers(study: Study, reading: Reading) -> Iterator[Place]:
    sweep: ClassifierSweep | None = getattr(study.report, reading)
    assert sweep is not None  # the study names the reading
    for name in sweep.classifiers:
        classifiers = study.classifiers[name]
        members = list_members(study, classifiers.detects)
        num_generators = sum(cohort == f"{Kind.GANS}/{sweep.gans}" for cohort, _ in members)
        if reading is Reading.GENERALISATION:
            yield sweep.gans, name, {"n": float(num_generators)}
        else:
            yield sweep.gans, name, {"psi": classifiers.truncation}


def _list_gans(study: Study, reading: Reading) -> list[tuple[str, dict[str, float]]]:
    """List the GAN cohorts of a reading with the coordinates that they have by themselves."""
    entries = getattr(study.report, reading)
    if reading in (Reading.ITERATIONS, Reading.MEMORYLESS, Reading.MEMORY):
        return [(entry.gans, {"column": float(column)}) for column, entry in enumerate(entries)]
    if isinstance(entries, ClassifierSweep):
        return [(entries.gans, {})]
    if reading is Reading.PHI_SWEEP:
        return [(name, {"phi": study.gans[name].phi}) for name in entries]
    if reading is Reading.MULTI_INSTANCE:
        pools = {name: study.gans[name].fools for name in entries}
        return [(name, {"t": float(len(list_members(study, pools[name])))}) for name in entries]
    return [(name, {}) for name in entries]


def _list_fooled(study: Study, gans: str) -> list[str]:
    """List the classifier cohorts that GANs are trained to fool."""
    members = list_members(study, study.gans[gans].fools)
    return [cohort.partition("/")[2] for cohort, _ in members]
