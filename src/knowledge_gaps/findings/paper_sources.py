"""Where claims get their cells from the paper: its tables of means with standard deviations, or of
single values.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from itertools import product

import numpy as np

from knowledge_gaps.findings.schema import ARCHITECTURES, ITERATIONS, MUTUAL_FOOLING, Selection
from knowledge_gaps.findings.sources import Cell, NotAskedError, Printed, list_masks
from knowledge_gaps.readings import paper
from knowledge_gaps.readings.formats import format_title
from knowledge_gaps.readings.tables import PairSet
from knowledge_gaps.statistics.chains import Statistic
from knowledge_gaps.statistics.clusters import Clusters, find_clusters
from knowledge_gaps.statistics.measures import DETECTION_RATE, FID

TABLES = {
    ARCHITECTURES: paper.TABLE_ARCHITECTURES,
    MUTUAL_FOOLING: paper.TABLE_MUTUAL_FOOLING,
    ITERATIONS: paper.TABLE_ITERATIONS,
}
_GAN = "stylegan2"  # of all printed tables
_CLASSIFIERS = {MUTUAL_FOOLING: "mobilenet_v2", ITERATIONS: "resnet50"}
_ARCHITECTURES = {format_title(name): name for name in ("resnet50", "inception_v3", "mobilenet_v2")}


def list_paper_cells(seed: int, measure: str, selection: Selection) -> list[Cell]:
    """List the cells of a printed table, see `Source`; the seed is of permutations."""
    reading, pairs = selection.reading, selection.pairs
    is_printed = reading in TABLES and selection.statistic is Statistic.MEAN
    if not is_printed or measure != (FID if pairs is None else DETECTION_RATE):
        raise NotAskedError("the paper prints no table of it")
    if pairs is None:
        return list(_list_fid(reading))
    if reading == MUTUAL_FOOLING:
        return list(_list_table_b(seed, selection))
    if pairs is not PairSet.HELD_OUT:
        raise NotAskedError(f"the paper prints no table of {pairs} pairs")
    return list(_list_rates(reading))


def _list_table_b(seed: int, selection: Selection) -> Iterator[Cell]:
    values, classifiers = np.array(TABLES[MUTUAL_FOOLING].means), _CLASSIFIERS[MUTUAL_FOOLING]
    clusters = (_divide_table_b(seed),)
    for name, is_same, [mask] in list_masks(selection, [values], clusters):
        yield Cell(
            name=name,
            measure=DETECTION_RATE,
            numbers=Printed(float(values[mask].mean())),
            gan=_GAN,
            classifiers=frozenset({classifiers}),
            coordinates={},
            is_same=is_same,
            clusters=clusters,
        )


@cache
def _divide_table_b(seed: int) -> Clusters:
    clusters = find_clusters(np.array(TABLES[MUTUAL_FOOLING].means), seed)
    assert clusters is not None  # it has ten classifiers
    return clusters


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
