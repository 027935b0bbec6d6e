"""Where claims get their cells: the tables of a study, or those of the paper, which have means with
standard deviations, or single values.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import product
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from knowledge_gaps.core.tables import GENERATOR_COHORT, GENERATOR_INSTANCE
from knowledge_gaps.findings.schema import ARCHITECTURES, ITERATIONS, MUTUAL_FOOLING, Selection
from knowledge_gaps.readings.cells import make_matrix
from knowledge_gaps.readings.cohorts import get_classifiers, list_fooled
from knowledge_gaps.readings.formats import format_title
from knowledge_gaps.readings.paper import (
    TABLE_ARCHITECTURES,
    TABLE_ITERATIONS,
    TABLE_MUTUAL_FOOLING,
    PaperTable,
)
from knowledge_gaps.readings.reading import Results, list_readings
from knowledge_gaps.readings.tables import PairSet, find_metric, select_pairs
from knowledge_gaps.statistics.bootstrap import Component, Floats, PairMatrix, Resampled, Statistic
from knowledge_gaps.statistics.clusters import MIN_MEMBERS, Clusters, find_clusters
from knowledge_gaps.statistics.measures import DETECTION_RATE, FID, find_metric_of
from knowledge_gaps.study import Kind

Mask = npt.NDArray[np.bool_]

TABLES: Mapping[str, PaperTable] = {
    ARCHITECTURES: TABLE_ARCHITECTURES,
    MUTUAL_FOOLING: TABLE_MUTUAL_FOOLING,
    ITERATIONS: TABLE_ITERATIONS,
}
_GAN = "stylegan2"  # of all printed tables
_CLASSIFIERS = {MUTUAL_FOOLING: "mobilenet_v2", ITERATIONS: "resnet50"}
_ARCHITECTURES = {format_title(name): name for name in ("resnet50", "inception_v3", "mobilenet_v2")}
_NO_TABLE = "the paper prints no table of"
_STEP = 0.01  # two digits are printed; rounding adds a uniform error of this width
_MANY = 1_000  # instances behind a standard error that is known: Student's t is normal


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
    division: Clusters | None  # of the classifiers, where they can be divided

    @property
    def clusters(self) -> Clusters:
        """The clusters of the classifiers.

        Raises:
            NotAskedError: when there are too few classifiers, or an entry is missing.
        """
        if self.division is not None:
            return self.division
        if (num := len(self.values)) >= MIN_MEMBERS:
            raise NotAskedError("a pair of the matrix has no detection rate")
        raise NotAskedError(f"{num} classifiers are fooled one by one, clusters need {MIN_MEMBERS}")

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
    """The tables of a study."""

    results: Results

    @property
    def units(self) -> str | None:
        """The extractor whose features the distances are of."""
        return self.results.study.evaluation.extractor

    def list_cells(self, measure: str, selection: Selection) -> list[Cell]:
        """List the cells of a reading that have numbers.

        Raises:
            NotAskedError: when there is none.
        """
        if not getattr(self.results.study.report, selection.reading):
            raise NotAskedError(f"the study names no {selection.reading}")
        if selection.pairs is None:
            cells = self._list_quality(measure, selection.reading)
        elif selection.reading == MUTUAL_FOOLING:
            cells = iter(self.mutual.list_cells(selection))
        else:
            cells = self._list_pairs(measure, selection.reading, selection.pairs)
        if known := list(cells):
            return known
        of = "" if selection.pairs is None else f" of {selection.pairs} pairs"
        raise NotAskedError(f"{selection.reading} has no {measure}{of}")

    @cached_property
    def mutual(self) -> MutualMatrix:
        """The matrix of mutual fooling, of a study that names it."""
        fooling = self.results.read(MUTUAL_FOOLING)
        names = f"{Kind.GANS}/{MUTUAL_FOOLING}", f"{Kind.CLASSIFIERS}/{fooling.cohort}"
        architectures = self._get_architectures(fooling.gans[0])  # it fools one of the cohort
        square = fooling.get_square()
        return MutualMatrix(square, fooling.fooled, names, architectures, fooling.clusters)

    def _list_pairs(self, measure: str, reading: str, pairs: PairSet) -> Iterator[Cell]:
        study = self.results.study
        for gans, classifiers, coordinates in list_readings()[reading].list_cells(study):
            rows = select_pairs(self.results.detections, pairs, gans, classifiers)
            if rows[measure].notna().any():
                shape = study.gans[gans].instances, study.classifiers[classifiers].instances
                matrix = make_matrix(rows, measure, shape, gans, classifiers)
                gan, fooled = self._get_architectures(gans)
                asked = get_classifiers(study, [classifiers])
                is_same = asked == fooled if reading == ARCHITECTURES else None
                name = f"{classifiers} on {gans}"
                yield Cell(name, measure, matrix, gan, asked, coordinates, is_same)

    def _list_quality(self, metric: str, reading: str) -> Iterator[Cell]:
        quality, column = self.results.quality, find_metric(self.results.quality, metric)
        measure = find_metric_of(column) or metric
        for gans, coordinates in list_readings()[reading].list_gans(self.results.study):
            rows = quality[quality[GENERATOR_COHORT] == gans].set_index(GENERATOR_INSTANCE)
            # the table may have more instances than the study names by now
            rows = rows.reindex(range(self.results.study.gans[gans].instances))
            matrix = PairMatrix(rows[[column]].to_numpy(np.float64), f"{Kind.GANS}/{gans}")
            if not np.isnan(matrix.values).all():
                yield Cell(gans, measure, matrix, *self._get_architectures(gans), coordinates)

    def _get_architectures(self, gans: str) -> tuple[str, frozenset[str]]:
        """Return those of GANs and of the classifiers in their loss."""
        study = self.results.study
        gan = study.gan_recipes[study.gans[gans].recipe].architecture
        return gan, get_classifiers(study, list_fooled(study, gans))


@dataclass(frozen=True, eq=False)
class PaperSource:
    """The paper's tables, by the reading that they answer."""

    seed: int  # of permutations
    tables: Mapping[str, PaperTable] = field(default_factory=lambda: TABLES)
    units = None  # its distances have no margins but the pilot's

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
        clusters = find_clusters(values, self.seed)
        return MutualMatrix(values, range(len(values)), names, architectures, clusters)


