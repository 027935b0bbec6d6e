"""Which cells a selection takes from a made-up study."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from findings_tools import make_detections, make_quality, make_study

from knowledge_gaps.findings.judge import choose_cells
from knowledge_gaps.findings.schema import AskedOf, Selection
from knowledge_gaps.findings.sources import Cell, NotAskedError, StudySource
from knowledge_gaps.readings.reading import Results
from knowledge_gaps.statistics.bootstrap import PairMatrix

STUDY = make_study()


def choose(measure: str = "detection_rate", **settings: object) -> dict[str, Cell]:
    """Choose cells of the made-up study."""
    selection = Selection.model_validate(settings)
    detections = make_detections(STUDY, lambda *_: 0.5, lambda gans: 0.0)
    source = StudySource(Results(Path(), STUDY, detections, make_quality(STUDY, {}, {}), 0))
    cells = choose_cells(source.list_cells(measure, selection), selection, AskedOf())
    assert len({cell.name for cell in cells}) == len(cells)
    return {cell.name: cell for cell in cells}


def has_no_pairs(cell: Cell, axis: int) -> list[bool]:
    assert isinstance(cell.numbers, PairMatrix)
    return [bool(value) for value in np.isnan(cell.numbers.values).all(axis=axis)]


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ({"lag": 3.0}, ["c_0 on fool_3"]),
        ({"lag": {"max": -3}}, ["c_3 on base"]),
        ({"lag": {"min": 1, "parity": "even"}}, ["c_0 on fool_2", "c_1 on fool_3"]),
        ({"lag": 0, "row": {"pick": "largest"}}, ["c_3 on fool_3"]),
        ({"row": {"pick": "largest"}, "lag": {"min": 1}}, ["c_2 on fool_3"]),
        ({"row": 0, "column": {"min": 2}}, ["c_0 on fool_2", "c_0 on fool_3"]),
    ],
)
def test_selection_of_iterations(where: dict[str, object], expected: list[str]) -> None:
    assert list(choose(reading="iterations", pairs="held_out", where=where)) == expected


@pytest.mark.parametrize(
    ("reading", "coordinate", "values"),
    [
        ("phi_sweep", "phi", {0.01, 0.1, 1, 10, 100, 1000}),
        ("generalisation", "n", {1, 2}),
        ("multi_instance", "t", {1, 3}),
        ("truncation", "psi", {0.5, 1.0}),
    ],
)
def test_coordinates_along_the_axes(reading: str, coordinate: str, values: set[float]) -> None:
    cells = choose(reading=reading, pairs="held_out").values()
    assert {cell.coordinates[coordinate] for cell in cells} == values


def test_held_out_pairs_leave_out_training_on_both_sides() -> None:
    cell = choose("auc", reading="multi_instance", pairs="held_out")["c_0 on multi_3"]
    assert has_no_pairs(cell, 0) == [True] * 3 + [False] * 5
    own = {"lag": 0, "row": 1}
    (cell,) = choose("auc", reading="iterations", pairs="held_out", where=own).values()
    assert has_no_pairs(cell, 1) == [True] * 2 + [False] * 4


def test_architectures_divide_into_same_and_other() -> None:
    rows, columns = ("c_0", "i_2", "m_2"), ("fool_1", "fool_i", "fool_m")
    same = choose(reading="architectures", pairs="held_out", same=True)
    assert list(same) == [f"{row} on {column}" for row, column in zip(rows, columns, strict=True)]
    both = choose(reading="architectures", pairs="held_out")
    assert list(both) == [f"{row} on {column}" for row in rows for column in columns]
    # the instance in the loss is left out of the diagonal
    assert has_no_pairs(both["i_2 on fool_i"], 0) == [True] + [False] * 5


def test_claim_without_cells_is_not_asked() -> None:
    with pytest.raises(NotAskedError, match="no cell of iterations has lag 9, held_out pairs"):
        choose(reading="iterations", pairs="held_out", where={"lag": 9})
    with pytest.raises(NotAskedError, match="generalisation has no detection_rate of in_loss pair"):
        choose(reading="generalisation", pairs="in_loss")
