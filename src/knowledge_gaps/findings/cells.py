"""What a claim is asked of: labelled cells, and choosing among them by a claim's selection.

Cells of a study are made in `knowledge_gaps.findings.study_cells`, those of the paper's
tables in `knowledge_gaps.findings.paper_cells`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from knowledge_gaps.findings.schema import AskedOf
from knowledge_gaps.findings.selection import Range, Selection
from knowledge_gaps.readings.formats import format_title
from knowledge_gaps.readings.pairs import PairSet
from knowledge_gaps.statistics.bootstrap import Floats, PairMatrix, Resampled, Statistic
from knowledge_gaps.statistics.clusters import MIN_MEMBERS, Clusters
from knowledge_gaps.statistics.printed import Printed


class NotAskedError(Exception):
    """A claim cannot be asked of a source; the message is the reason, in words for a reader."""


@dataclass(frozen=True)
class Cell:
    """Numbers with labels.

    Attributes:
        name: who is asked about whom.
        coordinates: such as lag or phi; see `selection.COORDINATES`.
        numbers: pairs, or a printed mean.
        is_same: see `selection.Selection.same`; None where it has no meaning.
        gan: architecture of the generators.
        classifiers: architectures of the classifiers, or, of generators alone, of those in their
            loss.
    """

    name: str
    coordinates: Mapping[str, float]
    numbers: PairMatrix | Printed
    is_same: bool | None = None
    gan: str = ""
    classifiers: frozenset[str] = frozenset()


class Source(Protocol):
    """Something that claims can be asked of: a study's tables, or the paper's."""

    def list_cells(self, measure: str, selection: Selection) -> list[Cell]:
        """List the cells of a reading that have numbers.

        Raises:
            NotAskedError: when there is none.
        """

    def resample(self, cells: Sequence[Cell], statistic: Statistic) -> Resampled:
        """Make the statistic of each cell, with draws."""

    def find_clusters(self, selection: Selection) -> Clusters | None:
        """Return the clusters that a selection stands on; None when it stands on none."""

    def find_extractor(self, measure: str) -> str | None:
        """Return the extractor that a measure of quality is of; None where there is none."""

    def name_measure(self, measure: str) -> str:
        """Name a measure as the source does: the Frechet distance is not always called FID."""


def keep_setting(cells: Sequence[Cell], asked_of: AskedOf | None) -> list[Cell]:
    """Keep the cells of the setting that a claim is about.

    Raises:
        NotAskedError: when none is left.
    """
    if asked_of is None:
        return list(cells)
    gan, classifier = asked_of.gan, asked_of.classifier
    kept = [cell for cell in cells if gan in (None, cell.gan)]
    if classifier is not None:
        kept = [cell for cell in kept if cell.classifiers <= {classifier}]
    if not kept:
        wanted = " and ".join(format_title(name) for name in (gan, classifier) if name is not None)
        raise NotAskedError(f"it is asked of {wanted} alone")
    return kept


def choose_cells(cells: Sequence[Cell], selection: Selection) -> list[Cell]:
    """Choose the cells that a selection asks for.

    Raises:
        NotAskedError: when none is left.
    """
    chosen = [cell for cell in cells if selection.same in (None, cell.is_same)]
    for name, wanted in selection.where.items():
        chosen = [cell for cell in chosen if _lies_in(cell.coordinates[name], wanted)]
    for name, wanted in selection.where.items():
        if isinstance(wanted, Range) and wanted.pick is not None and chosen:
            values = [cell.coordinates[name] for cell in chosen]
            end = min(values) if wanted.pick == "smallest" else max(values)
            chosen = [cell for cell in chosen if cell.coordinates[name] == end]
    if not chosen:
        raise NotAskedError(f"no cell of {selection.reading} has {describe_where(selection)}")
    return chosen


def describe_where(selection: Selection) -> str:
    """Put the conditions of a selection into words."""
    words = [f"{name} {_describe(wanted)}" for name, wanted in selection.where.items()]
    if selection.same is not None:
        words.append(f"same {str(selection.same).lower()}")
    if selection.pairs is not None:
        words.append(f"{selection.pairs} pairs")
    return ", ".join(words) or "a number"


def make_fooling_cells(
    square: Floats,
    instances: Sequence[int],
    cohorts: tuple[str, str],
    selection: Selection,
    clusters: Clusters | None,
) -> list[Cell]:
    """Divide a matrix of mutual fooling into cells: the diagonal, or what is off it.

    Args:
        square: [n, n] detection by classifier i (row) of the GANs that fool classifier j (column).
        instances: [n] numbers of the classifiers.
        cohorts: names of what is drawn: the columns, then the rows.
        selection: which pairs; with `same`, each cluster's classifiers on the GANs that fool each
            cluster make a cell.
        clusters: of the matrix, where `same` is asked for.

    Raises:
        NotAskedError: when there is no such pair.
    """
    is_own = np.eye(len(square), dtype=bool)
    masks: list[tuple[str, bool | None, npt.NDArray[np.bool_]]] = []
    if selection.pairs is PairSet.IN_LOSS:
        masks = [("classifiers in the loss", None, is_own)]
    elif selection.pairs is PairSet.HELD_OUT and selection.same is None:
        masks = [("classifiers on the GANs of others", None, ~is_own)]
    elif selection.pairs is PairSet.HELD_OUT and clusters is not None:
        masks = [
            (
                f"{_name(row, instances)} on GANs against {_name(column, instances)}",
                row == column,
                np.outer(_mark(row, len(square)), _mark(column, len(square))) & ~is_own,
            )
            for row in clusters.members
            for column in clusters.members
        ]
    cells = []
    for name, kin, mask in masks:
        values = np.where(mask, square, np.nan)
        if not np.isnan(values).all():
            cells.append(Cell(name, {}, PairMatrix(values.T, *cohorts), kin))
    if not cells:
        raise NotAskedError(f"no cell of {selection.reading} has {describe_where(selection)}")
    return cells


def need_members(square: Floats) -> None:
    """Check that clusters can be looked for.

    Raises:
        NotAskedError: when there are too few members, or an entry is missing.
    """
    if len(square) < MIN_MEMBERS:
        raise NotAskedError(
            f"{len(square)} classifiers are fooled one by one, clusters need {MIN_MEMBERS}"
        )
    if not np.isfinite(square[~np.eye(len(square), dtype=bool)]).all():
        raise NotAskedError("a pair of the matrix has no detection rate")


def _name(members: tuple[int, ...], instances: Sequence[int]) -> str:
    return f"{{{', '.join(str(instances[member]) for member in members)}}}"


def _mark(members: tuple[int, ...], num: int) -> npt.NDArray[np.bool_]:
    return np.isin(np.arange(num), members)


def _lies_in(value: float, wanted: float | Range) -> bool:
    if not isinstance(wanted, Range):
        return value == wanted
    return (
        (wanted.min is None or value >= wanted.min)
        and (wanted.max is None or value <= wanted.max)
        and (wanted.parity is None or value % 2 == (wanted.parity == "odd"))
    )


def _describe(wanted: float | Range) -> str:
    if not isinstance(wanted, Range):
        return f"{wanted:g}"
    words = [
        *([] if wanted.pick is None else [wanted.pick]),
        *([] if wanted.parity is None else [wanted.parity]),
        *([] if wanted.min is None else [f"at least {wanted.min:g}"]),
        *([] if wanted.max is None else [f"at most {wanted.max:g}"]),
    ]
    return " ".join(words) or "of any value"
