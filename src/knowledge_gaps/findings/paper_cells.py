"""The cells of the paper's own tables, which the claims are asked of as well.

Means and standard deviations as printed; table B has single values, so its rows and columns are
drawn as instances are. The numbers are in `knowledge_gaps.readings.paper`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from knowledge_gaps.findings.cells import Cell, NotAskedError, make_fooling_cells
from knowledge_gaps.findings.selection import Selection
from knowledge_gaps.readings.pairs import PairSet
from knowledge_gaps.readings.paper import (
    TABLE_ARCHITECTURES,
    TABLE_ITERATIONS,
    TABLE_MUTUAL_FOOLING,
    PaperTable,
)
from knowledge_gaps.readings.places import Reading
from knowledge_gaps.statistics.bootstrap import PairMatrix, Resampled, Statistic, resample_cells
from knowledge_gaps.statistics.clusters import Clusters, find_clusters
from knowledge_gaps.statistics.measures import (
    DETECTION_RATE,
    FID,
)
from knowledge_gaps.statistics.printed import Printed, resample_printed

TABLES: Mapping[Reading, PaperTable] = {
    Reading.ARCHITECTURES: TABLE_ARCHITECTURES,
    Reading.MUTUAL_FOOLING: TABLE_MUTUAL_FOOLING,
    Reading.ITERATIONS: TABLE_ITERATIONS,
}
TABLE_LETTERS = {
    Reading.ARCHITECTURES: "A",
    Reading.MUTUAL_FOOLING: "B",
    Reading.ITERATIONS: "C",
}
_GAN = "stylegan2"  # of all printed tables
_CLASSIFIERS = {  # of the tables' rows; as titles of table A's rows
    Reading.MUTUAL_FOOLING: "mobilenet_v2",
    Reading.ITERATIONS: "resnet50",
}
_ARCHITECTURES = {
    "ResNet-50": "resnet50",
    "Inception-v3": "inception_v3",
    "MobileNetV2": "mobilenet_v2",
}


@dataclass(frozen=True, eq=False)
class PaperSource:
    """The paper's tables.

    Attributes:
        num_instances: see `schema.PaperSpread.instances`.
        seed: of draws and permutations.
        num_resamples: of the bootstrap.
        tables: by the reading that they answer.
    """

    num_instances: int | None
    seed: int
    num_resamples: int
    tables: Mapping[Reading, PaperTable] = field(default_factory=lambda: TABLES)

    def list_cells(self, measure: str, selection: Selection) -> list[Cell]:
        """List the cells of a printed table; see `cells.Source`."""
        table = self.tables.get(selection.reading)
        if table is None or selection.statistic is not Statistic.MEAN:
            raise NotAskedError("the paper prints no table of it")
        if measure == FID and selection.pairs is None and table.fid is not None:
            return _list_fid(table.columns, table.fid, _CLASSIFIERS[selection.reading])
        if measure != DETECTION_RATE or selection.pairs is None:
            raise NotAskedError("the paper prints no table of it")
        if selection.reading is Reading.MUTUAL_FOOLING:
            names = "gans/paper", "classifiers/paper"
            square, clusters = np.array(table.means), self.find_clusters(selection)
            cells = make_fooling_cells(square, range(len(square)), names, selection, clusters)
            classifiers = frozenset({_CLASSIFIERS[selection.reading]})
            return [replace(cell, gan=_GAN, classifiers=classifiers) for cell in cells]
        if selection.pairs is not PairSet.HELD_OUT:
            raise NotAskedError(f"the paper prints no table of {selection.pairs} pairs")
        return _list_printed(table, selection.reading)

    def resample(self, cells: Sequence[Cell], statistic: Statistic) -> Resampled:
        """Draw cells of table B as pairs, others from their printed spread; see `cells.Source`."""
        matrices = [cell.numbers for cell in cells if isinstance(cell.numbers, PairMatrix)]
        if matrices:
            return resample_cells(matrices, self.seed, statistic, self.num_resamples)
        printed = [cell.numbers for cell in cells if isinstance(cell.numbers, Printed)]
        return resample_printed(printed, self.num_instances, self.seed, self.num_resamples)

    def find_clusters(self, selection: Selection) -> Clusters | None:
        """Find the clusters of table B; see `cells.Source`."""
        is_asked = selection.same is not None and selection.reading is Reading.MUTUAL_FOOLING
        return self._clusters if is_asked else None

    def find_extractor(self, measure: str) -> str | None:
        """Return None, for the paper's protocol is not known; see `cells.Source`."""
        return None

    def name_measure(self, measure: str) -> str:
        """Return the name as it is; see `cells.Source`."""
        return measure

    @cached_property
    def _clusters(self) -> Clusters | None:
        return find_clusters(np.array(self.tables[Reading.MUTUAL_FOOLING].means), self.seed)


def _list_printed(table: PaperTable, reading: Reading) -> list[Cell]:
    assert table.stds is not None  # of all tables but B
    cells = []
    for row, (means, stds) in enumerate(zip(table.means, table.stds, strict=True)):
        for column, (mean, std) in enumerate(zip(means, stds, strict=True)):
            place = {"row": float(row), "column": float(column), "lag": float(column - row)}
            is_same = row == column if reading is Reading.ARCHITECTURES else None
            name = f"{table.rows[row]} on {table.columns[column]}"
            classifier = _CLASSIFIERS.get(reading) or _ARCHITECTURES[table.rows[row]]
            numbers = Printed(mean, std)
            cells.append(Cell(name, place, numbers, is_same, _GAN, frozenset({classifier})))
    return cells


def _list_fid(columns: Sequence[str], fids: Sequence[float], fooled: str) -> list[Cell]:
    return [
        Cell(name, {"column": float(place)}, Printed(fid, None), None, _GAN, frozenset({fooled}))
        for place, (name, fid) in enumerate(zip(columns, fids, strict=True))
    ]
