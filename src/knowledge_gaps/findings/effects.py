"""Effects: the cells that a question selects, and the number that they become in every chain."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from knowledge_gaps.findings.schema import AskedOf, Claim, Findings, Question, Selection
from knowledge_gaps.findings.sources import SHARES, Cell, Measured, NotAskedError, Source
from knowledge_gaps.readings.formats import format_title
from knowledge_gaps.statistics.chains import (
    Floats,
    Interval,
    Scale,
    bound_effect,
    compute_effects,
    compute_resolution,
)
from knowledge_gaps.statistics.printed import bound_printed

_STEP = 0.01  # of printed shares; rounding adds a uniform error of this width


def choose_sides(claim: Question, source: Source) -> tuple[list[Cell], list[Cell]]:
    """Choose the cells of both sides, none for a right one that is absent; raises NotAskedError."""
    left, right = (
        choose_cells(source(claim.measure, side), side, claim.asked_of) if side else []
        for side in (claim.left, claim.right)
    )
    if claim.right is not None and claim.left.pairs == claim.right.pairs:
        names, others = ([cell.name for cell in cells] for cells in (left, right))
        if names == others and (len(names) == 1 or claim.left.over == claim.right.over):
            raise NotAskedError(f"there is only {names[0]} on both sides")
    return left, right


def choose_cells(cells: Sequence[Cell], selection: Selection, asked_of: AskedOf) -> list[Cell]:
    """Choose the cells that a selection asks for; raises NotAskedError when none is left."""
    gan, classifier = asked_of.gan, asked_of.classifier
    chosen = [cell for cell in cells if gan in (None, cell.gan)]
    if classifier is not None:
        chosen = [cell for cell in chosen if cell.classifiers <= {classifier}]
    if not chosen:
        titles = " and ".join(format_title(name) for name in (gan, classifier) if name)
        raise NotAskedError(f"it is asked of {titles} alone")
    candidates = [cell for cell in chosen if selection.same in (None, cell.is_same)]
    chosen = [
        cell
        for cell in candidates
        if all(cell.coordinates[name] in values for name, values in selection.where.items())
    ]
    for cells in (candidates, chosen):  # a value that no cell has is named first
        _need_values(cells, selection)
    if not chosen:
        raise NotAskedError(f"no cell of {selection.reading} has {_describe_where(selection)}")
    return chosen


def _need_values(cells: Sequence[Cell], selection: Selection) -> None:
    """Check that each value of a selection is there; raises NotAskedError."""
    for name, values in selection.where.items():
        found = {cell.coordinates[name] for cell in cells}
        if missing := [value for value in values if value not in found]:
            words = f"{name} {missing[0]:g} is missing of {_describe_where(selection)}"
            raise NotAskedError(f"{selection.reading}: {words}")


def _describe_where(selection: Selection) -> str:
    words = [
        f"{name} {', '.join(f'{value:g}' for value in values)}"
        for name, values in selection.where.items()
    ]
    if selection.same is not None:
        words.append(f"same {str(selection.same).lower()}")
    if selection.pairs is not None:
        words.append(f"{selection.pairs} pairs")
    return "; ".join(words) or "a number"


def bound(
    claim: Question, findings: Findings, left: Sequence[Cell], right: Sequence[Cell]
) -> Interval:
    """Bound the mean over chains of an effect, or an effect on printed means."""
    over, cells = (claim.left.over, claim.sides[-1].over), [*left, *right]
    measured = [cell.numbers for cell in cells if isinstance(cell.numbers, Measured)]
    if measured:
        least = compute_resolution(measured[0].num_images) if claim.measure in SHARES else 0.0
        scale = Scale.SHARE if claim.measure in SHARES else Scale.PLAIN
        return bound_effect(stack(left), stack(right) if right else None, over, scale, least)
    means, stds = np.array([cell.numbers for cell in cells], dtype=np.float64).T
    num = findings.paper_spread.instances
    errors = np.hypot(stds / math.sqrt(num or 1), _STEP / math.sqrt(12))
    sides = range(len(left)), range(len(left), len(cells))
    interval = bound_printed(means, errors, math.inf if num is None else num - 1, sides, over)
    if claim.measure not in SHARES:
        return interval
    return interval.clip(0.0 if claim.right is None else -1.0, 1.0)


def measure_effects(claim: Claim, source: Source) -> Floats:
    """Return a claim's effect in each chain, float64 [S]; raises NotAskedError.

    Of a claim on equality it is the difference of the left cell that differs most.
    """
    left, right = choose_sides(claim, source)
    if claim.direction == "equals":
        differences = stack(left) - stack(right).mean(axis=1, keepdims=True)  # [S, L]
        most: Floats = differences[:, np.abs(differences.mean(axis=0)).argmax()]
        return most
    over = claim.left.over, claim.sides[-1].over
    return compute_effects(stack(left), stack(right) if right else None, over)


def stack(cells: Sequence[Cell]) -> Floats:
    """Return the numbers of measured cells, float64 [S, cells]."""
    numbers = [cell.numbers.values for cell in cells if isinstance(cell.numbers, Measured)]
    return np.array(numbers, dtype=np.float64).T
