"""Small CSVs for `dvc plots`, a header alone where a study has no such reading.

Files and columns have fixed names, because dvc.yaml names them for every study; so metrics go by
their short names here. Their full names, which are their protocol, are in metrics.json.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import pandas as pd

from knowledge_gaps.core.columns import (
    CLASSIFIER_COHORT,
    CLASSIFIER_INSTANCE,
    GENERATOR_COHORT,
    GENERATOR_INSTANCE,
    PHI,
)
from knowledge_gaps.core.tables import SIX_DIGITS, format_table
from knowledge_gaps.readings.collected import Readings
from knowledge_gaps.readings.curves import average_curves
from knowledge_gaps.readings.sweeps import FoolingRow
from knowledge_gaps.readings.tables import (
    IterationTable,
)
from knowledge_gaps.statistics.measures import (
    AUC,
    CLASS_ENTROPY,
    DETECTION_RATE,
    FID,
    PRECISION,
    REAL_ACCURACY,
    RECALL,
    find_metric_of,
)

ITERATIONS_FILE = "iterations.csv"
PHI_SWEEP_FILE = "phi_sweep.csv"
GENERALISATION_FILE = "generalisation.csv"
LOSS_CURVES_FILE = "loss_curves.csv"

_ITERATION_COLUMNS = (
    "pair",
    "pairs",
    "classifier_iteration",
    CLASSIFIER_COHORT,
    "generator_iteration",
    GENERATOR_COHORT,
    DETECTION_RATE,
    f"{DETECTION_RATE}_std",
    AUC,
    "num_pairs",
)
_PHI_COLUMNS = (
    PHI,
    "log10_phi",
    GENERATOR_COHORT,
    "detection_in_loss",
    "detection_held_out",
    "detection_held_out_std",
    "detection_held_out_min",
    "detection_held_out_max",
    "auc_held_out",
    "num_pairs",
    REAL_ACCURACY,
)
_PHI_METRICS = (FID, PRECISION, RECALL, CLASS_ENTROPY)  # FID under the name that it has
_GENERALISATION_COLUMNS = (
    "num_generators",
    CLASSIFIER_COHORT,
    CLASSIFIER_INSTANCE,
    GENERATOR_INSTANCE,
    DETECTION_RATE,
    AUC,
    "is_common",
)


def make_plots(readings: Readings, curves: Mapping[str, pd.DataFrame]) -> dict[str, str]:
    """Make the content of every CSV, by file name.

    Args:
        readings: of the study.
        curves: training curves by GAN cohort, as from `read_curves`.
    """
    frames = {
        ITERATIONS_FILE: _list_iterations(readings),
        PHI_SWEEP_FILE: _list_phi_sweep(readings),
        GENERALISATION_FILE: _list_generalisation(readings),
        LOSS_CURVES_FILE: average_curves(curves),
    }
    return {name: format_table(frame, SIX_DIGITS) for name, frame in frames.items()}


def _list_iterations(readings: Readings) -> pd.DataFrame:
    tables = [table for table in (readings.held_out, readings.in_loss) if table is not None]
    rows = [row for table in tables for row in _list_cells(table)]
    return _make_frame(rows, _ITERATION_COLUMNS)


def _list_cells(table: IterationTable) -> list[tuple[object, ...]]:
    rows: list[tuple[object, ...]] = []
    for row, classifiers in zip(table.row_iterations, table.classifiers, strict=True):
        for column, gans in enumerate(table.gans):
            cell = table.cells[classifiers, gans]
            if cell.detection.num > 0:
                name = f"{classifiers} on {gans}, {table.pairs.value}"
                numbers = (cell.detection.mean, cell.detection.std, cell.auc.mean)
                where = (row, classifiers, column, gans)
                rows.append((name, table.pairs.value, *where, *numbers, cell.detection.num))
    return rows


def _list_phi_sweep(readings: Readings) -> pd.DataFrame:
    # a baseline has no place on a logarithmic axis
    rows = [_list_phi_row(row) for row in readings.phi_sweep if row.value > 0]
    distance = find_metric_of(readings.metric_names[FID]) or FID
    return _make_frame(rows, (*_PHI_COLUMNS, distance, *_PHI_METRICS[1:]))


def _list_phi_row(row: FoolingRow) -> tuple[object, ...]:
    held_out = row.held_out
    return (
        row.value,
        math.log10(row.value),
        row.cohort,
        row.in_loss.mean,
        held_out.mean,
        held_out.std,
        held_out.minimum,
        held_out.maximum,
        row.held_out_auc.mean,
        held_out.num,
        row.real_accuracy.mean,
        *(row.quality[metric].mean for metric in _PHI_METRICS),
    )


def _list_generalisation(readings: Readings) -> pd.DataFrame:
    rows = [
        (
            row.value,
            row.cohort,
            pair.classifier_instance,
            pair.generator_instance,
            pair.detection_rate,
            pair.auc,
            str(pair.is_common).lower(),
        )
        for sweep in readings.generalisation
        for row in sweep.rows
        for pair in row.pairs
    ]
    return _make_frame(rows, _GENERALISATION_COLUMNS)


def _make_frame(rows: Sequence[tuple[object, ...]], columns: tuple[str, ...]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=list(columns))
