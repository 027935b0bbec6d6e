"""Where claims get their cells from a study: its tables, curves and judges."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from knowledge_gaps.core.tables import (
    GENERATOR_CHAIN,
    GENERATOR_COHORT,
    NUM_IMAGES,
)
from knowledge_gaps.findings.schema import (
    ARCHITECTURES,
    MUTUAL_FOOLING,
    OF_COHORTS,
    Selection,
)
from knowledge_gaps.readings.cells import MEASURES
from knowledge_gaps.readings.cohorts import get_classifiers, list_fooled
from knowledge_gaps.readings.curves import measure_ends
from knowledge_gaps.readings.judges import JudgesContent
from knowledge_gaps.readings.mutual_fooling import MutualFooling
from knowledge_gaps.readings.reading import Results, list_readings
from knowledge_gaps.readings.tables import PairSet, find_metric
from knowledge_gaps.readings.transfers import TRANSFER
from knowledge_gaps.statistics.chains import Floats, Statistic
from knowledge_gaps.statistics.clusters import MIN_MEMBERS, Clusters
from knowledge_gaps.statistics.measures import (
    AUC,
    COVERAGE,
    DETECTION_RATE,
    JUDGE_BEST_AUC,
    LOSS_DISCRIMINATOR,
    MEMORISED,
    PRECISION,
    RECALL,
    find_metric_of,
)
from knowledge_gaps.study import Study

SHARES = frozenset(
    {*MEASURES, JUDGE_BEST_AUC, PRECISION, RECALL, COVERAGE, MEMORISED}
)  # measures in [0, 1]


class NotAskedError(Exception):
    """A claim cannot be asked of a source; the message is the reason, in words for a reader."""


class Printed(NamedTuple):
    """A mean as the paper prints it, with its standard deviation."""

    mean: float
    std: float = math.nan  # where none is printed


class Measured(NamedTuple):
    """A number of each chain."""

    values: Floats  # [S], over the pairs or generators of a chain; NaN where it has none
    num: int  # pairs or generators of all chains
    num_images: int  # of each generator


class InLoss(NamedTuple):
    """How the classifiers in the loss of a GAN cohort judge it: means over chains."""

    detection_rate: float
    auc: float


@dataclass(frozen=True)
class Cell:
    """A number with labels."""

    name: str  # of the classifiers and GANs
    measure: str  # as the source calls it: the Frechet distance is not always FID
    numbers: Measured | Printed
    gan: str  # architecture of the generators
    classifiers: frozenset[str]  # those of the classifiers; of generators alone, of their loss's
    coordinates: Mapping[str, float]  # see `Selection`
    is_same: bool | None = None  # see `Selection.same`; None where it has no meaning
    in_loss: InLoss | None = None  # None for a baseline, and where it is not known
    clusters: tuple[Clusters, ...] = ()  # that mutual fooling is divided by, one a chain


# List the cells of a measure that a selection has; raises NotAskedError when there is none.
Source = Callable[[str, Selection], list[Cell]]


def list_study_cells(results: Results, measure: str, selection: Selection) -> list[Cell]:
    """List the cells of a reading of a study that have numbers, see `Source`."""
    reading, pairs = selection.reading, selection.pairs
    if not getattr(results.study.report, reading):
        raise NotAskedError(f"the study names no {reading}")
    if pairs is None:
        cells = _list_quality(results, measure, reading)
    elif reading == MUTUAL_FOOLING:
        cells = _list_mutual(results, selection)
    else:
        cells = _list_pairs(results, measure, selection)
    known = [cell for cell in cells if isinstance(cell.numbers, Measured) and cell.numbers.num > 0]
    if known:
        return known
    of = "" if pairs is None else f" of {pairs} pairs"
    raise NotAskedError(f"{reading} has no {measure}{of}")


def _list_pairs(results: Results, measure: str, selection: Selection) -> Iterator[Cell]:
    study, reading, pairs = results.study, selection.reading, selection.pairs
    assert pairs is not None
    for gans, classifiers, coordinates in list_readings()[reading].list_cells(study):
        rows = results.list_pairs(pairs, gans, classifiers)
        if measure in OF_COHORTS:
            values = _get_of_cohorts(results, measure).get((gans, classifiers), np.array([]))
            num = len(rows) if np.isfinite(values).any() else 0
            numbers = Measured(values, num, int(results.detections[NUM_IMAGES].min()))
        else:
            numbers = _summarise(results, rows, measure, selection.statistic)
        gan, fooled = _get_architectures(study, gans)
        asked = get_classifiers(study, [classifiers])
        yield Cell(
            name=f"{classifiers} on {gans}",
            measure=measure,
            numbers=numbers,
            gan=gan,
            classifiers=asked,
            coordinates=coordinates,
            is_same=asked == fooled if reading == ARCHITECTURES else None,
            in_loss=_find_in_loss(results, gans),
        )


def _get_of_cohorts(results: Results, measure: str) -> Mapping[tuple[str, str], Floats]:
    """Return a measure that two cohorts have as a whole, in each chain."""
    if measure == TRANSFER:
        return results.transfers
    judged: JudgesContent | None = results.read("judges")
    return {} if judged is None else judged.best_aucs


def _list_quality(results: Results, metric: str, reading: str) -> Iterator[Cell]:
    study, quality, column = results.study, results.quality, metric
    if metric == LOSS_DISCRIMINATOR:
        quality = measure_ends(results.read("curves"))
    else:
        column = find_metric(quality, metric)
    measure = find_metric_of(column) or metric
    for gans, coordinates in list_readings()[reading].list_gans(study):
        rows = quality[quality[GENERATOR_COHORT] == gans]
        numbers = _summarise(results, rows, column, Statistic.MEAN)
        architectures, in_loss = _get_architectures(study, gans), _find_in_loss(results, gans)
        yield Cell(gans, measure, numbers, *architectures, coordinates, in_loss=in_loss)


def _summarise(results: Results, rows: pd.DataFrame, column: str, statistic: Statistic) -> Measured:
    """Compute a statistic of a column in each chain; one without a row, or of one row, is NaN."""
    known = rows.dropna(subset=[column])
    values = known.groupby(GENERATOR_CHAIN)[column].agg(statistic.value)
    values = values.reindex(range(results.study.study.chains))
    return Measured(
        values.to_numpy(np.float64), len(known), int(results.detections[NUM_IMAGES].min())
    )


def _find_in_loss(results: Results, gans: str) -> InLoss | None:
    if gans not in results.in_loss.index:
        return None
    found: Any = results.in_loss.loc[gans]
    return InLoss(float(found[DETECTION_RATE]), float(found[AUC]))


def _list_mutual(results: Results, selection: Selection) -> Iterator[Cell]:
    chains: list[MutualFooling] = results.read(MUTUAL_FOOLING)
    num_images = int(results.detections[NUM_IMAGES].min())
    squares = [each.get_square() for each in chains]
    clusters = tuple(each.clusters for each in chains if each.clusters is not None)
    found = [_find_in_loss(results, gans) for gans in chains[0].gans]
    known = [each for each in found if each is not None]
    worst = InLoss(*map(max, zip(*known, strict=True))) if known else None
    architectures = _get_architectures(results.study, chains[0].gans[0])  # it fools one of them all
    for name, is_same, masks in list_masks(selection, squares, clusters):
        parts = [square[mask] for square, mask in zip(squares, masks, strict=True)]
        values = np.array([part.mean() if part.size else math.nan for part in parts])
        measured = Measured(values, sum(map(len, parts)), num_images)
        yield Cell(name, DETECTION_RATE, measured, *architectures, {}, is_same, worst, clusters)


def list_masks(
    selection: Selection, squares: Sequence[Floats], clusters: Sequence[Clusters]
) -> Iterator[tuple[str, bool | None, list[npt.NDArray[np.bool_]]]]:
    """List parts of matrices [n, n]: a name, whether it is of one cluster, and a mask a chain.

    Raises NotAskedError when clusters are asked for and a chain has none, since classifiers are too
    few or an entry is missing.
    """
    own = [np.eye(len(square), dtype=bool) for square in squares]
    if selection.pairs is PairSet.IN_LOSS:
        yield "classifiers in the loss", None, own
    elif selection.pairs is PairSet.HELD_OUT and selection.same is None:
        yield "classifiers on the GANs of others", None, [~each for each in own]
    elif selection.pairs is PairSet.HELD_OUT:
        if len(clusters) < len(squares):
            if (num := len(squares[0])) >= MIN_MEMBERS:
                raise NotAskedError("a pair of the matrix has no detection rate")
            words = f"{num} classifiers are fooled one by one"
            raise NotAskedError(f"{words}, clusters need {MIN_MEMBERS}")
        same = [np.equal.outer(each.labels, each.labels) for each in clusters]
        within = [mask & ~each for mask, each in zip(same, own, strict=True)]
        yield "classifiers on GANs against their own cluster", True, within
        yield "classifiers on GANs against other clusters", False, [~mask for mask in same]


def _get_architectures(study: Study, gans: str) -> tuple[str, frozenset[str]]:
    """Return those of GANs and of the classifiers in their loss."""
    gan = study.gan_recipes[study.gans[gans].recipe].architecture
    return gan, get_classifiers(study, list_fooled(study, gans))
