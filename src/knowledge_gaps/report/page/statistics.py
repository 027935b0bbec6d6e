"""Which cells the page shows in its table of detection statistics."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from knowledge_gaps.readings.cells import CellKey
from knowledge_gaps.readings.collected import Readings
from knowledge_gaps.readings.pairs import PairSet
from knowledge_gaps.readings.tables import IterationTable
from knowledge_gaps.statistics.measures import (
    AUC,
    AVERAGE_PRECISION,
    BALANCED_ACCURACY,
    CALIBRATION_ERROR,
    DETECTION_AT_1PCT,
    DETECTION_AT_5PCT,
    DETECTION_RATE,
    EQUAL_ERROR_RATE,
    REAL_ACCURACY,
)
from knowledge_gaps.study import Study

MEASURE_TITLES = {
    DETECTION_RATE: "detection",
    REAL_ACCURACY: "reals",
    BALANCED_ACCURACY: "balanced",
    AUC: "AUC",
    AVERAGE_PRECISION: "AP",
    DETECTION_AT_1PCT: "at 1 %",
    DETECTION_AT_5PCT: "at 5 %",
    EQUAL_ERROR_RATE: "EER",
    CALIBRATION_ERROR: "ECE",
}


@dataclass(frozen=True)
class StatisticsTable:
    """Cells of held-out pairs in the order of the page.

    Attributes:
        titles: of the columns, by measure.
        main: cells of the iterations.
        others: cells of all other readings.
    """

    titles: Mapping[str, str]
    main: tuple[CellKey, ...]
    others: tuple[CellKey, ...]


def make_statistics_table(study: Study, readings: Readings) -> StatisticsTable:
    """List the cells that any section of the page reads."""
    main = dict.fromkeys(_keep(readings, _list_table(readings.held_out)))
    others = dict.fromkeys(_keep(readings, _list_others(study, readings)))
    unseen = tuple(key for key in others if key not in main)
    return StatisticsTable(MEASURE_TITLES, tuple(main), unseen)


def _keep(readings: Readings, keys: Iterator[CellKey]) -> Iterator[CellKey]:
    return (key for key in keys if key in readings.cells)


def _list_table(table: IterationTable | None) -> Iterator[CellKey]:
    if table is not None:
        for classifiers in table.classifiers:
            for gans in table.gans:
                yield PairSet.HELD_OUT, classifiers, gans


def _list_others(study: Study, readings: Readings) -> Iterator[CellKey]:
    yield from _list_table(readings.memoryless)
    yield from _list_table(readings.memory)
    for row in (*readings.phi_sweep, *readings.multi_instance):
        for classifiers in row.classifiers:
            yield PairSet.HELD_OUT, classifiers, row.cohort
    for sweep in (*study.report.generalisation, study.report.truncation):
        if sweep is not None:
            for classifiers in sweep.classifiers:
                yield PairSet.HELD_OUT, classifiers, sweep.gans
    yield from _list_table(readings.architectures)
