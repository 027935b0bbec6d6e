"""Where claims get their cells: the tables of a study, or those of the paper, which have means with
standard deviations, or single values.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import product
from typing import NamedTuple

import numpy as np

from knowledge_gaps.core.tables import GENERATOR_COHORT, GENERATOR_INSTANCE
from knowledge_gaps.findings.schema import ARCHITECTURES, ITERATIONS, MUTUAL_FOOLING, Selection
from knowledge_gaps.readings import paper
from knowledge_gaps.readings.cells import make_matrix
from knowledge_gaps.readings.cohorts import get_classifiers, list_fooled
from knowledge_gaps.readings.formats import format_title
from knowledge_gaps.readings.reading import Results, list_readings
from knowledge_gaps.readings.tables import PairSet, find_metric, select_pairs
from knowledge_gaps.statistics.bootstrap import (
    Component,
    Floats,
    Mask,
    PairMatrix,
    Resampled,
    Statistic,
)
from knowledge_gaps.statistics.clusters import MIN_MEMBERS, Clusters, find_clusters
from knowledge_gaps.statistics.measures import DETECTION_RATE, FID, find_metric_of
from knowledge_gaps.study import Kind, Study

TABLES = {
    ARCHITECTURES: paper.TABLE_ARCHITECTURES,
    MUTUAL_FOOLING: paper.TABLE_MUTUAL_FOOLING,
    ITERATIONS: paper.TABLE_ITERATIONS,
}
_GAN = "stylegan2"  # of all printed tables
_CLASSIFIERS = {MUTUAL_FOOLING: "mobilenet_v2", ITERATIONS: "resnet50"}
_ARCHITECTURES = {format_title(name): name for name in ("resnet50", "inception_v3", "mobilenet_v2")}
_STEP = 0.01  # two digits are printed; rounding adds a uniform error of this width
_MANY = 1_000  # instances behind a standard error that is known: Student's t is normal


class NotAskedError(Exception):
    """A claim cannot be asked of a source; the message is the reason, in words for a reader."""


class Printed(NamedTuple):
    """A mean as the paper prints it, with its standard deviation."""

    mean: float
    std: float = math.nan  # where none is printed


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
    clusters: Clusters | None = None  # that a cell of mutual fooling is divided by

    @property
    def num_pairs(self) -> int:
        """The numbers of pairs, or of generator instances; none are known of what is printed."""
        if isinstance(self.numbers, Printed):
            return 0
        return int((~np.isnan(self.numbers.values)).sum())


# List the cells of a measure that a selection has; raises NotAskedError when there is none.
Source = Callable[[str, Selection], list[Cell]]


@dataclass(frozen=True, eq=False)
class MutualMatrix:
    """Who detects the GANs that fool whom."""

    values: Floats  # [n, n] detection by classifier i of the GANs that fool classifier j
    instances: Sequence[int]  # [n] numbers of the classifiers
    cohorts: tuple[str, str]  # names of what is drawn: the columns, then the rows
    architectures: tuple[str, frozenset[str]]  # of the GANs, and of the classifiers
    clusters: Clusters | None  # of the classifiers, where they can be divided

    def list_cells(self, selection: Selection) -> Iterator[Cell]:
        """Divide the matrix: its diagonal, what is off it, or with `same` a cell of each cluster's
        classifiers on the GANs that fool each cluster.

        Raises:
            NotAskedError: when clusters are asked for and there are none, since classifiers are too
                few or an entry is missing.
        """
        is_own = np.eye(len(self.values), dtype=bool)
        if selection.pairs is PairSet.IN_LOSS:
            yield self._make_cell("classifiers in the loss", is_own)
        elif selection.pairs is PairSet.HELD_OUT and selection.same is None:
            yield self._make_cell("classifiers on the GANs of others", ~is_own)
        elif selection.pairs is PairSet.HELD_OUT:
            for row, column in product(self._get_clusters().members, repeat=2):
                mask = np.zeros_like(is_own)
                mask[np.ix_(row, column)] = True
                name = f"{self._name(row)} on GANs against {self._name(column)}"
                cell = self._make_cell(name, mask & ~is_own)
                yield replace(cell, is_same=row == column, clusters=self.clusters)

    def _get_clusters(self) -> Clusters:
        if self.clusters is not None:
            return self.clusters
        if (num := len(self.values)) >= MIN_MEMBERS:
            raise NotAskedError("a pair of the matrix has no detection rate")
        raise NotAskedError(f"{num} classifiers are fooled one by one, clusters need {MIN_MEMBERS}")

    def _make_cell(self, name: str, mask: Mask) -> Cell:
        numbers = PairMatrix(np.where(mask, self.values, np.nan).T, *self.cohorts)
        return Cell(name, DETECTION_RATE, numbers, *self.architectures, {})

    def _name(self, members: Sequence[int]) -> str:
        return f"{{{', '.join(str(self.instances[member]) for member in members)}}}"


def list_study_cells(results: Results, measure: str, selection: Selection) -> list[Cell]:
    """List the cells of a reading of a study that have numbers, see `Source`."""
    reading, pairs = selection.reading, selection.pairs
    if not getattr(results.study.report, reading):
        raise NotAskedError(f"the study names no {reading}")
    if pairs is None:
        cells = _list_quality(results, measure, reading)
    elif reading == MUTUAL_FOOLING:
        cells = _read_mutual(results).list_cells(selection)
    else:
        cells = _list_pairs(results, measure, reading, pairs)
    if known := [cell for cell in cells if cell.num_pairs > 0]:
        return known
    of = "" if pairs is None else f" of {pairs} pairs"
    raise NotAskedError(f"{reading} has no {measure}{of}")


def _read_mutual(results: Results) -> MutualMatrix:
    fooling = results.read(MUTUAL_FOOLING)
    names = f"{Kind.GANS}/{MUTUAL_FOOLING}", f"{Kind.CLASSIFIERS}/{fooling.cohort}"
    architectures = _get_architectures(results.study, fooling.gans[0])  # it fools one of the cohort
    square = fooling.get_square()
    return MutualMatrix(square, fooling.fooled, names, architectures, fooling.clusters)


def _list_pairs(results: Results, measure: str, reading: str, pairs: PairSet) -> Iterator[Cell]:
    study = results.study
    for gans, classifiers, coordinates in list_readings()[reading].list_cells(study):
        rows = select_pairs(results.detections, pairs, gans, classifiers)
        shape = study.gans[gans].instances, study.classifiers[classifiers].instances
        matrix = make_matrix(rows, measure, shape, gans, classifiers)
        gan, fooled = _get_architectures(study, gans)
        asked = get_classifiers(study, [classifiers])
        is_same = asked == fooled if reading == ARCHITECTURES else None
        yield Cell(f"{classifiers} on {gans}", measure, matrix, gan, asked, coordinates, is_same)


def _list_quality(results: Results, metric: str, reading: str) -> Iterator[Cell]:
    study, quality, column = results.study, results.quality, find_metric(results.quality, metric)
    measure = find_metric_of(column) or metric
    for gans, coordinates in list_readings()[reading].list_gans(study):
        rows = quality[quality[GENERATOR_COHORT] == gans].set_index(GENERATOR_INSTANCE)
        # the table may have more instances than the study names by now
        rows = rows.reindex(range(study.gans[gans].instances))
        matrix = PairMatrix(rows[[column]].to_numpy(np.float64), f"{Kind.GANS}/{gans}")
        yield Cell(gans, measure, matrix, *_get_architectures(study, gans), coordinates)


def _get_architectures(study: Study, gans: str) -> tuple[str, frozenset[str]]:
    """Return those of GANs and of the classifiers in their loss."""
    gan = study.gan_recipes[study.gans[gans].recipe].architecture
    return gan, get_classifiers(study, list_fooled(study, gans))


def list_paper_cells(seed: int, measure: str, selection: Selection) -> list[Cell]:
    """List the cells of a printed table, see `Source`; the seed is of permutations."""
    reading, pairs = selection.reading, selection.pairs
    is_printed = reading in TABLES and selection.statistic is Statistic.MEAN
    if not is_printed or measure != (FID if pairs is None else DETECTION_RATE):
        raise NotAskedError("the paper prints no table of it")
    if pairs is None:
        return list(_list_fid(reading))
    if reading == MUTUAL_FOOLING:
        return list(_read_table_b(seed).list_cells(selection))
    if pairs is not PairSet.HELD_OUT:
        raise NotAskedError(f"the paper prints no table of {pairs} pairs")
    return list(_list_rates(reading))


@cache
def _read_table_b(seed: int) -> MutualMatrix:
    values = np.array(TABLES[MUTUAL_FOOLING].means)
    names = "gans/paper", "classifiers/paper"
    architectures = _GAN, frozenset({_CLASSIFIERS[MUTUAL_FOOLING]})
    clusters = find_clusters(values, seed)
    return MutualMatrix(values, range(len(values)), names, architectures, clusters)


def _list_rates(reading: str) -> Iterator[Cell]:
    table = TABLES[reading]
    assert table.stds is not None  # of all tables but B
    for (row, title), (column, other) in product(enumerate(table.names), repeat=2):
        numbers = Printed(table.means[row][column], table.stds[row][column])
        classifiers = frozenset({_CLASSIFIERS.get(reading) or _ARCHITECTURES[title]})
        place = {"row": float(row), "column": float(column), "lag": float(column - row)}
        is_same = row == column if reading == ARCHITECTURES else None
        name = f"{title} on {other}"
        yield Cell(name, DETECTION_RATE, numbers, _GAN, classifiers, place, is_same)


def _list_fid(reading: str) -> Iterator[Cell]:
    table = TABLES[reading]
    if table.fid is None:
        raise NotAskedError("the paper prints no table of it")
    fooled = frozenset({_CLASSIFIERS[reading]})
    for column, (name, fid) in enumerate(zip(table.names, table.fid, strict=True)):
        yield Cell(name, FID, Printed(fid), _GAN, fooled, {"column": float(column)})


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
    means, stds = np.transpose(cells)
    errors = np.hypot(stds / math.sqrt(count), _STEP / math.sqrt(12))
    noise = np.random.default_rng([seed, len(cells)]).standard_normal((len(cells), num))
    draws = np.clip(means[:, None] + errors[:, None] * noise, 0.0, 1.0)
    components = []
    for cell in np.flatnonzero(~np.isnan(errors)):
        is_used = np.zeros((size, len(cells)), dtype=np.bool_)
        is_used[:, cell] = True
        deviation = draws[cell].std() / math.sqrt(size)  # of each instance, so that they add up
        components.append(Component(f"cell {cell}", is_used * deviation, is_used))
    return Resampled(means, draws, tuple(components))
