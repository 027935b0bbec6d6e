"""Where claims get their cells: the two tables of a study, or the paper's printed tables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import product

import numpy as np
import numpy.typing as npt
import pandas as pd

from knowledge_gaps.core.tables import (
    CLASSIFIER_COHORT,
    CLASSIFIER_INSTANCE,
    GENERATOR_COHORT,
    GENERATOR_INSTANCE,
)
from knowledge_gaps.findings.schema import ARCHITECTURES, ITERATIONS, MUTUAL_FOOLING, Selection
from knowledge_gaps.readings.cohorts import get_classifiers, get_gan, list_fooled
from knowledge_gaps.readings.formats import format_title
from knowledge_gaps.readings.mutual_fooling import make_mutual_fooling
from knowledge_gaps.readings.paper import (
    TABLE_ARCHITECTURES,
    TABLE_ITERATIONS,
    TABLE_MUTUAL_FOOLING,
    PaperTable,
)
from knowledge_gaps.readings.reading import list_readings
from knowledge_gaps.readings.tables import PairSet, find_metric
from knowledge_gaps.statistics.bootstrap import NO_COHORT, Floats, PairMatrix, Statistic
from knowledge_gaps.statistics.clusters import MIN_MEMBERS, Clusters, find_clusters
from knowledge_gaps.statistics.measures import DETECTION_RATE, FID, find_metric_of
from knowledge_gaps.statistics.printed import Printed
from knowledge_gaps.study import Kind, Study

TABLES: Mapping[str, PaperTable] = {
    ARCHITECTURES: TABLE_ARCHITECTURES,
    MUTUAL_FOOLING: TABLE_MUTUAL_FOOLING,
    ITERATIONS: TABLE_ITERATIONS,
}
_GAN = "stylegan2"  # of all printed tables
_CLASSIFIERS = {MUTUAL_FOOLING: "mobilenet_v2", ITERATIONS: "resnet50"}
_ARCHITECTURES = {format_title(name): name for name in ("resnet50", "inception_v3", "mobilenet_v2")}
_NO_TABLE = "the paper prints no table of"

Mask = npt.NDArray[np.bool_]


class NotAskedError(Exception):
    """A claim cannot be asked of a source; the message is the reason, in words for a reader."""


@dataclass(frozen=True)
class Cell:
    """Numbers with labels.

    Attributes:
        name: of the classifiers and GANs.
        measure: as the source calls it: the Frechet distance is not always FID.
        numbers: of pairs, or a printed mean.
        gan: architecture of the generators.
        classifiers: architectures of the classifiers, or, of generators alone, of those in their
            loss.
        coordinates: such as lag or phi; see `Selection.where`.
        is_same: see `Selection.same`; None where it has no meaning.
    """

    name: str
    measure: str
    numbers: PairMatrix | Printed
    gan: str
    classifiers: frozenset[str]
    coordinates: Mapping[str, float]
    is_same: bool | None = None


@dataclass(frozen=True, eq=False)
class MutualMatrix:
    """Who detects the GANs that fool whom.

    Attributes:
        values: [n, n] detection by classifier i (row) of the GANs that fool classifier j (column).
        instances: [n] numbers of the classifiers.
        cohorts: names of what is drawn: the columns, then the rows.
        architectures: of the GANs, and of the classifiers.
        seed: of the permutations.
    """

    values: Floats
    instances: Sequence[int]
    cohorts: tuple[str, str]
    architectures: tuple[str, frozenset[str]]
    seed: int

    @cached_property
    def clusters(self) -> Clusters:
        """The clusters of the classifiers.

        Raises:
            NotAskedError: when there are too few classifiers, or an entry is missing.
        """
        num = len(self.values)
        if num < MIN_MEMBERS:
            raise NotAskedError(
                f"{num} classifiers are fooled one by one, clusters need {MIN_MEMBERS}"
            )
        if not np.isfinite(self.values[~np.eye(num, dtype=bool)]).all():
            raise NotAskedError("a pair of the matrix has no detection rate")
        clusters = find_clusters(self.values, self.seed)
        assert clusters is not None  # there are enough members
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
    """The tables of a study.

    Attributes:
        study: names the cohorts of each reading.
        detections: as from `tables.read_detections`.
        quality: as from `tables.read_quality`.
        seed: of permutations.
    """

    study: Study
    detections: pd.DataFrame
    quality: pd.DataFrame
    seed: int

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
            block = self._blocks.get((gans, classifiers), self.detections[:0])
            matrix = self._make_matrix(block[pairs.select(block)], measure, gans, classifiers)
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
            matrix = self._make_matrix(rows, column, gans)
            if matrix is not None:
                yield Cell(gans, measure, matrix, *self._get_architectures(gans), coordinates)

    def _get_architectures(self, gans: str) -> tuple[str, frozenset[str]]:
        """Return those of GANs and of the classifiers in their loss."""
        fooled = list_fooled(self.study, gans)
        return get_gan(self.study, gans), get_classifiers(self.study, fooled)

    @cached_property
    def _blocks(self) -> dict[tuple[str, str], pd.DataFrame]:
        keys = [GENERATOR_COHORT, CLASSIFIER_COHORT]
        return {(str(a), str(b)): block for (a, b), block in self.detections.groupby(keys)}

    def _make_matrix(
        self, rows: pd.DataFrame, column: str, gans: str, classifiers: str | None = None
    ) -> PairMatrix | None:
        """Make a matrix of pairs, or of one column for generators alone; None without numbers."""
        sizes, names = [self.study.gans[gans].instances, 1], [f"{Kind.GANS}/{gans}", NO_COHORT]
        instances = [rows[GENERATOR_INSTANCE], 0 * rows[GENERATOR_INSTANCE]]
        if classifiers is not None:
            sizes[1] = self.study.classifiers[classifiers].instances
            names[1] = f"{Kind.CLASSIFIERS}/{classifiers}"
            instances[1] = rows[CLASSIFIER_INSTANCE]
        # a table may have more instances than the study names by now
        is_known = (instances[0] < sizes[0]) & (instances[1] < sizes[1])
        values = np.full(sizes, np.nan)
        values[instances[0][is_known], instances[1][is_known]] = rows.loc[is_known, column]
        return None if np.isnan(values).all() else PairMatrix(values, *names)


@dataclass(frozen=True, eq=False)
class PaperSource:
    """The paper's tables: means with standard deviations, or the single values of table B.

    Attributes:
        seed: of permutations.
        tables: by the reading that they answer.
    """

    seed: int
    tables: Mapping[str, PaperTable] = field(default_factory=lambda: TABLES)

    def list_cells(self, measure: str, selection: Selection) -> list[Cell]:
        """List the cells of a printed table.

        Raises:
            NotAskedError: when there is none.
        """
        reading, pairs = selection.reading, selection.pairs
        table = self.tables.get(reading)
        is_printed = measure == (FID if pairs is None else DETECTION_RATE)
        if table is None or selection.statistic is not Statistic.MEAN or not is_printed:
            raise NotAskedError(f"{_NO_TABLE} it")
        if pairs is None:
            return list(_list_fid(table, reading))
        if reading == MUTUAL_FOOLING:
            return self.mutual.list_cells(selection)
        if pairs is not PairSet.HELD_OUT:
            raise NotAskedError(f"{_NO_TABLE} {pairs} pairs")
        return list(_list_rates(table, reading))

    @cached_property
    def mutual(self) -> MutualMatrix:
        """Table B."""
        values = np.array(self.tables[MUTUAL_FOOLING].means)
        names = "gans/paper", "classifiers/paper"
        architectures = _GAN, frozenset({_CLASSIFIERS[MUTUAL_FOOLING]})
        return MutualMatrix(values, range(len(values)), names, architectures, self.seed)


Source = StudySource | PaperSource


def _list_rates(table: PaperTable, reading: str) -> Iterator[Cell]:
    assert table.stds is not None  # of all tables but B
    for (row, title), (column, other) in product(enumerate(table.rows), enumerate(table.columns)):
        place = {"row": float(row), "column": float(column), "lag": float(column - row)}
        is_same = row == column if reading == ARCHITECTURES else None
        classifiers = frozenset({_CLASSIFIERS.get(reading) or _ARCHITECTURES[title]})
        numbers = Printed(table.means[row][column], table.stds[row][column])
        name = f"{title} on {other}"
        yield Cell(name, DETECTION_RATE, numbers, _GAN, classifiers, place, is_same)


def _list_fid(table: PaperTable, reading: str) -> Iterator[Cell]:
    if table.fid is None:
        raise NotAskedError(f"{_NO_TABLE} it")
    fooled = frozenset({_CLASSIFIERS[reading]})
    for column, (name, fid) in enumerate(zip(table.columns, table.fid, strict=True)):
        yield Cell(name, FID, Printed(fid, None), _GAN, fooled, {"column": float(column)})
