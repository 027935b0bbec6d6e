"""Where claims get their cells: the tables of a study here, the paper's in `paper`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from knowledge_gaps.core.tables import CLASSIFIER_INSTANCE, GENERATOR_COHORT, GENERATOR_INSTANCE
from knowledge_gaps.findings.schema import ARCHITECTURES, MUTUAL_FOOLING, Selection
from knowledge_gaps.readings.cohorts import get_classifiers, get_gan, list_fooled
from knowledge_gaps.readings.mutual_fooling import make_mutual_fooling
from knowledge_gaps.readings.reading import list_readings
from knowledge_gaps.readings.tables import PairSet, find_metric, select_pairs
from knowledge_gaps.statistics.bootstrap import Floats, PairMatrix
from knowledge_gaps.statistics.clusters import MIN_MEMBERS, Clusters, find_clusters
from knowledge_gaps.statistics.measures import DETECTION_RATE, find_metric_of
from knowledge_gaps.study.recipes import Kind
from knowledge_gaps.study.schema import Study

Mask = npt.NDArray[np.bool_]


class NotAskedError(Exception):
    """A claim cannot be asked of a source; the message is the reason, in words for a reader."""


class Printed(NamedTuple):
    """A mean as the paper prints it, with its standard deviation where there is one."""

    mean: float
    std: float | None


@dataclass(frozen=True)
class Cell:
    """Numbers with labels."""

    name: str  # of the classifiers and GANs
    measure: str  # as the source calls it: the Frechet distance is not always FID
    numbers: PairMatrix | Printed
    gan: str  # architecture of the generators
    classifiers: frozenset[str]  # those of the classifiers; of generators alone, of their loss's
    coordinates: Mapping[str, float]  # see `Selection`
    is_same: bool | None = None  # see `Selection.same`; None where it has no meaning


@dataclass(frozen=True, eq=False)
class MutualMatrix:
    """Who detects the GANs that fool whom."""

    values: Floats  # [n, n] detection by classifier i of the GANs that fool classifier j
    instances: Sequence[int]  # [n] numbers of the classifiers
    cohorts: tuple[str, str]  # names of what is drawn: the columns, then the rows
    architectures: tuple[str, frozenset[str]]  # of the GANs, and of the classifiers
    seed: int  # of the permutations

    @cached_property
    def clusters(self) -> Clusters:
        """The clusters of the classifiers.

        Raises:
            NotAskedError: when there are too few classifiers, or an entry is missing.
        """
        num = len(self.values)
        if not np.isfinite(self.values[~np.eye(num, dtype=bool)]).all() and num >= MIN_MEMBERS:
            raise NotAskedError("a pair of the matrix has no detection rate")
        clusters = find_clusters(self.values, self.seed)
        if clusters is None:
            raise NotAskedError(
                f"{num} classifiers are fooled one by one, clusters need {MIN_MEMBERS}"
            )
        return clusters

    def list_cells(self, selection: Selection) -> list[Cell]:
        """Divide the matrix: its diagonal, what is off it, or with `same` a cell of each cluster's
        classifiers on the GANs that fool each cluster.
        """
        cells = []
        for name, is_same, mask in self._list_masks(selection):
            numbers = PairMatrix(np.where(mask, self.values, np.nan).T, *self.cohorts)
            cell = Cell(name, DETECTION_RATE, numbers, *self.architectures, {}, is_same)
            cells += [] if np.isnan(numbers.values).all() else [cell]
        return cells

    def _list_masks(self, selection: Selection) -> Iterator[tuple[str, bool | None, Mask]]:
        is_own = np.eye(len(self.values), dtype=bool)
        if selection.pairs is PairSet.IN_LOSS:
            yield "classifiers in the loss", None, is_own
        elif selection.pairs is PairSet.HELD_OUT and selection.same is None:
            yield "classifiers on the GANs of others", None, ~is_own
        elif selection.pairs is PairSet.HELD_OUT:
            for row, column in product(self.clusters.members, repeat=2):
                mask = np.zeros_like(is_own)
                mask[np.ix_(row, column)] = True
                name = f"{self._name(row)} on GANs against {self._name(column)}"
                yield name, row == column, mask & ~is_own

    def _name(self, members: Sequence[int]) -> str:
        return f"{{{', '.join(str(self.instances[member]) for member in members)}}}"


@dataclass(frozen=True, eq=False)
class StudySource:
    """The tables of a study, as from `readings.tables`."""

    study: Study  # names the cohorts of each reading
    detections: pd.DataFrame
    quality: pd.DataFrame
    seed: int  # of permutations

    @property
    def units(self) -> str | None:
        """The extractor whose features the distances are of."""
        return self.study.evaluation.extractor

    def list_cells(self, measure: str, selection: Selection) -> list[Cell]:
        """List the cells of a reading that have numbers.

        Raises:
            NotAskedError: when there is none.
        """
        if not getattr(self.study.report, selection.reading):
            raise NotAskedError(f"the study names no {selection.reading}")
        if selection.pairs is None:
            cells = list(self._list_quality(measure, selection.reading))
        elif selection.reading == MUTUAL_FOOLING:
            cells = self.mutual.list_cells(selection)
        else:
            cells = list(self._list_pairs(measure, selection.reading, selection.pairs))
        if not cells:
            of = "" if selection.pairs is None else f" of {selection.pairs} pairs"
            raise NotAskedError(f"{selection.reading} has no {measure}{of}")
        return cells

    @cached_property
    def mutual(self) -> MutualMatrix:
        """The matrix of mutual fooling, of a study that names it."""
        fooling = make_mutual_fooling(self.detections, self.study)
        assert fooling is not None
        names = f"{Kind.GANS}/{MUTUAL_FOOLING}", f"{Kind.CLASSIFIERS}/{fooling.cohort}"
        architectures = self._get_architectures(fooling.gans[0])  # it fools one of the cohort
        return MutualMatrix(fooling.get_square(), fooling.fooled, names, architectures, self.seed)

    def _list_pairs(self, measure: str, reading: str, pairs: PairSet) -> Iterator[Cell]:
        for gans, classifiers, coordinates in list_readings()[reading].list_cells(self.study):
            rows = select_pairs(self.detections, pairs, gans, classifiers)
            table = rows.pivot(
                index=GENERATOR_INSTANCE, columns=CLASSIFIER_INSTANCE, values=measure
            ).reindex(columns=range(self.study.classifiers[classifiers].instances))
            matrix = self._make_matrix(table, gans, f"{Kind.CLASSIFIERS}/{classifiers}")
            if matrix is not None:
                gan, fooled = self._get_architectures(gans)
                asked = get_classifiers(self.study, [classifiers])
                is_same = asked == fooled if reading == ARCHITECTURES else None
                name = f"{classifiers} on {gans}"
                yield Cell(name, measure, matrix, gan, asked, coordinates, is_same)

    def _list_quality(self, metric: str, reading: str) -> Iterator[Cell]:
        column = find_metric(self.quality, metric)
        measure = find_metric_of(column) or metric
        for gans, coordinates in list_readings()[reading].list_gans(self.study):
            rows = self.quality[self.quality[GENERATOR_COHORT] == gans]
            matrix = self._make_matrix(rows.set_index(GENERATOR_INSTANCE)[[column]], gans)
            if matrix is not None:
                yield Cell(gans, measure, matrix, *self._get_architectures(gans), coordinates)

    def _get_architectures(self, gans: str) -> tuple[str, frozenset[str]]:
        """Return those of GANs and of the classifiers in their loss."""
        fooled = list_fooled(self.study, gans)
        return get_gan(self.study, gans), get_classifiers(self.study, fooled)

    def _make_matrix(self, table: pd.DataFrame, gans: str, *classifiers: str) -> PairMatrix | None:
        """Make a matrix of a table by instance; None without numbers.

        It may have more instances than the study names by now.
        """
        table = table.reindex(range(self.study.gans[gans].instances))
        values = np.ascontiguousarray(table, dtype=np.float64)  # the order of sums is that of rows
        names = f"{Kind.GANS}/{gans}", *classifiers
        return None if np.isnan(values).all() else PairMatrix(values, *names)