def _list_rates(table: PaperTable, reading: str) -> Iterator[Cell]:
    assert table.stds is not None  # of all tables but B
    for (row, title), (column, other) in product(enumerate(table.names), repeat=2):
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
    for column, (name, fid) in enumerate(zip(table.names, table.fid, strict=True)):
        yield Cell(name, FID, Printed(fid, None), _GAN, fooled, {"column": float(column)})


def resample_printed(
    cells: Sequence[Printed], num_instances: int | None, seed: int, num: int
) -> Resampled:
    """Draw every printed mean from a normal distribution, independently of the others.

    Args:
        cells: shares; one without a standard deviation gets no draws.
        num_instances: a standard deviation is that of so many independent numbers, so the mean's
            standard error is its share 1/sqrt(num_instances); None takes it for that error.
        seed: of the draws, which are clipped to [0, 1].
        num: how many draws.
    """
    count, size = (1, _MANY) if num_instances is None else (num_instances, num_instances)
    stds = np.array([math.nan if cell.std is None else cell.std for cell in cells])
    errors = np.hypot(stds / math.sqrt(count), _STEP / math.sqrt(12))
    means = np.array([cell.mean for cell in cells])
    noise = np.random.default_rng([seed, len(cells)]).standard_normal((len(cells), num))
    draws = np.clip(means[:, None] + errors[:, None] * noise, 0.0, 1.0)
    components = []
    for cell in np.flatnonzero(~np.isnan(errors)):
        is_used = np.zeros((size, len(cells)), dtype=np.bool_)
        is_used[:, cell] = True
        deviation = draws[cell].std() / math.sqrt(size)  # of each instance, so that they add up
        components.append(Component(f"cell {cell}", is_used * deviation, is_used))
    return Resampled(means, draws, tuple(components))
