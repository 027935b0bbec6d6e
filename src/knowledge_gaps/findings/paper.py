"""The paper's tables as a source of claims: means with standard deviations, or single values."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import product

import numpy as np

from knowledge_gaps.findings.schema import ARCHITECTURES, ITERATIONS, MUTUAL_FOOLING, Selection
from knowledge_gaps.findings.sources import Cell, MutualMatrix, NotAskedError, Printed
from knowledge_gaps.readings.formats import format_title
from knowledge_gaps.readings.paper import (
    TABLE_ARCHITECTURES,
    TABLE_ITERATIONS,
    TABLE_MUTUAL_FOOLING,
    PaperTable,
)
from knowledge_gaps.readings.tables import PairSet
from knowledge_gaps.statistics.bootstrap import Component, Resampled, Statistic
from knowledge_gaps.statistics.clusters import find_clusters
from knowledge_gaps.statistics.measures import DETECTION_RATE, FID

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
